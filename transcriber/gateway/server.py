"""The gateway's life. In: settings. Out: an ASGI application that is served until SIGTERM."""

import asyncio
import logging
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
from starlette.routing import BaseRoute

from transcriber import __version__
from transcriber.bus.client_session import connected
from transcriber.clients.jobs_api import Jobs
from transcriber.config import Settings
from transcriber.errors import ConfigError, PortError, TranscriberError
from transcriber.gateway import access
from transcriber.gateway.api_error import answer_with_crash, answer_with_error, answer_with_status
from transcriber.gateway.guard import Guard
from transcriber.gateway.http_protocol import GuardedProtocol
from transcriber.gateway.jobs import routes as jobs
from transcriber.gateway.keys import Keys, load_keys, loopback
from transcriber.gateway.models import ModelNames
from transcriber.gateway.realtime import socket as realtime
from transcriber.gateway.runtime import GatewayRuntime
from transcriber.gateway.streams import routes as streams
from transcriber.gateway.transcriptions import routes as transcriptions

log = logging.getLogger(__name__)

STOP_S = 3
"""Whole seconds for open requests to end at SIGTERM."""

SOCKET_BYTES = 2**20
"""The largest message of a WebSocket."""

IDLE_CONNECTIONS = 64
"""Beside GATEWAY_MAX_CONNECTIONS, so that what is refused is told why, and probes are answered."""


def routes() -> Sequence[BaseRoute]:
    """All of them; each part of the room has a list ``ROUTES``."""
    return [*access.ROUTES, *transcriptions.ROUTES, *realtime.ROUTES, *streams.ROUTES, *jobs.ROUTES]


def application(settings: Settings) -> Starlette:
    """The application; its ``state.runtime`` is set once there is a connection."""
    origins = [origin for origin in settings.gateway_origins.split(",") if origin]
    middleware = [Middleware(Guard, settings=settings)]
    if origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=origins,
                allow_methods=["GET", "POST", "DELETE"],
                allow_headers=["Authorization", "Content-Type", "Last-Event-ID", "X-Request-ID", "traceparent"],
                expose_headers=["Retry-After", "X-Request-ID"],
            )
        )
    return Starlette(
        routes=list(routes()),
        middleware=middleware,
        exception_handlers={
            TranscriberError: answer_with_error,
            HTTPException: answer_with_status,
            Exception: answer_with_crash,
        },
    )


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
    with _listen(settings) as listener:
        config = _uvicorn_config(settings)
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(_serve(settings, keys, config, listener))
    return 0


async def _serve(settings: Settings, keys: Keys, config: uvicorn.Config, listener: socket.socket) -> None:
    server, stopping = _Server(config), asyncio.Event()
    serving = asyncio.create_task(_connect_and_serve(settings, keys, server, listener, stopping))

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
    settings: Settings, keys: Keys, server: "_Server", listener: socket.socket, stopping: asyncio.Event
) -> None:
    async with connected(settings, "transcriber gateway") as connection:
        app: Starlette = server.config.app  # type: ignore[assignment]  # what we gave it
        app.state.runtime = GatewayRuntime(
            settings, connection, Jobs(connection, settings), keys, ModelNames(connection), stopping
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


def _uvicorn_config(settings: Settings) -> uvicorn.Config:
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    GuardedProtocol.max_connections = settings.gateway_max_connections + IDLE_CONNECTIONS
    return uvicorn.Config(
        application(settings),
        http=GuardedProtocol,
        ws="websockets-sansio",
        ws_max_size=SOCKET_BYTES,
        ws_per_message_deflate=False,  # of each message for each listener, and audio gains nothing
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
            ssl.create_default_context().load_cert_chain(settings.gateway_tls_cert, settings.gateway_tls_key)
        except OSError as error:  # as are those of ssl
            raise ConfigError(f"GATEWAY_TLS_CERT={settings.gateway_tls_cert}: {error.strerror or error}") from None
