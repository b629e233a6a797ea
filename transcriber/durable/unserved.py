"""Streams of stored audio that nobody here serves: which of them have something to do.

In: what JetStream keeps. Out: names of streams with audio that was not read, or text that was not told.

How many messages there are of a stream says little: a stream that is over becomes less as its audio ages, and where as much goes as
comes, as in a stream that is full, nothing changes. So that tells whom to ask for, and the answer is what comes after the last payload
that was read.
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
"""Streams asked for at a look though there are not more messages of them: an hour of calls is thousands that are over."""

AT_ONCE = 32
"""Streams asked for together."""


class UnservedStreams:
    """Event loop only."""

    def __init__(self, connection: Connection, runtime: Runtime) -> None:
        self._connection, self._runtime = connection, runtime
        self._jetstream = JetStream(connection)
        self._read: dict[str, int] = {}  # of streams that are over: what follows would be new
        self._due: set[str] = set()  # to be asked for at the next look
        self._doubted: dict[str, None] = {}  # to be asked for in turn
        self._seen = Contents({}, 0, 0, datetime.min.replace(tzinfo=UTC))  # at the last look
        self._counts: Counter[str] = Counter()  # of that, by stream

    def over(self, name: str, read: int | None) -> None:
        """A stream is served no more; all payloads up to sequence ``read`` are done with, None: that is not sure."""
        self._due.add(name)
        if read is not None:
            self._read[name] = read

    async def look(self, served: Container[str], serve: Callable[[str], bool]) -> None:
        """Have each stream served that has something to do and is not among the ``served``.

        ``serve`` says whether it need not be asked again.

        Raises:
            JetStreamError, UnansweredError, RefusedError: JetStream does not say.
        """
        found = await provision.audio_subjects(self._connection, self._runtime.settings)
        counts: Counter[str] = Counter()
        for subject, messages in found.messages.items():
            counts[subject.rpartition(".")[2]] += messages
        anew = found.made_at != self._seen.made_at
        self._read = {} if anew else {name: read for name, read in self._read.items() if name in counts}
        self._due.intersection_update(counts)
        asked = self._to_ask(counts, found)
        self._due |= set(asked)  # whoever is not answered for is asked for again
        self._seen, self._counts = found, counts
        for at in range(0, len(asked), AT_ONCE):
            names = [name for name in asked[at : at + AT_ONCE] if name not in served]
            answers = await asyncio.gather(*(self._has_something(name, found) for name in names))
            self._due.difference_update(asked[at : at + AT_ONCE])
            wanting = [name for name, has_something in zip(names, answers, strict=True) if has_something]
            for name in wanting:
                self._read.pop(name, None)
            refused = next((number for number, name in enumerate(wanting) if not serve(name)), None)
            if refused is not None:  # the others would have no place either
                self._due.update(wanting[refused:], asked[at + AT_ONCE :])
                return

    def _to_ask(self, counts: Counter[str], found: Contents) -> list[str]:
        """Those of which there may be something new."""
        grown = [name for name, messages in counts.items() if messages > self._counts[name] or name in self._due]
        # What came may be as much as what went.
        went = found.first_seq != self._seen.first_seq
        self._doubted |= dict.fromkeys(name for name in self._read if went or counts[name] < self._counts[name])
        self._doubted = {name: None for name in self._doubted if name in self._read}
        doubtful = list(self._doubted)[:MOST_DOUBTS]
        for name in doubtful:
            del self._doubted[name]
        return list(dict.fromkeys((*grown, *doubtful)))

    async def _has_something(self, name: str, found: Contents) -> bool:
        """Whether audio of a stream was not read, or not all of it was told."""
        if not STREAM_NAME.fullmatch(name):
            return True  # whoever serves it says why not
        settings = self._runtime.settings
        read = self._read.get(name)
        if read is None and (read := await self._told(name, found.made_at)) is None:
            return True
        if read != found.last_seq:
            if read > found.last_seq:  # the broker has lost what it had confirmed
                return True
            subject = provision.stored_subject(settings, name)
            if await self._jetstream.message(settings.audio_stream, seq=read + 1, next_by_subj=subject):
                return True
        self._read[name] = read
        return False

    async def _told(self, name: str, made_at: datetime) -> int | None:
        """The last payload of a stream whose text, by whomever, ends with an ``end`` and owes nothing; None: there is something to do."""
        settings = self._runtime.settings
        if settings.backfill or settings.second_pass:
            return None  # what it owes only the stream itself can tell
        last = await self._jetstream.message(
            settings.transcript_stream, last_by_subj=f"{settings.transcript_subject_prefix}.{name}.*"
        )
        told = read_checkpoint(last)
        if last is None or last.stored_at < made_at or told is None or told.session:
            return None
        return told.seq - 1 if await self._is_acknowledged(name) else None

    async def _is_acknowledged(self, name: str) -> bool:
        try:
            call = f"CONSUMER.INFO.{self._runtime.settings.audio_stream}.{provision.consumer_name(name)}"
            info = await self._jetstream.call(call)
        except RefusedError:  # there is none any more
            return True
        return not (info["num_pending"] or info["num_ack_pending"])
