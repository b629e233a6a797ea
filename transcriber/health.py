"""The three health probes, on threads of their own, so that they answer when the event loop does not.

In: cheap checks of the service. Out: 200 or 503, and one JSON object with the result of each check.
"""

import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from transcriber.errors import PortError

LOOP_STALL_S = 5.0
"""The event loop must tick at least this often."""

Check = Callable[[], bool]


class Health:
    """Serves ``/startupz``, ``/readyz`` and ``/livez``.

    Thread-safe: checks run on this server's threads, and only read; all methods are for the event loop.

    Attributes:
        port: the port that was opened; None when switched off.
    """

    def __init__(self, host: str, port: int) -> None:
        """Opens the port unless it is 0.

        Raises:
            PortError: it cannot be opened.
        """
        self._started = False
        self._ready: Mapping[str, Check] = {}
        self._alive: Mapping[str, Check] = {}
        self._ticked_s = time.monotonic()
        self._server = _serve(host, port, self._answer) if port else None
        self.port = self._server.server_address[1] if self._server else None

    def started(self, *, ready: Mapping[str, Check], alive: Mapping[str, Check]) -> None:
        """The model is warm; from now on ``/readyz`` and ``/livez`` depend on these checks."""
        self._ready, self._alive, self._started = ready, alive, True

    def tick(self) -> None:
        """The event loop is alive; to be called at least every second."""
        self._ticked_s = time.monotonic()

    def close(self) -> None:
        if self._server:
            with suppress(OSError):
                # Its thread checks only every half a second whether to end, unless something happens at its socket.
                self._server.socket.shutdown(socket.SHUT_RDWR)
            self._server.shutdown()
            self._server.server_close()

    def _answer(self, path: str) -> tuple[HTTPStatus, dict[str, bool]] | None:
        """Status and reasons for one probe; None for any other path."""
        match path:
            case "/startupz":
                checks = {"started": self._started}
            case "/readyz":
                checks = {"started": self._started} | {name: check() for name, check in self._ready.items()}
            case "/livez":
                ticking = time.monotonic() - self._ticked_s < LOOP_STALL_S
                # While the model loads nothing can be stuck yet; the startup probe has its own limit.
                checks = {"loop_ticking": ticking or not self._started}
                checks |= {name: check() for name, check in self._alive.items()}
            case _:
                return None
        return (HTTPStatus.OK if all(checks.values()) else HTTPStatus.SERVICE_UNAVAILABLE), checks


def _serve(
    host: str, port: int, answer: Callable[[str], tuple[HTTPStatus, dict[str, bool]] | None]
) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 5  # seconds: a silent peer does not keep a thread

        def do_GET(self) -> None:
            found = answer(self.path.partition("?")[0])
            status, checks = found or (HTTPStatus.NOT_FOUND, {})
            body = json.dumps({"ok": status is HTTPStatus.OK} | checks).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing: probes arrive every second."""

    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PortError(f"HEALTH_PORT={port} on {host} cannot be opened: {reason}") from None
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server
