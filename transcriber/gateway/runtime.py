"""What all handlers share. In: settings, a connection. Out: one ``GatewayRuntime``, at ``app.state.runtime``."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import HTTPConnection

from transcriber.bus.audit import AuditLog
from transcriber.bus.connection import Connection
from transcriber.clients.jobs_api import Jobs
from transcriber.config import Settings
from transcriber.gateway.keys import Key, Keys
from transcriber.gateway.models import ModelNames
from transcriber.telemetry.gateway_figures import GatewayFigures


@dataclass(frozen=True, slots=True)
class GatewayRuntime:
    """Event loop only.

    Attributes:
        settings: of the gateway.
        connection: to the broker, for all requests.
        jobs: file jobs.
        keys: who may do what.
        models: what the daemons have.
        figures: what is counted.
        audit: who read what.
        stopping: set at SIGTERM; a response without end ends then.
    """

    settings: Settings
    connection: Connection
    jobs: Jobs
    keys: Keys
    models: ModelNames
    figures: GatewayFigures
    audit: AuditLog
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def note_read(self, key: Key, what: str, **of: Any) -> None:
        """Text of a ``stream``, ``session`` or ``job`` is about to be read: store who reads it, where there is an audit.

        Raises:
            UnansweredError: that is not stored, so it must not be read.
        """
        known_by = "key" if key.name else "stated"
        await self.audit.write("read", by=key.name, known_by=known_by, what=what, **of)


def runtime_of(connection: HTTPConnection) -> GatewayRuntime:
    """The runtime of a request's or WebSocket's application."""
    found: GatewayRuntime = connection.app.state.runtime
    return found
