"""A file from an HTTP server, compared with its checksums. In: a URL. Out: the file, whole, or a line that says why not."""

import hashlib
import http.client
import logging
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from pathlib import Path
from typing import IO, Any, NoReturn
from urllib.error import HTTPError, URLError
from urllib.request import FTPHandler, HTTPHandler, HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from transcriber.errors import ModelError
from transcriber.models.ggml import check_model_file
from transcriber.models.progress import Draw, draw_nothing
from transcriber.models.store import whole_file

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5.0
"""Short, because machines without a way out of their network often get no answer at all, and the next source may be there."""

TIMEOUT_S = 30.0
"""Longest wait between two pieces of a download."""

PIECE_BYTES = 2**20

MAX_REASON_CHARS = 200
"""Of what a server answers, or urllib says in several lines."""


def download(
    url: str,
    path: Path,
    checksums: Mapping[str, str],
    draw: Draw = draw_nothing,
    check: Callable[[Path], object] | None = None,
) -> None:
    """Fetch ``url`` to ``path``, whole or not at all; ``checksums`` are hexadecimal, by hashlib's name of the sum.

    Without checksums a model's structure is all that is checked, and what is encrypted stays so over all redirects. Of what is no model ``check`` looks at the file, with its sums
    compared, before it becomes ``path``.

    Raises:
        ModelError: out of reach, refused, cut short, another checksum, no model, or no place to store it.
    """
    started_s, size = time.monotonic(), 0
    sums = {name: hashlib.new(name, usedforsecurity=False) for name in checksums}

    def check_model(part: Path) -> None:
        if checksums:
            return
        try:
            check_model_file(part)
        except ModelError as error:
            # Its name is that of the part file, which nobody has seen.
            raise ModelError(f"{str(error).replace(str(part), url)}, removed") from error

    with whole_file(path, check or check_model) as file:
        with closing(_pieces(url, path.name, draw, known=bool(checksums))) as pieces:
            for piece in pieces:
                file.write(piece)
                size += len(piece)
                for digest in sums.values():
                    digest.update(piece)
        for name, digest in sums.items():
            if digest.hexdigest() != checksums[name]:
                kind = name.upper().replace("SHA", "SHA-")
                raise ModelError(f"{url}: {kind} is {digest.hexdigest()}, not {checksums[name]}; {size} bytes, removed")
    log.info("downloaded %s: %.1f MB in %.1f s", path, size / 1e6, time.monotonic() - started_s)


def _pieces(url: str, name: str, draw: Draw, *, known: bool) -> Generator[bytes]:
    """The body of ``url``, all of it; every failure of the network is a ``ModelError``. ``known``: its sum is."""
    opener = build_opener(_Http, _Https, _NoFtp, *(() if known else (_Encrypted,)))
    try:
        with opener.open(Request(url, headers={"User-Agent": "transcriber"}), timeout=TIMEOUT_S) as response:  # noqa: S310 - http and https only, by the setting
            length = response.length or 0
            log.info("downloading %s: %.1f MB", url, length / 1e6)
            got = 0
            while piece := response.read(PIECE_BYTES):
                got += len(piece)
                draw(name, got, length or None)
                yield piece
    except HTTPError as error:
        error.close()
        raise _unreachable(url, f"HTTP {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _unreachable(url, getattr(error, "reason", None) or error) from error
    if got < length:
        raise _unreachable(url, f"ended after {got} of {length} bytes")


def _unreachable(url: str, reason: object) -> ModelError:
    return ModelError(f"{url}: cannot be downloaded: {' '.join(str(reason).split())[:MAX_REASON_CHARS]}")


def _connect(connection: http.client.HTTPConnection, connect: Any) -> None:
    """With the short time limit; afterwards the long one counts."""
    patience_s = connection.timeout
    connection.timeout = min(CONNECT_TIMEOUT_S, TIMEOUT_S)
    connect()
    connection.sock.settimeout(patience_s)


class _HttpConnection(http.client.HTTPConnection):
    def connect(self) -> None:
        _connect(self, super().connect)


class _HttpsConnection(http.client.HTTPSConnection):
    def connect(self) -> None:
        _connect(self, super().connect)


class _Http(HTTPHandler):
    def http_open(self, req: Request) -> http.client.HTTPResponse:
        return self.do_open(_HttpConnection, req)


class _Https(HTTPSHandler):
    def https_open(self, req: Request) -> http.client.HTTPResponse:
        return self.do_open(_HttpsConnection, req)


class _Encrypted(HTTPRedirectHandler):
    """Not from ``https`` to ``http``, where anybody on the way could answer with something else."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> Request | None:
        if req.full_url.lower().startswith("https:") and not newurl.lower().startswith("https:"):
            fp.close()
            raise URLError(f"it is elsewhere, at {newurl}: not encrypted, and there is no checksum")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _NoFtp(FTPHandler):
    """Where urllib lets a server send us, and no model is."""

    def ftp_open(self, req: Request) -> NoReturn:
        raise URLError(f"it is elsewhere, at {req.full_url}")
