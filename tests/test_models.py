import hashlib
import os
import resource
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.harness import PATIENCE_S
from transcriber.config import Settings
from transcriber.errors import ConfigError, ModelError
from transcriber.models import find as models
from transcriber.models.find import DEMO_MODEL, SHA1, download_model, find_model, model_name

BODY = bytes(range(256)) * 8_192
BODY_SHA1 = hashlib.sha1(BODY, usedforsecurity=False).hexdigest()


class Hub(ThreadingHTTPServer):
    """A hub on a free port; what it answers is set by the test."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.body = BODY
        self.length = len(BODY)
        self.requests: list[str] = []
        self.before_body: Callable[[], object] = dict
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_args: object) -> None:
        """A client that leaves early is what is tested."""


class _Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        if not self.path.endswith("ggml-tiny.en.bin"):
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
    return tmp_path / "models" / "ggml-tiny.en.bin"


def failed(path: Path, sha1: str, url: str) -> str:
    """The one line of a download that fails and leaves nothing behind."""
    with pytest.raises(ModelError) as caught:
        download_model(path, sha1, url)
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


def test_checksums_are_sha1_sums_without_doubles():
    assert all(len(sha1) == 40 and int(sha1, 16) for sha1 in SHA1.values())
    assert len(set(SHA1.values())) == len(SHA1)


@pytest.mark.parametrize(
    ("path", "name"),
    [(DEMO_MODEL, "demo"), (Path("/m/ggml-base.en.bin"), "base.en"), (Path("mine-v2.bin"), "mine-v2")],
)
def test_model_is_called_after_its_file(path, name):
    assert model_name(path) == name


def test_named_model_is_downloaded_once(hub, tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(SHA1, "tiny.en", BODY_SHA1)
    settings = Settings(whisper_model="tiny.en", whisper_model_dir=tmp_path / "deep" / "models")
    caplog.set_level("INFO")

    first, second = find_model(settings, hub.url), find_model(settings, hub.url)

    assert first == second == tmp_path / "deep" / "models" / "ggml-tiny.en.bin"
    assert first.read_bytes() == BODY
    assert hub.requests == ["/ggml-tiny.en.bin"]
    begun, ended = (record.message for record in caplog.records)
    assert begun == f"downloading {hub.url}/ggml-tiny.en.bin: 2.1 MB"
    assert ended.startswith(f"downloaded {first}: 2.1 MB in ")
    assert list(first.parent.iterdir()) == [first]


def test_wrong_checksum_leaves_no_file(hub, path):
    assert f"SHA-1 is {BODY_SHA1}, not {'0' * 40}" in failed(path, "0" * 40, hub.url)


def test_download_that_ends_early_leaves_no_file(hub, path):
    hub.length += 1_000

    assert f"ended after {len(BODY)} of {len(BODY) + 1_000} bytes" in failed(path, BODY_SHA1, hub.url)


def test_error_of_the_hub_is_told_with_the_way_out(hub, path):
    line = failed(path.with_name("ggml-none.bin"), BODY_SHA1, hub.url)

    assert line.startswith(f"{hub.url}/ggml-none.bin: cannot be downloaded: HTTP 404 Not Found; ")
    assert "WHISPER_MODEL_PATH" in line
    assert "WHISPER_MODEL=demo" in line


def test_hub_out_of_reach_is_told_with_the_way_out(path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"

        line = failed(path, BODY_SHA1, url)

    assert line.startswith(f"{url}/ggml-tiny.en.bin: cannot be downloaded: ")
    assert "refused" in line
    assert "WHISPER_MODEL_PATH" in line
    assert "WHISPER_MODEL=demo" in line


def test_silent_hub_is_left_after_the_time_limit(hub, path, monkeypatch):
    monkeypatch.setattr(models, "TIMEOUT_S", 0.1)
    given_up = threading.Event()
    hub.before_body = given_up.wait

    line = failed(path, BODY_SHA1, hub.url)
    given_up.set()

    assert "timed out" in line


def test_folder_that_cannot_be_made_is_told(hub, tmp_path):
    (tmp_path / "file").touch()

    assert "cannot be stored" in failed(tmp_path / "file" / "ggml-tiny.en.bin", BODY_SHA1, hub.url)


def test_full_disk_leaves_no_file(hub, path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(BODY) // 2, limits[1]))
    try:
        line = failed(path, BODY_SHA1, hub.url)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert line == f"{path}: cannot be stored: File too large"


def test_two_downloads_at_once_leave_one_whole_file(hub, path):
    hub.before_body = threading.Barrier(2, timeout=PATIENCE_S).wait

    with ThreadPoolExecutor() as pool:
        for download in [pool.submit(download_model, path, BODY_SHA1, hub.url) for _ in range(2)]:
            download.result()

    assert path.read_bytes() == BODY
    assert list(path.parent.iterdir()) == [path]


def test_leftovers_of_killed_downloads_are_removed(hub, path):
    path.parent.mkdir()
    dead, alive = path.with_name(f"{path.name}.1.part"), path.with_name(f"{path.name}.2.part")
    dead.touch()
    alive.touch()
    os.utime(dead, (0, 0))

    download_model(path, BODY_SHA1, hub.url)

    assert set(path.parent.iterdir()) == {path, alive}
