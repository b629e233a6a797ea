"""Streams of stored audio that this daemon does not serve: which of them have something to do.

In: what JetStream stores. Out: names of streams with audio that was not read, or text that was not stored.

The number of stored messages alone does not say: of a stream that is over it shrinks as its audio ages, and in a stream that is full
it stays the same. So it only selects the streams to check; whether there is a payload after the last one that was read decides.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Container
from datetime import UTC, datetime

from transcriber.bus.connection import Connection
from transcriber.bus.jetstream import provision
from transcriber.bus.jetstream.admin import Contents
from transcriber.bus.jetstream.client import JetStream
from transcriber.durable.transcript_log import read_checkpoint
from transcriber.errors import RefusedError
from transcriber.pipeline.runtime import Runtime
from transcriber.schema.subjects import STREAM_NAME

MOST_DOUBTS = 100
"""Streams checked at a time that have no more messages than before: an hour of calls leaves thousands that are over."""

AT_ONCE = 32
"""Streams checked together."""


class UnservedStreams:
    """Event loop only."""

    def __init__(self, connection: Connection, runtime: Runtime) -> None:
        self._connection, self._runtime = connection, runtime
        self._jetstream = JetStream(connection)
        self._done: dict[str, int] = {}  # last payload that is done with, of streams that are over
        self._due: set[str] = set()  # to be checked next time
        self._doubted: dict[str, None] = {}  # to be checked in turn
        self._seen = Contents({}, 0, 0, datetime.min.replace(tzinfo=UTC))  # last time
        self._counts: Counter[str] = Counter()  # of that, by stream

    def over(self, name: str, done_seq: int | None) -> None:
        """A stream is served no more; all payloads up to ``done_seq`` are done with, None: that is not certain."""
        self._due.add(name)
        if done_seq is not None:
            self._done[name] = done_seq

    async def find(self, served: Container[str], serve: Callable[[str], bool]) -> None:
        """Have each stream served that has something to do and is not among the ``served``.

        ``serve`` returns whether the stream need not be offered again.

        Raises:
            JetStreamError, UnansweredError, RefusedError: JetStream does not answer.
        """
        found = await provision.audio_subjects(self._connection, self._runtime.settings)
        counts: Counter[str] = Counter()
        for subject, messages in found.messages.items():
            counts[subject.rpartition(".")[2]] += messages
        recreated = found.made_at != self._seen.made_at
        self._done = {} if recreated else {name: seq for name, seq in self._done.items() if name in counts}
        self._due.intersection_update(counts)
        checked = self._to_check(counts, found)
        self._due |= set(checked)  # until there is an answer
        self._seen, self._counts = found, counts
        for at in range(0, len(checked), AT_ONCE):
            names = [name for name in checked[at : at + AT_ONCE] if name not in served]
            answers = await asyncio.gather(*(self._has_something(name, found) for name in names))
            self._due.difference_update(checked[at : at + AT_ONCE])
            wanting = [name for name, has_something in zip(names, answers, strict=True) if has_something]
            for name in wanting:
                self._done.pop(name, None)
            refused = next((number for number, name in enumerate(wanting) if not serve(name)), None)
            if refused is not None:  # the others would have no slot either
                self._due.update(wanting[refused:], checked[at + AT_ONCE :])
                return

    def _to_check(self, counts: Counter[str], found: Contents) -> list[str]:
        """Those that may have new audio."""
        grown = [name for name, messages in counts.items() if messages > self._counts[name] or name in self._due]
        # As much may have arrived as was removed.
        removed = found.first_seq != self._seen.first_seq
        self._doubted |= dict.fromkeys(name for name in self._done if removed or counts[name] < self._counts[name])
        self._doubted = {name: None for name in self._doubted if name in self._done}
        doubtful = list(self._doubted)[:MOST_DOUBTS]
        for name in doubtful:
            del self._doubted[name]
        return list(dict.fromkeys((*grown, *doubtful)))

    async def _has_something(self, name: str, found: Contents) -> bool:
        """Whether audio of a stream was not read, or not all of its text is stored."""
        if not STREAM_NAME.fullmatch(name):
            return True  # it is reported where it is refused
        settings = self._runtime.settings
        done_seq = self._done.get(name)
        if done_seq is None and (done_seq := await self._last_done(name, found.made_at)) is None:
            return True
        if done_seq != found.last_seq:
            if done_seq > found.last_seq:  # the broker has lost what it had confirmed
                return True
            subject = provision.stored_subject(settings, name)
            if await self._jetstream.message(settings.audio_stream, seq=done_seq + 1, next_by_subj=subject):
                return True
        self._done[name] = done_seq
        return False

    async def _last_done(self, name: str, made_at: datetime) -> int | None:
        """The last payload of a stream whose stored text ends with an ``end`` and owes nothing; None: there is something to do."""
        settings = self._runtime.settings
        if settings.backfill or settings.second_pass:
            return None  # only the stream itself can say what it owes
        last = await self._jetstream.message(
            settings.transcript_stream, last_by_subj=f"{settings.transcript_subject_prefix}.{name}.*"
        )
        checkpoint = read_checkpoint(last)
        if last is None or last.stored_at < made_at or checkpoint is None or checkpoint.session:
            return None
        return checkpoint.seq - 1 if await self._is_acknowledged(name) else None

    async def _is_acknowledged(self, name: str) -> bool:
        try:
            call = f"CONSUMER.INFO.{self._runtime.settings.audio_stream}.{provision.consumer_name(name)}"
            info = await self._jetstream.call(call)
        except RefusedError:  # there is no consumer any more
            return True
        return not (info["num_pending"] or info["num_ack_pending"])
