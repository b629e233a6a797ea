"""The gateway's life. In: settings. Out: an ASGI application that is served until SIGTERM."""

import asyncio
import logging
import os
import signal
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, WebSocketRoute

from transcriber import __version__
from transcriber.bus.audit import AuditLog
from transcriber.bus.client_session import connected
from transcriber.bus.jetstream.client import JetStream
from transcriber.bus.jetstream.provision import ready_audit
from transcriber.clients.jobs_api import Jobs
from transcriber.config import Settings
from transcriber.errors import ConfigError, PortError, TranscriberError
from transcriber.gateway import access, pages, sockets
from transcriber.gateway.api_error import answer_with_error, answer_with_status
from transcriber.gateway.guard import Guard
from transcriber.gateway.http_protocol import GuardedProtocol, Impatient
from transcriber.gateway.jobs import routes as jobs
from transcriber.gateway.keys import Keys, load_keys, loopback
from transcriber.gateway.models import ModelNames
from transcriber.gateway.openapi import routes as openapi
from transcriber.gateway.realtime import socket as realtime
from transcriber.gateway.runtime import GatewayRuntime
from transcriber.gateway.socket_protocol import GuardedSocketProtocol
from transcriber.gateway.streams import routes as streams
from transcriber.gateway.transcriptions import routes as transcriptions
from transcriber.telemetry.gateway import GatewayTelemetry
from transcriber.telemetry.gateway_figures import GatewayFigures

log = logging.getLogger(__name__)

STOP_S = 3
"""Whole seconds for open requests to end at SIGTERM."""

OTLP_S = 2.0
"""For a collector to take the last figures."""
UNDO_S = 2.0
"""For those that are cut off then to remove what they have stored of an upload."""

SOCKET_BYTES = 2**20
"""The largest message of a WebSocket."""

REFUSED = "ASGI callable returned without completing handshake."
"""What uvicorn logs as an error when a WebSocket is refused with a status."""

EXPOSED = (
    "Retry-After", "X-Request-ID", "X-Transcriber-Gaps", "X-Transcriber-Job", "X-Transcriber-Suppressed", "x-should-retry",
)  # fmt: skip
"""Headers that a page of another origin may read."""

IDLE_CONNECTIONS = 64
"""Beside GATEWAY_MAX_CONNECTIONS, so that what is refused is told why, and probes are answered."""


def routes() -> Sequence[BaseRoute]:
    """All of them; each part of the room has a list ``ROUTES``."""
    return [
        *access.ROUTES,
        *transcriptions.ROUTES,
        *realtime.ROUTES,
        *streams.ROUTES,
        *jobs.ROUTES,
        *openapi.ROUTES,
        *pages.ROUTES,
    ]


def application(settings: Settings, telemetry: GatewayTelemetry) -> Starlette:
    """The application; its ``state.runtime`` is set once there is a connection."""
    middleware = [Middleware(Guard, settings=settings, telemetry=telemetry)]
    if settings.origins:
        cors = Middleware(
            CORSMiddleware,
            allow_origins=settings.origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],  # SDKs have a dozen of their own, and more with each version
            expose_headers=EXPOSED,
        )
        middleware.insert(0, cors)  # outside the guard: a page must be able to read what that refuses
    app = Starlette(
        routes=[*routes(), WebSocketRoute("/{path:path}", sockets.nowhere)],
        middleware=middleware,
        exception_handlers={
            TranscriberError: answer_with_error,
            HTTPException: answer_with_status,
        },
    )
    app.state.documented = routes()
    app.router.redirect_slashes = False  # it would lead to whatever ``Host`` says
    return app


def run(settings: Settings) -> int:
    """Serve until SIGTERM; returns the exit status.

    Raises:
        StartError: wrong settings, a port that cannot be opened, no broker.
    """
    keys = load_keys(settings)
    if not (keys.required or loopback(settings.gateway_host)):
        raise ConfigError(
            f"GATEWAY_HOST={settings.gateway_host}: without GATEWAY_KEYS_FILE it must be a loopback address;"
            " `transcriber gateway --new-key NAME` makes a key"
        )
    _check_tls(settings)
    telemetry = GatewayTelemetry(settings, f"{socket.gethostname()}-{os.getpid()}")
    with _listen(settings) as listener:
        config = _uvicorn_config(settings, telemetry)
        telemetry.start()
        try:
            with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
                runner.run(_serve(settings, keys, config, listener, telemetry.figures))
        finally:
            telemetry.shutdown(OTLP_S)
    return 0


async def _serve(
    settings: Settings, keys: Keys, config: uvicorn.Config, listener: socket.socket, figures: GatewayFigures
) -> None:
    server, stopping = _Server(config), asyncio.Event()
    serving = asyncio.create_task(_connect_and_serve(settings, keys, server, listener, stopping, figures))

    def stop() -> None:
        server.force_exit = server.should_exit  # at the second signal
        server.should_exit = True
        stopping.set()
        if not server.started:
            serving.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    try:
        await serving
    except asyncio.CancelledError:
        if not stopping.is_set():
            raise
        log.info("stopped before it was ready")


async def _connect_and_serve(
    settings: Settings,
    keys: Keys,
    server: "_Server",
    listener: socket.socket,
    stopping: asyncio.Event,
    figures: GatewayFigures,
) -> None:
    async with connected(settings, "transcriber gateway") as connection:
        await ready_audit(connection, settings)
        app: Starlette = server.config.app  # type: ignore[assignment]  # what we gave it
        app.state.runtime = GatewayRuntime(
            settings,
            connection,
            Jobs(connection, settings),
            keys,
            ModelNames(connection),
            figures,
            AuditLog(JetStream(connection), settings, f"gateway-{socket.gethostname()}-{os.getpid()}"),
            stopping,
        )

        def stop(_: object) -> None:
            server.should_exit = True
            stopping.set()

        connection.closed.add_done_callback(stop)
        scheme = "https" if settings.gateway_tls_cert else "http"
        host, port = listener.getsockname()[:2]
        url = f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
        log.info("connected", extra={"server": connection.server})
        server.on_started = lambda: log.info("gateway ready", extra={"url": url, "version": __version__})
        await server.serve(sockets=[listener])
        if cut_off := set(server.server_state.tasks):
            await asyncio.wait(cut_off, timeout=UNDO_S)
        if connection.closed.done():
            connection.closed.result()
        log.info("stopped")


class _Server(uvicorn.Server):
    """Uvicorn's, but for the signals, after which it would end by them."""

    on_started: Callable[[], None]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.on_started()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _uvicorn_config(settings: Settings, telemetry: GatewayTelemetry) -> uvicorn.Config:
    for library in ("uvicorn", "python_multipart"):  # which has a warning for each form that it cannot read
        logging.getLogger(library).setLevel(logging.ERROR)
    logging.getLogger("uvicorn.error").addFilter(lambda record: record.msg != REFUSED)
    Impatient.figures = telemetry.figures
    GuardedProtocol.max_connections = settings.gateway_max_connections + IDLE_CONNECTIONS
    return uvicorn.Config(
        application(settings, telemetry),
        http=GuardedProtocol,
        ws=GuardedSocketProtocol,
        ws_per_message_deflate=False,  # a read of 256 kB could become a gigabyte
        ws_max_size=SOCKET_BYTES,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=STOP_S,
        ssl_certfile=settings.gateway_tls_cert,
        ssl_keyfile=settings.gateway_tls_key,
    )


def _listen(settings: Settings) -> socket.socket:
    """The port, opened.

    Raises:
        PortError: it cannot be.
    """
    host, port = settings.gateway_host, settings.gateway_port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise PortError(f"GATEWAY_PORT={port} on {host} cannot be opened: {error.strerror or error}") from None


def _check_tls(settings: Settings) -> None:
    if settings.gateway_tls_cert and settings.gateway_tls_key:
        try:
            # Without a password it would ask for one on the terminal.
            ssl.create_default_context().load_cert_chain(
                settings.gateway_tls_cert, settings.gateway_tls_key, password=""
            )
        except OSError as error:  # as are those of ssl
            raise ConfigError(f"GATEWAY_TLS_CERT={settings.gateway_tls_cert}: {error.strerror or error}") from None
