"""The log of a durable stream: what happened to its audio, in order, until its messages are stored.

In: entries of a ``Windower``. Out: the same for a ``Committer``, in the same order. Windows go to the worker from here, and their
transcripts come back to here.
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
"""Windows of one stream before the worker: the one in work, and one so that it need not wait."""

MOST_ENTRIES = 32
"""What may wait to be stored: the broker holds the rest."""

MOST_DROPPED = 1024
"""The same where windows that find no slot are dropped: more than any queue has."""

SHUTDOWN = EngineError("not begun: the next daemon's", reason="shutdown")


def _future() -> "asyncio.Future[Outcome]":
    return asyncio.get_running_loop().create_future()


@dataclass(slots=True, eq=False)
class Entry:
    """Something that happened to the audio.

    Attributes:
        publish: publishes its messages; None of a window, whose messages are those of its outcome.
        after: where audio resumes after it.
        first_seq, last_seq: the payloads it is about.
        arrival: of the last of them; on the wall clock, when the broker stored it.
        window, job: the window, as it was cut and as the worker is to have it.
        given: whether the worker's queue has had it.
        outcome: resolves with the job's.
        stored: is set when its messages are stored.
    """

    publish: Callable[[], None] | None
    after: StreamResumePoint
    first_seq: int
    last_seq: int
    arrival: Arrival
    window: Window | None = None
    job: Job | None = None
    given: bool = False
    outcome: "asyncio.Future[Outcome]" = field(default_factory=_future)
    stored: asyncio.Event = field(default_factory=asyncio.Event)


class EventLog:
    """Event loop only.

    Attributes:
        resume_point: where audio resumes after the latest entry.
        attempts: daemons that began with the next window and did not come back, this one included while it is at it.
        closed: no more windows are given to the worker.
    """

    def __init__(
        self,
        worker: Worker,
        slots: QueueSlots | None,
        counters: Counters,
        resume_point: StreamResumePoint,
        attempts: int,
    ) -> None:
        """Windows wait for their turn in ``slots``; without, those that find no room in the queue are dropped."""
        self.resume_point = resume_point
        self.attempts = attempts
        self.closed = False
        self._worker, self._slots, self._counters = worker, slots, counters
        self._entries: deque[Entry] = deque()
        self._written = asyncio.Event()  # there is an entry
        self._progress = asyncio.Event()  # an entry has left, or a job has its outcome

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def patient(self) -> bool:
        """Whether nothing is dropped."""
        return self._slots is not None

    @property
    def has_room(self) -> bool:
        """Whether more audio should be taken."""
        if not self.patient:
            return len(self._entries) < MOST_DROPPED
        unfinished = sum(entry.job is not None and not entry.outcome.done() for entry in self._entries)
        return unfinished < AHEAD and len(self._entries) < MOST_ENTRIES

    @property
    def oldest(self) -> Entry | None:
        """What is to be stored next."""
        return self._entries[0] if self._entries else None

    def write(self, entry: Entry) -> Entry:
        self.resume_point = entry.after
        self._entries.append(entry)
        self._written.set()
        return entry

    async def wait_for_entry(self) -> None:
        """Wait until there is an entry, or the log is closed."""
        while not self._entries and not self.closed:
            self._written.clear()
            await self._written.wait()

    async def wait_for_room(self) -> None:
        """Wait until an entry has left, or a job has its outcome."""
        self._progress.clear()
        await self._progress.wait()

    async def wait_until_empty(self) -> None:
        """Wait until all that was written is stored."""
        while self._entries:
            await self.wait_for_room()

    async def give(self, entry: Entry, job: Job) -> None:
        """Put a window into the worker's queue, in its turn."""
        if self._slots:
            await self._slots.free()
        entry.given = True
        job.enqueued_s = time.monotonic()
        refused = job if self.closed else self._worker.queue.try_put(job)
        if refused is not job:
            self._counters.jobs_enqueued += 1
        if refused is not None:
            refused.settle(refused, SHUTDOWN if self.closed else self._worker.queue.full_error(refused.lane))

    def settle(self, entry: Entry, _: Job, outcome: Outcome) -> None:
        """The outcome of a window; the first one counts."""
        if not entry.outcome.done():
            entry.outcome.set_result(outcome)
            self._progress.set()

    def pop_stored(self) -> None:
        """The oldest entry is stored."""
        entry = self._entries.popleft()
        # Its job refers to the entry, too: such a cycle, with all its samples, would be left to the collector, which counts
        # objects, not bytes, and runs after hundreds of windows.
        entry.window = entry.job = None
        entry.stored.set()
        self._progress.set()

    def close(self) -> None:
        """Windows that the worker has not had are the next daemon's."""
        self.closed = True
        for entry in self._entries:
            if entry.job and not entry.given:
                self.settle(entry, entry.job, SHUTDOWN)
        self._written.set()
