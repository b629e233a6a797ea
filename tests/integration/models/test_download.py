import os
import resource
import socket
import socketserver
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.support.model_hub import BODY, BODY_SHA1, SUMS, Hub, failed
from tests.support.waiting import PATIENCE_S
from transcriber.config import Settings
from transcriber.errors import ModelError, StorageError
from transcriber.models import download as downloading
from transcriber.models.catalog import DEMO_MODEL
from transcriber.models.download import download
from transcriber.models.find import Source, fetch_model, find_model, sources


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


def test_where_nothing_has_it_all_tries_are_reported_with_the_way_out(hub, path, known):
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


def test_error_of_the_hub_is_reported(hub, path):
    line = failed(path.with_name("ggml-none.bin"), SUMS, hub.url)

    assert line == f"{hub.url}/ggml-none.bin: cannot be downloaded: HTTP 404 Not Found"


def test_hub_out_of_reach_is_reported(path):
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


def test_folder_that_cannot_be_made_is_reported(hub, tmp_path):
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
    reports = []

    download(f"{hub.url}/{path.name}", path, SUMS, lambda *progress: reports.append(progress))

    assert reports[-1] == (path.name, len(BODY), len(BODY))


def test_hub_that_redirects_elsewhere_than_http_is_reported(path):
    with answering("HTTP/1.0 302 Found\r\nLocation: ftp://127.0.0.1:9/x\r\n\r\n") as url:
        assert failed(path, {}, url).endswith("cannot be downloaded: it is elsewhere, at ftp://127.0.0.1:9/x")


@pytest.mark.parametrize("sums", [{}, SUMS])
def test_what_is_asked_for_by_https_comes_by_http_only_with_a_checksum(hub, path, sums, monkeypatch):
    monkeypatch.setattr(downloading, "_HttpsConnection", downloading._HttpConnection)  # the server has no certificate
    hub.body = hub.body if sums else DEMO_MODEL.read_bytes()  # which would be taken without a checksum
    hub.length = len(hub.body)
    there = f"{hub.url}/{path.name}"

    with answering(f"HTTP/1.0 302 Found\r\nLocation: {there}\r\n\r\n") as url:
        asked = url.replace("http:", "https:")
        if sums:
            download(asked, path, sums)
        else:
            with pytest.raises(ModelError) as caught:
                download(asked, path, sums)

            reason = f"it is elsewhere, at {there}: not encrypted, and there is no checksum"
            assert str(caught.value) == f"{asked}: cannot be downloaded: {reason}"

    assert path.exists() == bool(sums)


def test_long_answer_of_a_hub_is_reported_in_one_short_line(path):
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
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:  # else a test that fails never ends
            server.shutdown()
            thread.join()
