import hashlib
import os
import re
import resource
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.harness import PATIENCE_S
from tests.random_models import ENGLISH, hugging_face, weights
from transcriber.config import Settings, load_settings
from transcriber.errors import ConfigError, ModelError, StorageError
from transcriber.models import download as downloading
from transcriber.models.catalog import DEMO_MODEL, PACKAGES, SHA1, SHA256, model_name
from transcriber.models.download import download
from transcriber.models.find import Source, fetch_model, find_model, find_named_model, sources
from transcriber.models.store import folder_beside, remove_unfinished, whole_file

BODY = bytes(range(256)) * 8_192
BODY_SHA1 = hashlib.sha1(BODY, usedforsecurity=False).hexdigest()
SUMS = {"sha1": BODY_SHA1, "sha256": hashlib.sha256(BODY).hexdigest()}


class Hub(ThreadingHTTPServer):
    """A hub on a free port; what it answers is set by the test."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.body = BODY
        self.length = len(BODY)
        self.requests: list[str] = []
        self.missing = False
        self.before_body: Callable[[], object] = dict
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_args: object) -> None:
        """A client that leaves early is what is tested."""


class _Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        if self.server.missing or not self.path.endswith("ggml-tiny.en.bin"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(self.server.length))
        self.end_headers()
        self.server.before_body()
        self.wfile.write(self.server.body)

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture
def hub():
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def path(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    return folder / "ggml-tiny.en.bin"


@pytest.fixture
def known(monkeypatch):
    """What the hub has is what is expected, and nothing else has it."""
    monkeypatch.setitem(SHA1, "tiny.en", BODY_SHA1)
    monkeypatch.setitem(SHA256, "tiny.en", SUMS["sha256"])
    monkeypatch.delitem(PACKAGES, "tiny.en")


def failed(path: Path, sums: dict[str, str], url: str) -> str:
    """The one line of a download that fails and leaves nothing behind."""
    with pytest.raises(ModelError) as caught:
        download(f"{url}/{path.name}", path, sums)
    assert not path.parent.is_dir() or not list(path.parent.iterdir())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_path_wins_over_name(tmp_path):
    settings = Settings(whisper_model_path=tmp_path / "mine.bin", whisper_model="base.en")

    assert find_model(settings) == tmp_path / "mine.bin"


def test_demo_is_the_bundled_model():
    assert find_model(Settings(whisper_model="demo")) == DEMO_MODEL
    assert DEMO_MODEL.is_file()


def test_no_model_names_both_settings_and_the_bundled_one():
    with pytest.raises(ConfigError, match=r"WHISPER_MODEL_PATH.*WHISPER_MODEL .*WHISPER_MODEL=demo"):
        find_model(Settings())


@pytest.mark.parametrize("name", ["base.de", "../base.en", "", "BASE", "demo/model"])
def test_unknown_name_lists_the_known_ones(tmp_path, name):
    settings = Settings(whisper_model=name or "?", whisper_model_dir=tmp_path)

    with pytest.raises(ConfigError, match=r"WHISPER_MODEL='.*': must be demo \(bundled\) or one of tiny, .*base\.en"):
        find_model(settings)


def test_checksums_are_sums_without_doubles():
    for sums, size in ((SHA1, 40), (SHA256, 64)):
        assert all(len(checksum) == size and int(checksum, 16) for checksum in sums.values())
        assert len(set(sums.values())) == len(sums)
    assert SHA256.keys() | PACKAGES.keys() <= SHA1.keys()


@pytest.mark.parametrize(
    ("path", "name"),
    [(DEMO_MODEL, "demo"), (Path("/m/ggml-base.en.bin"), "base.en"), (Path("mine-v2.bin"), "mine-v2")],
)
def test_model_is_called_after_its_file(path, name):
    assert model_name(path) == name


def test_named_model_is_downloaded_once(hub, tmp_path, known, caplog):
    settings = Settings(
        whisper_model="tiny.en", whisper_model_dir=tmp_path / "deep" / "models", whisper_model_hub=f"{hub.url}/"
    )
    caplog.set_level("INFO")

    first, second = find_model(settings), find_model(settings)

    assert first == second == tmp_path / "deep" / "models" / "ggml-tiny.en.bin"
    assert first.read_bytes() == BODY
    assert hub.requests == ["/ggml-tiny.en.bin"]
    begun, ended = (record.message for record in caplog.records)
    assert begun == f"downloading {hub.url}/ggml-tiny.en.bin: 2.1 MB"
    assert ended.startswith(f"downloaded {first}: 2.1 MB in ")
    assert list(first.parent.iterdir()) == [first]


def test_any_name_that_has_a_file_in_the_folder_is_found(tmp_path):
    (tmp_path / "ggml-our-own_2.bin").touch()

    assert (
        find_model(Settings(whisper_model="our-own_2", whisper_model_dir=tmp_path)) == tmp_path / "ggml-our-own_2.bin"
    )


def test_hubs_are_tried_in_turn_with_a_line_each(hub, tmp_path, known, caplog):
    with Hub() as other:
        other.missing = True
        thread = threading.Thread(target=other.serve_forever, args=(0.01,))
        thread.start()
        urls = f"{other.url}/a, {hub.url}/b"

        found = find_model(Settings(whisper_model="tiny.en", whisper_model_dir=tmp_path, whisper_model_hub=urls))

        other.shutdown()
        thread.join()
    assert found.read_bytes() == BODY
    assert (other.requests, hub.requests) == (["/a/ggml-tiny.en.bin"], ["/b/ggml-tiny.en.bin"])
    (warned,) = (record.message for record in caplog.records if record.levelname == "WARNING")
    assert warned == (f"{other.url}/a/ggml-tiny.en.bin: cannot be downloaded: HTTP 404 Not Found; trying {hub.url}/b")


def test_where_nothing_has_it_all_tries_are_told_with_the_way_out(hub, path, known):
    hub.missing = True
    tried = [*sources("tiny.en", [hub.url]), Source("the moon", no_moon)]

    with pytest.raises(ModelError) as caught:
        fetch_model("tiny.en", path, tried)

    assert str(caught.value) == (
        f"no model tiny.en: {hub.url}/ggml-tiny.en.bin: cannot be downloaded: HTTP 404 Not Found; no moon;"
        " set WHISPER_MODEL_PATH to a file that is here, or WHISPER_MODEL=demo for the bundled model"
    )


def test_without_a_place_to_store_it_nothing_else_is_tried(hub, path, known):
    tried = [Source("full", full_disk), *sources("tiny.en", [hub.url])]

    with pytest.raises(StorageError, match="no space"):
        fetch_model("tiny.en", path, tried)

    assert hub.requests == []


def no_moon(_path, _draw):
    raise ModelError("no moon")


def full_disk(_path, _draw):
    raise StorageError("no space")


def test_the_index_comes_after_the_hubs_and_only_for_what_it_has():
    assert [source.label for source in sources("base", ["http://a", "http://b"])] == [
        "http://a", "http://b", "the package index",
    ]  # fmt: skip
    assert [source.label for source in sources("small", ["http://a"])] == ["http://a"]


@pytest.mark.parametrize(
    "hubs",
    ["ftp://host/models", "https://", "https://me:secret@host/models", "https://host:0/", "https://a,,https://b"],
)
def test_hub_that_is_no_address_is_refused(hubs):
    with pytest.raises(ConfigError, match=r"WHISPER_MODEL_HUB=.*: must be http://host/path or https://") as caught:
        load_settings(whisper_model_hub=hubs)

    assert "secret" not in str(caught.value)


def test_folder_is_converted_once_and_again_when_it_has_changed(tmp_path, caplog):
    folder = hugging_face(tmp_path / "My fine-tune!", ENGLISH, weights(ENGLISH))
    settings = Settings(whisper_model=str(folder), whisper_model_dir=tmp_path / "models")
    caplog.set_level("INFO")

    first, second = find_model(settings), find_model(settings)
    (folder / "added.json").write_text("{}")
    third = find_model(settings)

    assert first == second != third
    assert re.fullmatch(r"ggml-My-fine-tune-[0-9a-f]{12}\.bin", first.name)
    assert sorted(path.name for path in first.parent.iterdir()) == sorted([first.name, third.name])
    said = [record.message for record in caplog.records]
    assert said[0].startswith(f"converted {folder} to {first} in ")
    assert said[1] == f"{folder} was converted before: {first}"
    assert len(said) == 3


def test_folder_that_cannot_be_converted_is_one_line(tmp_path):
    (tmp_path / "empty").mkdir()

    with pytest.raises(ModelError, match=r"empty: no model in it"):
        find_model(Settings(whisper_model=str(tmp_path / "empty"), whisper_model_dir=tmp_path / "models"))

    assert list((tmp_path / "models").iterdir()) == []


def test_file_as_a_name_is_told_to_be_a_path(tmp_path):
    (tmp_path / "mine.bin").touch()

    with pytest.raises(ConfigError, match=r"is a file: set WHISPER_MODEL_PATH"):
        find_model(Settings(whisper_model=str(tmp_path / "mine.bin")))


def test_wrong_checksum_leaves_no_file(hub, path):
    assert f"SHA-1 is {BODY_SHA1}, not {'0' * 40}" in failed(path, {"sha1": "0" * 40}, hub.url)


def test_both_checksums_count(hub, path):
    line = failed(path, SUMS | {"sha256": "0" * 64}, hub.url)

    assert line.startswith(f"{hub.url}/ggml-tiny.en.bin: SHA-256 is {SUMS['sha256']}, not 000")


def test_download_without_known_checksum_has_to_be_a_model(hub, path):
    assert "not a ggml model" in failed(path, {}, hub.url)

    hub.body = DEMO_MODEL.read_bytes()
    hub.length = len(hub.body)
    download(f"{hub.url}/{path.name}", path, {})

    assert path.read_bytes() == hub.body


def test_download_that_ends_early_leaves_no_file(hub, path):
    hub.length += 1_000

    assert f"ended after {len(BODY)} of {len(BODY) + 1_000} bytes" in failed(path, SUMS, hub.url)


def test_error_of_the_hub_is_told(hub, path):
    line = failed(path.with_name("ggml-none.bin"), SUMS, hub.url)

    assert line == f"{hub.url}/ggml-none.bin: cannot be downloaded: HTTP 404 Not Found"


def test_hub_out_of_reach_is_told(path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"

        line = failed(path, SUMS, url)

    assert line.startswith(f"{url}/ggml-tiny.en.bin: cannot be downloaded: ")
    assert "refused" in line


def test_hub_that_does_not_let_us_in_is_left_sooner_than_one_that_is_slow(path, monkeypatch):
    monkeypatch.setattr(downloading, "CONNECT_TIMEOUT_S", 0.1)
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):  # its one place; who comes now gets no answer
            line = failed(path, SUMS, f"http://127.0.0.1:{port}")

    assert "timed out" in line


def test_silent_hub_is_left_after_the_time_limit(hub, path, monkeypatch):
    monkeypatch.setattr(downloading, "TIMEOUT_S", 0.1)
    given_up = threading.Event()
    hub.before_body = given_up.wait

    line = failed(path, SUMS, hub.url)
    given_up.set()

    assert "timed out" in line


def test_folder_that_cannot_be_made_is_told(hub, tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(StorageError, match=r"file: cannot be made"):
        fetch_model("tiny.en", tmp_path / "file" / "ggml-tiny.en.bin", sources("tiny.en", [hub.url]))


def test_full_disk_leaves_no_file(hub, path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(BODY) // 2, limits[1]))
    try:
        line = failed(path, SUMS, hub.url)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert line == f"{path}: cannot be stored: File too large"


def test_two_downloads_at_once_leave_one_whole_file(hub, path):
    hub.before_body = threading.Barrier(2, timeout=PATIENCE_S).wait

    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(download, f"{hub.url}/{path.name}", path, SUMS) for _ in range(2)]:
            done.result()

    assert path.read_bytes() == BODY
    assert list(path.parent.iterdir()) == [path]


def test_leftovers_of_killed_processes_are_removed(hub, path):
    dead, alive, folder = (path.with_name(f"{path.name}.{number:032x}.part") for number in (1, 2, 3))
    dead.touch()
    alive.touch()
    folder.mkdir()
    (folder / "wheel").touch()
    for old in (dead, folder):
        os.utime(old, (0, 0))

    download(f"{hub.url}/{path.name}", path, SUMS)

    assert set(path.parent.iterdir()) == {path, alive}


def test_progress_is_drawn(hub, path):
    told = []

    download(f"{hub.url}/{path.name}", path, SUMS, lambda *progress: told.append(progress))

    assert told[-1] == (path.name, len(BODY), len(BODY))


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("http://mirror/models", "http://mirror/models/ggml-mine.bin"),
        ("http://mirror/models?key=1", "http://mirror/models/ggml-mine.bin?key=1"),
        ("http://mirror/any.bin?download=true", "http://mirror/any.bin?download=true"),
    ],
)
def test_what_follows_a_question_mark_stays_behind_the_file(path, monkeypatch, base, url):
    asked = []
    monkeypatch.setattr("transcriber.models.find.download", lambda url, *_: asked.append(url))

    fetch_model("mine", path, sources("mine", [base]))

    assert asked == [url]


def test_hub_that_sends_us_elsewhere_than_http_is_told(path):
    with answering("HTTP/1.0 302 Found\r\nLocation: ftp://127.0.0.1:9/x\r\n\r\n") as url:
        assert failed(path, {}, url).endswith("cannot be downloaded: it is elsewhere, at ftp://127.0.0.1:9/x")


def test_long_answer_of_a_hub_is_told_in_one_short_line(path):
    with answering("x" * 5_000 + "\r\n\r\n") as url:
        assert len(failed(path, {}, url)) < 300
    with answering("HTTP/1.0 302 Found\r\nLocation: /ggml-tiny.en.bin\r\n\r\n") as url:
        assert "redirect error" in failed(path, {}, url)  # urllib says it in three lines


def test_what_is_no_model_is_called_by_its_address(hub, path):
    hub.body, hub.length = b"<html>", 6

    line = failed(path, {}, hub.url)

    assert line.startswith(f"{hub.url}/{path.name}: not a ggml model: a web page")
    assert ".part" not in line


@contextmanager
def answering(answer: str) -> Iterator[str]:
    """The address of a server that says one thing to everybody."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline().strip():
                pass
            self.wfile.write(answer.encode())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_folder_with_a_long_name_is_converted(tmp_path):
    folder = hugging_face(tmp_path / ("x" * 250), ENGLISH, weights(ENGLISH))

    path = find_model(load_settings(whisper_model=str(folder), whisper_model_dir=str(tmp_path / "models")))

    assert re.fullmatch(r"ggml-x{64}-[0-9a-f]{12}\.bin", path.name)
    assert path.is_file()


def test_folder_that_is_the_model_folder_too_is_converted_once(tmp_path):
    folder = hugging_face(tmp_path / "mine", ENGLISH, weights(ENGLISH))
    settings = load_settings(whisper_model=str(folder), whisper_model_dir=str(folder))

    assert find_model(settings) == find_model(settings)

    assert len(list(folder.glob("ggml-*"))) == 1


def test_file_in_the_working_folder_does_not_hide_a_known_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").touch()
    (tmp_path / "mine.bin").touch()
    settings = load_settings()

    assert find_named_model(settings, "demo") == DEMO_MODEL
    assert find_named_model(settings, "mine.bin") == Path("mine.bin")
    with pytest.raises(ConfigError, match="must be demo"):
        find_named_model(settings, "x" * 300)


def test_what_others_left_beside_a_file_is_not_removed(tmp_path):
    others = [tmp_path / name for name in ("[ab]*.bin.mine.part", f"[ab]*.bin.{7:032x}.parts", f"ax.bin.{7:032x}.part")]
    ours = tmp_path / f"[ab]*.bin.{7:032x}.part"
    for left in (*others, ours):
        left.touch()
        os.utime(left, (0, 0))

    with whole_file(tmp_path / "[ab]*.bin") as file:
        file.write(b"all")

    assert set(tmp_path.iterdir()) == {*others, tmp_path / "[ab]*.bin"}


def test_process_that_ends_while_a_thread_writes_leaves_nothing(tmp_path):
    with ExitStack() as stack:
        folder = stack.enter_context(folder_beside(tmp_path / "a"))
        (folder / "wheel").touch()
        stack.enter_context(pytest.raises(StorageError))
        stack.enter_context(whole_file(tmp_path / "b"))

        remove_unfinished()

        assert not list(tmp_path.iterdir())
