"""The micro service of ADR-32, with workarounds for nats-py's own.

In: requests to endpoints, PING, INFO and STATS. Out: a reply to each, or an error with its code. The library runs one handler at a
time, so a handler only starts a task that replies. The library copies the headers of a PING into its reply: with too many of them
the broker closes the connection for good. So it never sees them. Nor does it know the outcome of a request after its handler has
returned: that is counted in a ``Tally``.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple, cast

from nats import errors as nats_errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.micro.request import Request
from nats.micro.service import EndpointStats, Service, ServiceConfig

from transcriber import __version__
from transcriber.bus.connection import Connection, Handler
from transcriber.errors import DeniedError, RequestError
from transcriber.schema.arrival import Arrival
from transcriber.telemetry import current_traceparent

log = logging.getLogger(__name__)

NAME = "transcriber"
QUEUE_GROUP = "q"
"""ADR-32's default: each request goes to one daemon."""

UNANSWERABLE = "none"
"""The code counted for a request without a reply subject."""

STOPPING = RequestError(503, "this daemon stops; ask again")
TOO_MANY = RequestError(429, "too many requests come at once", 1)

PENDING_BYTES = 2**26
DRAIN_S = 1.0
"""Seconds for what the broker has already sent to be taken at shutdown."""


class Reply(NamedTuple):
    """A reply that is no error."""

    payload: bytes
    headers: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A subject and its handler.

    Attributes:
        subject: of the requests.
        answer: returns the reply, or its payload alone, or raises ``RequestError``.
        count: called with the code of each reply, and the milliseconds until it.
        optional: where the broker denies it, the others are served without it.
    """

    subject: str
    answer: Callable[[Msg, Arrival], Awaitable[Reply | bytes]]
    count: Callable[[str, float], None] = lambda _code, _took_ms: None
    optional: bool = False


@dataclass(slots=True)
class Tally:
    """Figures of an endpoint; ``took_s`` is the sum of seconds from arrival to reply."""

    requests: int = 0
    answered: int = 0
    errors: int = 0
    last_error: str = ""
    took_s: float = 0.0

    def count(self, took_s: float, error: str = "") -> None:
        """Count one reply."""
        self.answered += 1
        self.took_s += took_s
        if error:
            self.errors += 1
            self.last_error = error


@dataclass(slots=True)
class _ClientShim:
    """The part of a client that the library's service uses."""

    client: Client
    subscriptions: dict[str, Subscription] = field(default_factory=dict)

    @property
    def _nuid(self) -> Any:
        return self.client._nuid  # noqa: SLF001 - the library's service takes its id from it

    async def subscribe(self, subject: str, queue: str = "", cb: Handler | None = None) -> Subscription:
        handler = cast("Handler", cb)

        async def without_headers(message: Msg) -> None:
            if message.reply:
                message.headers = None
                await handler(message)

        subscription = await self.client.subscribe(
            subject, queue, handler if queue else without_headers, pending_bytes_limit=PENDING_BYTES
        )
        self.subscriptions[subject] = subscription
        return subscription

    async def flush(self) -> None:
        """Nothing: ``check_granted`` flushes once for all subscriptions."""


class MicroService:
    """Event loop only."""

    def __init__(self, connection: Connection, metadata: dict[str, str]) -> None:
        config = ServiceConfig(
            name=NAME,
            version=__version__,
            description="speech to text",
            metadata=metadata,
            queue_group=QUEUE_GROUP,
            stats_handler=self._correct_stats,
        )
        self._connection = connection
        self._client = _ClientShim(connection.client)
        self._service = Service(cast("Client", self._client), config)
        self._tallies: dict[str, Tally] = {}
        self._answering: set[asyncio.Task[None]] = set()

    async def start(self, endpoints: Mapping[str, Endpoint]) -> None:
        """Subscribe to the endpoints, given by name.

        Raises:
            DeniedError: the broker denies one of the subjects that are not optional; then none stays subscribed.
            BrokerError: the broker is gone again.
        """
        await self._service.start()
        for name, endpoint in endpoints.items():
            tally = self._tallies[name] = Tally()
            handler = self._handler(tally, endpoint)
            await self._service.add_endpoint(name=name, subject=endpoint.subject, handler=handler, metadata={})
            subscription = self._client.subscriptions[endpoint.subject]
            self._connection.on_drop[subscription] = partial(self._refuse_dropped, tally, endpoint)
        optional = {endpoint.subject: name for name, endpoint in endpoints.items() if endpoint.optional}
        try:
            await self._connection.check_granted(*(s for s in self._client.subscriptions if s not in optional))
            for subject, name in optional.items():
                try:
                    await self._connection.check_granted(subject)
                except DeniedError as error:
                    log.warning("%s is not served: %s", name, error)
                    await self._withdraw(name, subject)
        except BaseException:
            while self._client.subscriptions:
                _, subscription = self._client.subscriptions.popitem()
                await subscription.unsubscribe()
            raise

    async def _withdraw(self, name: str, subject: str) -> None:
        """Go on without an endpoint, which no longer shows in INFO and STATS."""
        subscription = self._client.subscriptions.pop(subject)
        self._connection.on_drop.pop(subscription, None)
        await subscription.unsubscribe()
        shown = self._service._endpoints  # noqa: SLF001 - the library takes none out
        shown[:] = [endpoint for endpoint in shown if endpoint._name != name]  # noqa: SLF001
        del self._tallies[name]

    async def stop(self) -> None:
        """Unsubscribe, and take what has already been sent, which the library's own stop would lose."""
        try:
            async with asyncio.timeout(DRAIN_S):
                for subscription in self._client.subscriptions.values():
                    await subscription.drain()  # type: ignore[no-untyped-call]
        except (TimeoutError, nats_errors.Error, OSError) as error:
            log.warning("not all requests that were sent could be taken: %s", str(error) or "too slow")
        self._client.subscriptions.clear()

    async def finish(self, timeout_s: float) -> None:
        """Wait for replies in progress; answer the rest with 503."""
        if self._answering:
            _, late = await asyncio.wait(self._answering, timeout=timeout_s)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=timeout_s)

    def _handler(self, tally: Tally, endpoint: Endpoint) -> Callable[[Request], Awaitable[None]]:
        async def take(request: Request) -> None:
            self._start_answer(request._msg, tally, endpoint)  # noqa: SLF001 - the reply subject is not shown otherwise

        return take

    def _refuse_dropped(self, tally: Tally, endpoint: Endpoint, dropped: nats_errors.SlowConsumerError) -> None:
        """Refuse a request that the client dropped; only its reply subject is known."""
        message = Msg(self._connection.client, dropped.subject, dropped.reply)
        self._start_answer(message, tally, replace(endpoint, answer=_refuse))

    def _start_answer(self, message: Msg, tally: Tally, endpoint: Endpoint) -> None:
        """Start a task that answers a request."""
        tally.requests += 1
        if not message.reply:
            endpoint.count(UNANSWERABLE, 0.0)
            return
        task = asyncio.create_task(self._answer(message, tally, endpoint))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, message: Msg, tally: Tally, endpoint: Endpoint) -> None:
        """Answer one request: a reply is sent, whatever happens."""
        arrival, code, error_text = Arrival.now(), "200", ""
        current_traceparent.set((message.headers or {}).get("traceparent", ""))
        try:
            reply = await endpoint.answer(message, arrival)
            payload, headers = reply if isinstance(reply, Reply) else (reply, None)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - a request must not be able to end the daemon
            refusal = _refusal(error)
            code = str(refusal.code)
            error_text = " ".join(str(refusal).split())
            payload, headers = b"", {"Nats-Service-Error": error_text, "Nats-Service-Error-Code": code}
            if refusal.retry_after_s:
                headers["Retry-After"] = str(refusal.retry_after_s)
        took_s = time.monotonic() - arrival.at_s
        tally.count(took_s, error_text)
        endpoint.count(code, 1000 * took_s)
        why = "too large, or the broker is away for too long"
        try:
            if await self._connection.publish(message.reply, payload, headers):
                return
        except nats_errors.Error as error:
            why = str(error)
        log.warning("a reply was not sent: %s", why)

    def _correct_stats(self, stats: EndpointStats) -> None:
        """Put an endpoint's own figures into the library's statistics."""
        tally = self._tallies[stats.name]
        stats.num_requests, stats.num_errors, stats.last_error = tally.requests, tally.errors, tally.last_error
        stats.processing_time = int(1e9 * tally.took_s)
        stats.average_processing_time = stats.processing_time // max(1, tally.answered)


async def _refuse(*_: object) -> Reply:
    raise TOO_MANY


def _refusal(error: BaseException) -> RequestError:
    """The error for the reply."""
    match error:
        case RequestError():
            return error
        case asyncio.CancelledError():
            return STOPPING
        case _:
            log.error("a request failed", exc_info=error)
            return RequestError(500, "an error of ours")
