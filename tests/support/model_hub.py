"""A model hub on a local port, whose answers the test decides."""

import hashlib
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from transcriber.errors import ModelError
from transcriber.models.catalog import PACKAGES, SHA1, SHA256
from transcriber.models.download import download

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
