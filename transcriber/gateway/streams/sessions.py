"""The sessions of a stream whose text is stored. In: a session's id, or none for the latest one. Out: its messages, and no others.

A broker finds messages by subject and sequence alone. Every session begins with a ``status`` ``started``; these are searched from
the end, twice as far back each time, so that it costs what the session and those after it have stored, not what the stream ever had.
"""

from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

from pydantic import ValidationError

from transcriber.bus.jetstream.client import JetStream, Stored
from transcriber.gateway.streams.storage import Storage, stored_from
from transcriber.schema.messages import ANY_MESSAGE, AnyMessage, End, Gap, Status

FIRST_REACH = 4096
"""Sequences, of all streams, that are searched first."""
MOST_GAPS = 1000
"""The latest ones, of which a client is told."""


class _Mark(NamedTuple):
    """A ``status`` message."""

    seq: int
    session: str
    started: bool


async def latest_session(jetstream: JetStream, text: Storage) -> str | None:
    """The session that began last; None if nothing is stored.

    Raises:
        UnansweredError, RefusedError.
    """
    for kind in ("status", "*"):  # a session that lasts longer than text is kept has no ``status`` any more
        stored = await jetstream.message(text.name, last_by_subj=_of_kind(text, kind).filter)
        if stored and (message := _parsed(stored)):
            return message.session
    return None


async def session_messages(jetstream: JetStream, text: Storage, session: str) -> AsyncIterator[AnyMessage]:
    """The stored messages of a session, in order; if there were several of its name, of the last one.

    Raises:
        UnansweredError, RefusedError.
    """
    seq = await first_seq(jetstream, text, session)
    if seq is None:
        return
    later: set[str] = set()
    async for stored, message in _messages(jetstream, text, seq):
        if message.session == session:
            yield message
        seq = stored.seq + 1
        match message:
            case Status() if message.session != session:
                later.add(message.session)
            case End() if message.session == session or message.session in later:  # sessions end in their order
                break
    async for _, message in _messages(jetstream, _of_kind(text, "revision"), seq):  # which may follow the end
        if message.session == session:
            yield message


async def latest_gaps(jetstream: JetStream, text: Storage, session: str) -> list[Gap]:
    """The gaps of ``session`` if it is the latest one, at most ``MOST_GAPS``, the last ones.

    Raises:
        UnansweredError, RefusedError.
    """
    if await latest_session(jetstream, text) != session or (seq := await first_seq(jetstream, text, session)) is None:
        return []
    gaps = _of_kind(text, "gap")
    seq = await _last_ones(jetstream, gaps, seq, MOST_GAPS)
    found = [message async for _, message in _messages(jetstream, gaps, seq) if message.session == session]
    return [message for message in found if isinstance(message, Gap)][-MOST_GAPS:]


async def first_seq(jetstream: JetStream, text: Storage, session: str) -> int | None:
    """From where on a session is stored; None if nothing of it is.

    Raises:
        UnansweredError, RefusedError.
    """
    statuses, end, reach = _of_kind(text, "status"), text.last_seq + 1, FIRST_REACH
    begun, after = False, 1  # without its ``started``, it is behind what came before it
    while end > 1:
        start = max(1, end - reach)
        marks = [mark async for mark in _marks(jetstream, statuses, start, end)]
        for mark in reversed(marks):
            if mark.session != session:
                after = mark.seq + 1 if begun and after == 1 else after
            elif mark.started:
                return mark.seq
            else:
                begun, after = True, 1
        end, reach = start, 2 * reach
    if begun:
        return after
    oldest = await jetstream.message(text.name, seq=1, next_by_subj=text.filter)
    cut = oldest and _parsed(oldest)  # its beginning may be dropped, as too old
    return oldest.seq if oldest and cut and cut.session == session else None


async def _marks(jetstream: JetStream, statuses: Storage, start: int, end: int) -> AsyncIterator[_Mark]:
    async for stored, message in _messages(jetstream, statuses, start):
        if stored.seq >= end:
            return
        if isinstance(message, Status):
            yield _Mark(stored.seq, message.session, message.state == "started")


async def _messages(jetstream: JetStream, storage: Storage, seq: int) -> AsyncIterator[tuple[Stored, AnyMessage]]:
    """From ``seq`` on; what is no message is skipped."""
    async for page in stored_from(jetstream, storage, seq):
        for stored in page:
            if message := _parsed(stored):
                yield stored, message


async def _last_ones(jetstream: JetStream, storage: Storage, seq: int, most: int) -> int:
    """The sequence, not before ``seq``, from which on there are at most ``most`` messages, and no fewer than need be."""
    low, high, middle = seq, storage.last_seq + 1, seq
    while low < high:
        if await _count(jetstream, storage, middle) > most:
            low = middle + 1
        else:
            high = middle
        middle = (low + high) // 2
    return low


async def _count(jetstream: JetStream, storage: Storage, seq: int) -> int:
    """Messages from ``seq`` on."""
    first = await jetstream.direct(storage.name, seq=seq, next_by_subj=storage.filter, batch=1)
    return 0 if first is None else int(first.headers["Nats-Num-Pending"]) + 1


def _of_kind(text: Storage, kind: str) -> Storage:
    return replace(text, filter=f"{text.filter.rpartition('.')[0]}.{kind}")


def _parsed(stored: Stored) -> AnyMessage | None:
    with suppress(ValidationError):
        return ANY_MESSAGE.validate_json(stored.payload)
    return None
