"""One worker in virtual time: its streams, the daemon's own queue and rules, and times of jobs as they were calibrated.

In: streams, how they talk, how long windows take. Out: windows that were dropped, and how long text took. What waits, in which order, and
what is dropped is decided by ``JobQueue``; how many windows may wait by ``Capacity``; when left context is left out by
``skips_left_context``. Partials and second passes are not here: they run in time that nobody else wants, and give way.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

import numpy as np

from transcriber.audio.window_policy import WindowPolicy
from transcriber.engine.calibrate import QUANTILES
from transcriber.engine.capacity import Capacity, skips_left_context
from transcriber.engine.job import Job, Lane, Outcome
from transcriber.engine.job_queue import JobQueue
from transcriber.plan.talk import Due, Talk, windows

MEASURED_WINDOWS, MEASURED_S = 2000, 300.0
"""So many windows, and for so long at least, are counted of each seed."""

NO_SAMPLES = np.zeros(0, np.float32)


class Service(NamedTuple):
    """How long a worker takes for a window: quantiles, each as likely as its neighbours, in seconds.

    Attributes:
        with_context_s, plain_s: with its left context, and without.
        file_s: a window of a file; 0: there are none. Else one always waits.
    """

    with_context_s: Sequence[float]
    plain_s: Sequence[float]
    file_s: float = 0.0

    def slower(self, factor: float) -> "Service":
        """On a machine that has so much less time for it."""
        return Service(
            [factor * s for s in self.with_context_s], [factor * s for s in self.plain_s], factor * self.file_s
        )


@dataclass(frozen=True, slots=True)
class WorkerLoad:
    """What one worker has to do.

    Attributes:
        streams: so many.
        service: times of jobs.
        policy: how audio is cut.
        talk: how much is spoken.
        slots_for: the queue's capacity for a real-time factor.
        max_latency_s: L_max, of which the time before anything is counted is a multiple.
        waits: whether windows wait for a slot, as in durable mode, instead of being dropped.
    """

    streams: int
    service: Service
    policy: WindowPolicy
    talk: Talk
    slots_for: Callable[[float], int]
    max_latency_s: float
    waits: bool = False


@dataclass(slots=True)
class Counted:
    """What became of the windows of one seed, or of several, that arrived while they were counted.

    Attributes:
        arrived, dropped: windows.
        latencies_s: from the arrival of each transcribed window to its text.
        pending: windows that have neither text nor were dropped when the time was over.
        shortened: windows without left context.
        file_windows: of files.
        counted_s, busy_s: virtual time, and how much of it the worker spent.
    """

    arrived: int = 0
    dropped: int = 0
    latencies_s: list[float] = field(default_factory=list)
    pending: int = 0
    shortened: int = 0
    file_windows: int = 0
    counted_s: float = 0.0
    busy_s: float = 0.0

    @property
    def loss(self) -> float:
        """Share of the windows that were dropped."""
        return self.dropped / self.arrived if self.arrived else 0.0

    def latency_s(self, share: float) -> float:
        """Within which so many of the texts came."""
        return float(np.quantile(self.latencies_s, share)) if self.latencies_s else 0.0


def together(parts: Iterable[Counted]) -> Counted:
    """The sum of several."""
    whole = Counted()
    for part in parts:
        for name in Counted.__slots__:
            setattr(whole, name, getattr(whole, name) + getattr(part, name))
    return whole


def simulate(load: WorkerLoad, seed: int, measured_s: float | None = None) -> Counted:
    """One worker for ``measured_s`` seconds; by default for long enough.

    It begins with a full queue, so that too much shows at once, and nothing is counted for two and a half times L_max.
    """
    warm_s = 2.5 * load.max_latency_s
    if measured_s is None:
        measured_s = max(MEASURED_S, MEASURED_WINDOWS * load.policy.window_s / load.streams)
    run = _Run(load, np.random.default_rng(seed), warm_s)
    run.until(warm_s + measured_s)
    return run.counted(measured_s)


class _Run:
    """Of one seed. Not thread-safe."""

    def __init__(self, load: WorkerLoad, rng: np.random.Generator, warm_s: float) -> None:
        self._load, self._rng, self._warm_s = load, rng, warm_s
        self._now_s = 0.0
        self._duration_s = load.policy.window_s
        self._capacity = Capacity(load.slots_for, float(np.median(load.service.with_context_s)) / self._duration_s)
        self._queue = JobQueue(self._capacity.slots, clock=lambda: self._now_s)
        self._outside: deque[Job] = deque()  # windows that wait for a slot
        self._running: Job | None = None
        self._counted = Counted()
        self._order = count()  # between things that happen at the same time
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        for number in range(load.streams):
            start_s = rng.uniform(0, self._duration_s)
            self._follow(str(number), windows(load.talk, load.policy, rng, self._eager, start_s))
        for number in range(self._capacity.slots):
            self._put(str(number % load.streams))

    def until(self, end_s: float) -> None:
        """Let happen what happens before ``end_s``."""
        while self._due and self._due[0][0] < end_s:
            self._now_s, _, happen = heapq.heappop(self._due)
            happen()
        self._now_s = end_s

    def counted(self, measured_s: float) -> Counted:
        """What was counted so far."""
        waiting = [*self._outside, *self._queue.clear(), *([self._running] if self._running else [])]
        self._counted.pending = sum(job.arrived_s >= self._warm_s and job.lane is Lane.FINAL for job in waiting)
        self._counted.counted_s = measured_s
        return self._counted

    def _eager(self) -> bool:
        """In durable mode cuts depend on the audio alone."""
        return self._load.waits or not self._queue.depth

    def _at(self, at_s: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._due, (at_s, next(self._order), happen))

    def _follow(self, stream: str, events: Iterator[Due]) -> None:
        due = next(events)

        def happen() -> None:
            if due.complete:
                self._put(stream)
            self._follow(stream, events)

        self._at(due.at_s, happen)

    def _put(self, stream: str) -> None:
        """A window of ``stream`` is complete."""
        job = Job(stream, NO_SAMPLES, "en", _ignore, arrived_s=self._now_s)
        self._counted.arrived += self._counts(job)
        if self._load.waits and (self._outside or not self._queue.has_room(Lane.FINAL)):
            self._outside.append(job)
        elif refused := self._queue.try_put(job):
            self._counted.dropped += self._counts(refused)
        self._run_next()

    def _counts(self, job: Job) -> bool:
        return job.arrived_s >= self._warm_s

    def _run_next(self) -> None:
        """Give the worker its next job, if it has none."""
        if self._running:
            return
        if self._load.service.file_s and self._queue.has_room(Lane.FILE):
            self._queue.try_put(Job("file", NO_SAMPLES, "en", _ignore, Lane.FILE, arrived_s=self._now_s))
        job = self._running = self._queue.poll()
        if job is None:
            return
        while self._outside and self._queue.has_room(Lane.FINAL):
            self._queue.try_put(self._outside.popleft())
        took_s = self._time_s(job)
        if self._now_s >= self._warm_s:
            self._counted.busy_s += took_s
        self._at(self._now_s + took_s, lambda: self._finish(job, took_s))

    def _time_s(self, job: Job) -> float:
        service = self._load.service
        if job.lane is Lane.FILE:
            return service.file_s
        depth = 0 if self._load.waits else self._queue.depth
        plain = skips_left_context(depth, self._queue.capacity, self._capacity.rtf)
        self._counted.shortened += plain and self._counts(job)
        return float(np.interp(self._rng.random(), QUANTILES, service.plain_s if plain else service.with_context_s))

    def _finish(self, job: Job, took_s: float) -> None:
        self._running = None
        if job.lane is Lane.FILE:
            self._counted.file_windows += self._now_s >= self._warm_s
        else:
            if self._capacity.update(took_s / self._duration_s):
                self._queue.capacity = self._capacity.slots
            if self._counts(job):
                self._counted.latencies_s.append(self._now_s - job.arrived_s)
        self._run_next()


def _ignore(_job: Job, _outcome: Outcome) -> None:
    """Nobody waits for the text."""
