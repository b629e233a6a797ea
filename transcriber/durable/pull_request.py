"""A consumer's requests for payloads. In: what the broker sent. Out: bodies of requests, of which one at a time is open."""

import json
import time

from transcriber.bus.jetstream.client import PIN_GROUP

BATCH = 200
"""Payloads of one request: 20 s of 100 ms."""

BATCH_BYTES = 2**20
"""And no more bytes than this, but always room for one message."""

PULL_S = 5.0
"""How long a request waits at the broker."""

HEARTBEAT_S = 1.0
STALE_S = 2 * HEARTBEAT_S
"""A heartbeat that is older may no longer be true."""

SILENCE_S = 4.0
"""A request with no answer for so long, not even a heartbeat, is lost."""


class PullRequest:
    """The one request for payloads that is open at the broker, if any. Event loop only.

    Attributes:
        number: of the latest request; the last token of the subject that its answers arrive on, so that the end of an earlier
            one is not taken for its end.
        remaining: payloads that it may still bring; 0: none is open.
        arrived_s: when anything last arrived, on the monotonic clock.
        pin: the broker's id of this daemon while that is the one reader.
        stopped: no more requests are wanted.
    """

    def __init__(self) -> None:
        self.number = self.remaining = 0
        self.arrived_s = 0.0
        self.pin: str | None = None
        self.stopped = False

    @property
    def open(self) -> bool:
        return self.remaining > 0

    @property
    def fresh(self) -> bool:
        """Whether what the broker said last may still be true."""
        return time.monotonic() - self.arrived_s < STALE_S

    @property
    def silent(self) -> bool:
        """Whether it is open and must be lost."""
        return self.open and time.monotonic() - self.arrived_s > SILENCE_S

    @property
    def longest_s(self) -> float:
        """Until the end of an open request has arrived, if it arrives."""
        return PULL_S + HEARTBEAT_S

    def next(self, batch: int, message_bytes: int) -> bytes:
        """The body of a new request for up to ``batch`` payloads; a message has up to ``message_bytes``."""
        self.number += 1
        self.remaining = batch
        self.arrived_s = time.monotonic()
        body = {
            "group": PIN_GROUP,
            **({"id": self.pin} if self.pin else {}),
            "batch": batch,
            "max_bytes": max(BATCH_BYTES, message_bytes),
            "expires": int(PULL_S * 1e9),
            "idle_heartbeat": int(HEARTBEAT_S * 1e9),
        }
        return json.dumps(body).encode()

    def forget(self) -> None:
        """The open one ends with its consumer, where that is made again: its end is then no news."""
        self.remaining = 0
        self.number += 1

    def on_payload(self, pin: str | None) -> bool:
        """A payload arrived; whether its headers name the same reader as before."""
        self.remaining = max(0, self.remaining - 1)
        before, self.pin = self.pin, pin or self.pin  # a publisher may have spoiled the headers of its payload
        return before in {None, self.pin}
