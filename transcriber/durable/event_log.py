"""The log of a durable stream: what happened to its audio, in order, until it is told and stored.

In: what the intake finds in the audio. Out: the same for the tale, in the same order. Windows go to the worker from here, and
their text comes back to here.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from transcriber.audio.session import Window
from transcriber.durable.checkpoint import StreamResumePoint
from transcriber.engine.job import Job, Outcome
from transcriber.engine.queue_slots import QueueSlots
from transcriber.engine.worker import Worker
from transcriber.errors import EngineError
from transcriber.schema.arrival import Arrival
from transcriber.telemetry import Counters

AHEAD = 2
"""Windows of one stream before the worker: the one in hand, and one so that it need not wait."""

MOST_ENTRIES = 32
"""What may wait to be stored: the broker holds the rest."""

MOST_DROPPED = 1024
"""The same where windows that find no place are dropped: more than any queue has."""

SHUTDOWN = EngineError("not begun: the next daemon's", reason="shutdown")


def _future() -> "asyncio.Future[Outcome]":
    return asyncio.get_running_loop().create_future()


@dataclass(slots=True, eq=False)
class Entry:
    """Something that happened to the audio.

    Attributes:
        tell: tells of it; None of a window, which is told with its outcome.
        after: where the stream stands then.
        first_seq, last_seq: the payloads it is about.
        arrival: of the last of them; on the wall clock, when the broker stored it.
        window, job: the window, as it was cut and as the worker is to have it.
        given: whether the worker's queue has had it.
        heard: resolves with what became of the job.
        stored: is set when what is told of it is stored.
    """

    tell: Callable[[], None] | None
    after: StreamResumePoint
    first_seq: int
    last_seq: int
    arrival: Arrival
    window: Window | None = None
    job: Job | None = None
    given: bool = False
    heard: "asyncio.Future[Outcome]" = field(default_factory=_future)
    stored: asyncio.Event = field(default_factory=asyncio.Event)


class EventLog:
    """Event loop only.

    Attributes:
        cursor: where the stream stands after the latest entry.
        attempts: daemons that began with the next window and did not come back, we included while we are at it.
        closed: no more windows are given to the worker.
    """

    def __init__(
        self, worker: Worker, places: QueueSlots | None, counters: Counters, cursor: StreamResumePoint, attempts: int
    ) -> None:
        """Windows wait for their turn in ``places``; without, those that find no place are dropped."""
        self.cursor = cursor
        self.attempts = attempts
        self.closed = False
        self._worker, self._places, self._counters = worker, places, counters
        self._entries: deque[Entry] = deque()
        self._news = asyncio.Event()  # something is in it
        self._room = asyncio.Event()  # something has left it, or was heard

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def patient(self) -> bool:
        """Whether nothing is dropped."""
        return self._places is not None

    @property
    def has_room(self) -> bool:
        """Whether more audio should be taken."""
        if not self.patient:
            return len(self._entries) < MOST_DROPPED
        unheard = sum(entry.job is not None and not entry.heard.done() for entry in self._entries)
        return unheard < AHEAD and len(self._entries) < MOST_ENTRIES

    @property
    def oldest(self) -> Entry | None:
        """What is to be told next."""
        return self._entries[0] if self._entries else None

    def write(self, entry: Entry) -> Entry:
        self.cursor = entry.after
        self._entries.append(entry)
        self._news.set()
        return entry

    async def wait_for_news(self) -> None:
        """Wait until there is an entry, or the log is closed."""
        while not self._entries and not self.closed:
            self._news.clear()
            await self._news.wait()

    async def wait_for_room(self) -> None:
        """Wait until something has left, or was heard."""
        self._room.clear()
        await self._room.wait()

    async def emptied(self) -> None:
        """Wait until all that was written is told."""
        while self._entries:
            await self.wait_for_room()

    async def give(self, entry: Entry, job: Job) -> None:
        """Have the worker hear a window, in its turn."""
        if self._places:
            await self._places.free()
        entry.given = True
        job.enqueued_s = time.monotonic()
        refused = job if self.closed else self._worker.queue.try_put(job)
        if refused is not job:
            self._counters.jobs_enqueued += 1
        if refused is not None:
            refused.settle(refused, SHUTDOWN if self.closed else self._worker.queue.full_error(refused.lane))

    def hear(self, entry: Entry, _: Job, outcome: Outcome) -> None:
        """What became of a window; the first answer counts."""
        if not entry.heard.done():
            entry.heard.set_result(outcome)
            self._room.set()

    def told(self) -> None:
        """The oldest entry is stored."""
        entry = self._entries.popleft()
        # Its job knows the entry, too: such a ring, with all its samples, would be left to the collector, which counts objects
        # and not bytes, and comes after hundreds of windows.
        entry.window = entry.job = None
        entry.stored.set()
        self._room.set()

    def close(self) -> None:
        """Whatever the worker has not had is the next daemon's."""
        self.closed = True
        for entry in self._entries:
            if entry.job and not entry.given:
                self.hear(entry, entry.job, SHUTDOWN)
        self._news.set()
