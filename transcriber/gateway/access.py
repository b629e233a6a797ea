"""Tickets and probes. In: a key; GET of a probe. Out: a ticket for what cannot send the key; whether we can serve."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from transcriber.gateway.api_error import ApiError
from transcriber.gateway.keys import TICKET_S, Pattern, Scope
from transcriber.gateway.openapi.operation import answer, json_of, operation
from transcriber.gateway.runtime import runtime_of


class TicketRequest(BaseModel):
    """Body of ``POST /v1/tickets``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scopes: tuple[Scope, ...] = Field(min_length=1, description="what it is for; a part of the key's")
    streams: tuple[Pattern, ...] | None = Field(None, description="which streams; null: those of the key")


class Ticket(BaseModel):
    """Its answer: for the query as `ticket`, or as WebSocket subprotocol `ticket.<value>`."""

    model_config = ConfigDict(extra="forbid")

    ticket: str
    expires_at: datetime = Field(description="until when it opens a connection, which may last longer")


class Alive(BaseModel):
    """Answer of ``GET /livez``."""

    model_config = ConfigDict(extra="forbid")

    ok: Literal[True] = Field(description="the process answers")


class Readiness(BaseModel):
    """Answer of ``GET /readyz``."""

    model_config = ConfigDict(extra="forbid")

    ok: bool = Field(description="all of the others")
    connected: bool = Field(description="to the broker")
    serving: bool = Field(description="and not about to stop")


@operation(
    "a ticket for a WebSocket or an EventSource",
    tag="access",
    access="key",
    body=json_of(TicketRequest, {"scopes": ["listen"], "streams": ["radio-7"]}),
    answers={200: answer("a part of what the key may do, for 60 s", json_of(Ticket), Cache_Control="`no-store`")},
    details="Keys",
)
async def make_ticket(request: Request) -> Response:
    """``POST /v1/tickets``."""
    keys = runtime_of(request).keys
    key = keys.identify(request, tickets=False)
    try:
        wanted = TicketRequest.model_validate_json(await request.body())
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise ApiError(400, first["msg"], param=".".join(map(str, first["loc"])) or None) from None
    streams = key.streams if wanted.streams is None else wanted.streams
    made = Ticket(
        ticket=keys.ticket(key, wanted.scopes, streams), expires_at=datetime.now(UTC) + timedelta(seconds=TICKET_S)
    )
    return JSONResponse(made.model_dump(mode="json"), headers={"Cache-Control": "no-store"})


@operation(
    "whether the process answers",
    tag="access",
    access="open",
    answers={200: answer("it does", json_of(Alive))},
)
async def alive(_: Request) -> Response:
    """``GET /livez``."""
    return JSONResponse(Alive(ok=True).model_dump())


@operation(
    "whether requests can be served",
    tag="access",
    access="open",
    answers={
        200: answer("they can", json_of(Readiness)),
        503: answer("there is no broker, or the gateway stops", json_of(Readiness)),
    },
)
async def ready(request: Request) -> Response:
    """``GET /readyz``: connected to the broker, and not about to stop."""
    runtime = runtime_of(request)
    connected, serving = runtime.connection.connected, not runtime.stopping.is_set()
    found = Readiness(ok=connected and serving, connected=connected, serving=serving)
    return JSONResponse(found.model_dump(), 200 if found.ok else 503)


ROUTES: Sequence[BaseRoute] = (
    Route("/v1/tickets", make_ticket, methods=["POST"]),
    Route("/livez", alive, methods=["GET"]),
    Route("/readyz", ready, methods=["GET"]),
)
