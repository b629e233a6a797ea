"""A NATS connection that stays alive or ends the process: workarounds for nats-py 2.16's handling of connections are here.

A payload over the limit or a changed password closes nats-py's client for good; a denied subscription does not raise; a broker
that hangs is not noticed. So callbacks only record, sizes are checked before sending, denials are looked for, ``watch`` checks
that something still arrives, and ``closed`` ends the process.
"""

import asyncio
import errno
import logging
import os
import random
import re
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from nats import errors as nats_errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from transcriber.bus.connect_options import BrokerAccess, broker_access
from transcriber.bus.guarded_client import GuardedClient, NoTlsError
from transcriber.bus.isolation import Isolation
from transcriber.config import Settings, mask
from transcriber.errors import BrokerError, DeniedError
from transcriber.logs import RateLimited
from transcriber.tasks import cancel

log = logging.getLogger(__name__)

ADVISE_S = 1.0
"""Seconds until a warning says what a first connection waits for."""
RECONNECT_WAIT_S = 0.25
REFUSALS = 5
"""Refusals in a row by a broker that once accepted us, until the credentials count as revoked."""
PROBE_S = 1.0
SILENT_PROBES = 5
"""Probes in a row without any data, until the connection counts as dead. Probes are counted, not seconds: time in which this
process itself was suspended says nothing about the broker."""
STUCK_PROBES = 15
"""The same while reconnecting. One attempt may take four times the connect timeout of 3 s."""
REPAIRS = 3
"""Repairs in a row without effect, until the process ends."""
SUBSCRIBE_S = 5.0
HEADER_ROOM = 4096
"""Bytes of a message left for its headers: nats-py checks the payload alone, the server both."""

# nats-py's names for those outside ``bus``, which import nothing of it.
NatsMessage = Msg
MessageSubscription = Subscription
NatsError = nats_errors.Error
SlowConsumerError = nats_errors.SlowConsumerError

Handler = Callable[[NatsMessage], Awaitable[None]]


class Connection:
    """One guarded connection. Event loop only.

    Attributes:
        client: connected, or reconnecting without limit.
        closed: raises ``ConnectionError`` once the connection is closed for good, or what a message handler raised.
        reconnects: how often the connection was restored.
        on_drop: callback by subscription, for each message that the client dropped (slow consumer).
        on_lost: called when the connection breaks.
        on_back: called when it is restored.
    """

    def __init__(self) -> None:
        self.client = GuardedClient()
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.reconnects = 0
        self.on_drop: dict[Subscription, Callable[[nats_errors.SlowConsumerError], None]] = {}
        self.on_lost: Callable[[], None] = _ignore
        self.on_back: Callable[[], None] = _ignore
        self._closing = False
        self._subscribed = (
            True  # nats-py calls itself connected before a new broker has confirmed what it subscribed to again
        )
        self._warnings = RateLimited(log)
        self._denied: set[str] = set()
        self._requesting: set[str] = set()
        self._last_error = "no answer"
        self._inbox_prefix = "_INBOX"
        self._refused: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._refusals = 0
        self._failed_attempts = 0
        self._isolation = Isolation()

    @property
    def connected(self) -> bool:
        """Connected, and the broker has every subscription: what is published from now on arrives."""
        return self._subscribed and bool(self.client.is_connected)

    @property
    def server(self) -> str:
        """Host and port we are connected to, without credentials."""
        url = self.client.connected_url
        return "" if url is None else f"{url.hostname}:{url.port}"

    async def open(self, settings: Settings, name: str) -> None:
        """Connect for the first time; later reconnects are endless.

        Raises:
            ConfigError: a context, credentials or certificate file cannot be used.
            BrokerError: no broker within the time allowed, or it refuses us.
        """
        access = broker_access(settings)
        self._inbox_prefix = access.options["inbox_prefix"]
        # Shuffled once and then tried in turn, so that the server that just fell silent is tried last.
        servers = access.url.replace(" ", "").split(",")
        random.shuffle(servers)
        connecting = asyncio.create_task(
            self.client.connect(
                servers,
                name=name,
                dont_randomize=True,
                max_reconnect_attempts=-1,
                reconnect_time_wait=RECONNECT_WAIT_S,  # type: ignore[arg-type]  # annotated int, slept as float
                connect_timeout=3,
                ping_interval=5,
                max_outstanding_pings=2,
                error_cb=self._on_error,
                disconnected_cb=self._on_disconnected,
                reconnected_cb=self._on_reconnected,
                closed_cb=self._on_closed,
                **access.options,
            )
        )
        try:
            await self._wait_for_first(connecting, access, settings.nats_connect_timeout_secs)
        except BrokerError:
            await cancel([connecting])
            await self.close()
            raise
        connecting.result()

    async def _wait_for_first(self, connecting: asyncio.Future[None], access: BrokerAccess, patience_s: float) -> None:
        """Wait for the first connection; warn soon what it waits for.

        Raises:
            BrokerError: none within ``patience_s``, or it refuses us.
        """
        watched: set[asyncio.Future[Any]] = {connecting, self._refused}
        advise_s = min(ADVISE_S, patience_s)
        done, _ = await asyncio.wait(watched, timeout=advise_s, return_when=asyncio.FIRST_COMPLETED)
        if not done and patience_s > advise_s:
            log.warning(
                "no NATS server answers at %s: %s; %s says where one is, and it is tried for %g s more",
                mask(access.url),
                self._last_error,
                access.setting,
                patience_s - advise_s,
            )
            await asyncio.wait(watched, timeout=patience_s - advise_s, return_when=asyncio.FIRST_COMPLETED)
        if connecting.done():
            return
        if self._refused.done():
            raise BrokerError(f"{access.named}: {self._refused.result()}")
        raise BrokerError(f"{access.named}: no NATS server answers within {patience_s:g} s: {self._last_error}")

    async def watch(self) -> None:
        """Check until cancelled whether the connection is alive, and repair it if not.

        Dead: nothing was received after ``SILENT_PROBES`` PINGs, as the broker hangs, the network drops everything, or nats-py's
        reader has stopped; or the client neither is connected nor reconnects. Then it connects again. A broker that is away is
        not a dead connection: attempts fail, and continue. After ``REPAIRS`` repairs in a row without anything received or an
        attempt failed, the connection is closed for good.

        Raises:
            ConnectionError: what ``closed`` raises, once it is done.
        """
        silent_probes, repairs = 0, 0
        while not (self._closing or self.closed.done()):
            received, failed_attempts = self.client.received, self._failed_attempts
            if self.client.is_connected:
                self.client.probe()
            await asyncio.sleep(PROBE_S)
            if (received, failed_attempts) != (self.client.received, self._failed_attempts):
                silent_probes, repairs = 0, 0
                continue
            silent_probes += 1
            if silent_probes < (STUCK_PROBES if self.client.reconnecting else SILENT_PROBES) or self._closing:
                continue
            silent_probes, repairs = 0, repairs + 1
            if self.client.is_closed:
                await self._on_closed()  # nats-py calls it only after the broker has taken what is unsent
            elif repairs > REPAIRS:
                self._give_up(f"the connection is dead after {REPAIRS} repairs: {self._last_error}")
            else:
                self._repair()
        if self.closed.done():
            self.closed.result()

    def _repair(self) -> None:
        self._last_error = "the broker is silent" if self.client.is_connected else "the client no longer reconnects"
        log.warning("connecting again: %s", self._last_error, extra={"server": self.server})
        self.client.reconnect()

    def jetstream_answered(self, answered: bool) -> None:
        """Whether a leader of JetStream's answered a request. Where none does for long, the next of several addresses is tried."""
        if answered:
            self._isolation.answered()
        elif self._isolation.failed() and len(self.client.servers) > 1:
            self._isolation.left()
            log.warning("connecting to another broker: JetStream does not answer here", extra={"server": self.server})
            self._last_error = "JetStream does not answer"
            self.client.reconnect()

    async def subscribe(
        self,
        subject: str,
        handler: Handler,
        *,
        pending_bytes: int = 2**24,
        on_drop: Callable[[nats_errors.SlowConsumerError], None] | None = None,
    ) -> Subscription:
        """Subscribe and check that it was granted.

        Raises:
            DeniedError: the broker denies this subject.
            BrokerError: it is gone again.
        """
        subscription = await self.client.subscribe(
            subject, cb=handler, pending_msgs_limit=2**17, pending_bytes_limit=pending_bytes
        )
        if on_drop:
            self.on_drop[subscription] = on_drop
        try:
            await self.check_granted(subject)
        except BaseException:
            await self.unsubscribe(subscription)
            raise
        return subscription

    async def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription, also while the broker is away: what nats-py still knows it subscribes to again."""
        self.on_drop.pop(subscription, None)
        with suppress(nats_errors.Error, OSError):
            await subscription.unsubscribe()

    async def check_granted(self, *subjects: str) -> None:
        """Check that the subscriptions to ``subjects``, which were just made, are granted.

        Raises:
            DeniedError: the broker denies one of them.
            BrokerError: it is gone again.
        """
        answered = await self.flush(SUBSCRIBE_S)
        for subject in subjects:
            if subject.lower() in self._denied:
                raise DeniedError(f"the broker denies this user to subscribe to {subject}")
        if not answered:
            raise BrokerError(f"the broker does not answer a subscription to {subjects[0]}")

    def room(self, headers: dict[str, str]) -> int:
        """Payload bytes that the broker accepts in one message beside these headers."""
        header_bytes = sum(len(name) + len(value.encode()) for name, value in headers.items())
        return self.client.max_payload - HEADER_ROOM - header_bytes

    async def publish(
        self, subject: str, payload: bytes, headers: dict[str, str] | None = None, reply: str = ""
    ) -> bool:
        """Give a message to the client, which buffers 2 MiB while the broker is away.

        Returns False if it did not take it: the message is too large for the broker, or the buffer is full.
        """
        if len(payload) > self.room(headers or {}):
            return False
        try:
            await self.client.publish(subject, payload, reply=reply, headers=headers)
        except (nats_errors.OutboundBufferLimitError, nats_errors.ConnectionClosedError):
            return False
        return True

    async def request(
        self, subject: str, payload: bytes, timeout_s: float, headers: dict[str, str] | None = None
    ) -> Msg:
        """Send a request; returns the reply.

        Raises:
            BrokerError: the broker denies the subject, or the inbox for the reply.
            NoRespondersError: there is no responder.
            TimeoutError: no reply within ``timeout_s``.
        """
        self._denied.discard(subject.lower())
        self._requesting.add(subject.lower())
        request = asyncio.create_task(self.client.request(subject, payload, timeout=timeout_s, headers=headers))
        try:
            await asyncio.sleep(0)  # so that the request is sent before the PING
            if await self.flush(timeout_s):
                self._refuse_denied(subject)
            return await request
        finally:
            self._requesting.discard(subject.lower())
            request.cancel()

    def _refuse_denied(self, subject: str) -> None:
        if subject.lower() in self._denied:
            raise BrokerError(f"the broker denies this user to publish to {subject}")
        if any(denied.startswith(f"{self._inbox_prefix.lower()}.") for denied in self._denied):
            raise BrokerError(
                f"the broker denies this user to subscribe to {self._inbox_prefix}.>, where answers come: NATS_INBOX_PREFIX"
            )

    async def flush(self, timeout_s: float) -> bool:
        """Wait until the broker has everything, and its denials are here; False if it does not confirm in time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.client.flush()
                # The client's first PING is sent before what it has queued, the second after it.
                await self.client.flush()
        except (TimeoutError, nats_errors.Error, OSError, RuntimeError):  # the last: uvloop's, of a closed transport
            return False
        return True

    async def close(self) -> None:
        """Close for good; within a second even if the broker is gone."""
        self._closing = True
        try:
            async with asyncio.timeout(1.0):
                await self.client.close()
        except (TimeoutError, nats_errors.Error, OSError, RuntimeError) as error:  # the last as in flush
            log.debug("closing: %s", error)
            self.client.abort()

    async def _on_error(self, error: Exception) -> None:
        """Runs inside the read loop: must not wait and must not raise."""
        text = describe(error)
        self._failed_attempts += not self.client.is_connected
        if isinstance(error, nats_errors.SlowConsumerError):
            if on_drop := self.on_drop.get(error.sub):
                on_drop(error)
        elif denied := re.search(r'permissions violation for (subscription|publish) to "([^"]+)"', text):
            self._denied.add(denied[2])  # nats-py lower-cases it
            if denied[1] == "publish" and denied[2] not in self._requesting:
                self._warnings.warning("denied", "the broker denies: %s", text)
        elif "authorization" in text.lower() or isinstance(error, ssl.SSLCertVerificationError | NoTlsError):
            self._last_error = text
            self._refusals += 1
            if not self._refused.done():
                self._refused.set_result(text)
            if self._refusals == REFUSALS:
                await self._on_closed()
        elif isinstance(error, nats_errors.Error | OSError | TimeoutError | asyncio.CancelledError):
            self._last_error = text
        elif not self.closed.done():
            self.closed.set_exception(error)  # a message handler raised: that is a crash, not an error to count

    async def _on_disconnected(self) -> None:
        self._subscribed = False
        if not self._closing:
            log.warning("disconnected from the broker", extra={"reason": self._last_error})
        self.on_lost()

    async def _on_reconnected(self) -> None:
        self._subscribed = True
        self.reconnects += 1
        self._refusals = 0
        self._isolation.reconnected()
        log.info("reconnected", extra={"reconnects": self.reconnects})
        self.on_back()

    async def _on_closed(self) -> None:
        last = self.client.last_error
        self._give_up(f"the connection is closed for good: {describe(last) if last else self._last_error}")

    def _give_up(self, reason: str) -> None:
        if not self._closing and not self.closed.done():
            self.closed.set_exception(ConnectionError(reason))


def _ignore() -> None:
    """The default callback."""


def describe(error: Exception) -> str:
    """An error in plain words, without error numbers."""
    text = mask(str(error)).removeprefix("nats: ") or type(error).__name__
    codes = [int(code) for code in re.findall(r"\[Errno (-?\d+)\]", text)]  # of each address that was tried
    if isinstance(error, TimeoutError):
        return "no answer"
    if isinstance(error, socket.gaierror):
        return "there is no host of that name"
    if errno.ECONNREFUSED in codes:
        return "nothing listens there"
    return os.strerror(codes[0]) if codes else text
