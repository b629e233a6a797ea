"""What all handlers share. In: settings, a connection. Out: one ``GatewayRuntime``, at ``app.state.runtime``."""

import asyncio
from dataclasses import dataclass, field

from starlette.requests import HTTPConnection

from transcriber.bus.connection import Connection
from transcriber.clients.jobs_api import Jobs
from transcriber.config import Settings
from transcriber.gateway.keys import Keys
from transcriber.gateway.models import ModelNames


@dataclass(frozen=True, slots=True)
class GatewayRuntime:
    """Event loop only.

    Attributes:
        settings: of the gateway.
        connection: to the broker, for all requests.
        jobs: file jobs.
        keys: who may do what.
        models: what the daemons have.
        stopping: set at SIGTERM; a response without end ends then.
    """

    settings: Settings
    connection: Connection
    jobs: Jobs
    keys: Keys
    models: ModelNames
    stopping: asyncio.Event = field(default_factory=asyncio.Event)


def runtime_of(connection: HTTPConnection) -> GatewayRuntime:
    """The runtime of a request's or WebSocket's application."""
    found: GatewayRuntime = connection.app.state.runtime
    return found
