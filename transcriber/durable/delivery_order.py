"""Whether the deliveries of a consumer are complete and in order, and when the consumer must be reset.

In: deliveries and heartbeats, as the broker sent them. Out: whether a delivery is the next one, and a state. No I/O.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import Enum
from typing import NamedTuple

_SHORT_REPLY = 9
"""Tokens of a reply subject without a domain."""


class Delivery(NamedTuple):
    """What the reply subject of a delivery says.

    Attributes:
        number: counted from 1 since the consumer was reset.
        seq: stream sequence.
        stored_at: when the broker stored it.
        pending: payloads that wait on the broker after it.
    """

    number: int
    seq: int
    stored_at: datetime
    pending: int


class ConsumerState(Enum):
    """What is known of the deliveries since the last reset."""

    LOST = "some may be missing: the consumer must be reset"
    RESETTING = "a reset is under way: deliveries from before it may still arrive, and are ignored"
    COUNTING = "each followed the one before"
    IDLE = "as COUNTING, and the broker has said since the last one that it has no more"


_NEXT_STATES = {
    ConsumerState.LOST: {ConsumerState.RESETTING},
    ConsumerState.RESETTING: {ConsumerState.COUNTING, ConsumerState.LOST},
    ConsumerState.COUNTING: {ConsumerState.IDLE, ConsumerState.LOST},
    ConsumerState.IDLE: {ConsumerState.COUNTING, ConsumerState.LOST},
}


class DeliveryOrder:
    """Event loop only.

    Attributes:
        received: the highest stream sequence that was delivered or fetched.
    """

    def __init__(self) -> None:
        self._last = Delivery(0, 0, datetime.now(UTC), 0)
        self.start(0)

    def start(self, seq: int) -> None:
        """Payloads are wanted from stream sequence ``seq`` on."""
        self._state = ConsumerState.LOST
        self.received = seq - 1
        self._hidden: set[int] = set()  # of payloads that the client could not read when they were delivered
        self._received_at_reset: int | None = None
        self._first_seq: int | None = None  # of the first delivery after a reset, where the stream has it

    @property
    def lost(self) -> bool:
        return self._state is ConsumerState.LOST

    @property
    def idle(self) -> bool:
        return self._state is ConsumerState.IDLE

    @property
    def pending(self) -> int:
        """Payloads that wait on the broker, as of the last delivery."""
        return self._last.pending

    @property
    def was_reset(self) -> bool:
        """Whether the consumer was reset since ``start``."""
        return self._received_at_reset is not None

    @property
    def stuck(self) -> bool:
        """Whether the last reset brought nothing new."""
        return self._received_at_reset == self.received

    def mark_lost(self) -> None:
        """Deliveries may be missing."""
        self._enter(ConsumerState.LOST)

    @contextmanager
    def resetting(self, from_seq: int) -> Iterator[None]:
        """While the consumer is reset to stream sequence ``from_seq``; afterwards deliveries count from 1 again."""
        self._enter(ConsumerState.RESETTING)
        self._last = self._last._replace(number=0, seq=from_seq - 1)
        try:
            yield
        except BaseException:
            self._enter(ConsumerState.LOST)
            raise
        if self._state is ConsumerState.RESETTING:  # else the connection broke meanwhile
            self._enter(ConsumerState.COUNTING)
        self._received_at_reset = self.received

    def expect_first(self, seq: int | None) -> None:
        """The first delivery after the reset has this stream sequence; None: any may be the first."""
        self._first_seq = seq

    def accept(self, delivery: Delivery, *, same_reader: bool) -> bool:
        """Whether ``delivery`` is the next one; ``same_reader``: the broker has pinned the same reader as before."""
        if self.lost:
            return False  # it is delivered again after the reset
        if self.idle:
            self._enter(ConsumerState.COUNTING)
        self._hidden.discard(delivery.seq)
        expected = self._last.number + 1 + self._hidden_between(self._last.seq, delivery.seq)
        may_be_first = delivery.number > 1 or self._first_seq in {None, delivery.seq}
        if delivery.number == expected and same_reader and may_be_first:
            self._last = delivery
            return True
        if self._state is not ConsumerState.RESETTING:
            self._enter(ConsumerState.LOST)
        return False

    def heartbeat(self, delivered: int, *, all_taken: bool) -> None:
        """The broker has nothing to send, and made ``delivered`` deliveries; ``all_taken``: none of them waits here."""
        if self._state in {ConsumerState.LOST, ConsumerState.RESETTING}:
            return
        if delivered > self._last.number + self._hidden_between(self._last.seq):
            self._enter(ConsumerState.LOST)  # lost on the way, or not readable
        else:
            self._enter(ConsumerState.IDLE if all_taken else ConsumerState.COUNTING)

    def hide(self, seq: int) -> None:
        """The payload at ``seq`` was fetched by its sequence, since the client may not be able to read its delivery."""
        self._hidden.add(seq)
        self.received = seq

    def acknowledged(self, before_seq: int) -> None:
        """Payloads before ``before_seq`` are not delivered again."""
        self._hidden = {seq for seq in self._hidden if seq >= before_seq}

    def _hidden_between(self, after: int, before: int = sys.maxsize) -> int:
        return sum(after < seq < before for seq in self._hidden) if self._hidden else 0

    def _enter(self, state: ConsumerState) -> None:
        if state is self._state:
            return
        if state not in _NEXT_STATES[self._state]:
            raise RuntimeError(f"a consumer cannot become {state.name} from {self._state.name}")
        self._state = state


def parse_delivery(reply: str) -> Delivery | None:
    """A reply subject; None if it is not the broker's.

    ``$JS.ACK.[<domain>.<account>.]<stream>.<consumer>.<times>.<seq>.<number>.<ns>.<pending>[.<token>]``
    """
    tokens = reply.split(".")
    # Servers with a domain name it and the account, and may add a token at the end.
    times = 4 if len(tokens) == _SHORT_REPLY else 6
    try:
        seq, number, stored_ns, pending = map(int, tokens[times + 1 : times + 5])
        return Delivery(number, seq, datetime.fromtimestamp(stored_ns / 1e9, UTC), pending)
    except (ValueError, OverflowError, OSError):
        return None
