"""The gateway's life. In: settings. Out: an ASGI application that is served until SIGTERM."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.routing import BaseRoute

from transcriber.bus.client_session import connected
from transcriber.clients.jobs_api import Jobs
from transcriber.config import Settings
from transcriber.gateway.api_error import ApiError, answer_with_error
from transcriber.gateway.keys import Keys
from transcriber.gateway.runtime import GatewayRuntime


def routes() -> Sequence[BaseRoute]:
    """All of them; each part of the room has a list ``ROUTES``."""
    return [*()]


def application(settings: Settings) -> Starlette:
    """The application; connected to the broker while it runs."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with connected(settings, "transcriber gateway") as connection:
            app.state.runtime = GatewayRuntime(settings, connection, Jobs(connection, settings), Keys())
            yield

    return Starlette(routes=routes(), lifespan=lifespan, exception_handlers={ApiError: answer_with_error})


def run(settings: Settings) -> int:
    """Serve until SIGTERM; returns the exit status."""
    uvicorn.run(application(settings), host=settings.gateway_host, port=settings.gateway_port)
    return 0
