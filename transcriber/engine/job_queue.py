"""The one place that refuses work: a bounded, fair queue before one worker.

In: jobs, put by the event loop, which never waits. Out: jobs, taken by the worker thread, which blocks.
"""

import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from threading import Condition

from transcriber.engine.job import FILE_LANES, Job, Lane
from transcriber.errors import EngineError

OTHER_BOUNDS = {Lane.REQUEST: 16, Lane.PARTIAL: 1, Lane.URGENT_FILE: 1, Lane.FILE: 1, Lane.SECOND_PASS: 4}
"""Slots of the lanes beside ``final``, whose bound is the queue's capacity. A partial's slot is the hand-over to the worker."""

UNHURRIED = frozenset({*FILE_LANES, Lane.SECOND_PASS})

FILE_SHARE = 0.05
"""Of the worker's time, reserved for each lane of files under any load, so that they end; it costs the other lanes as much."""

SECOND_PASS_SHARE = 0.25
"""Of the worker's time, at most, for second passes: a window that arrives meanwhile waits for one."""


class JobQueue:
    """Lanes by priority, but for the share of files; within each lane round-robin over streams. The second-pass lane pauses after each job.

    Thread-safe. Invariant: a job of a lane with ``n`` slots is taken at the latest as the n-th one of its
    lane after it was put, so in the ``final`` lane time in the queue <= capacity x job time, whatever
    the other streams do, plus the share of files.

    Attributes:
        depth: waiting ``final`` jobs; at most ``capacity``.
    """

    def __init__(self, capacity: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        self._lanes = {lane: _Lane(OTHER_BOUNDS.get(lane, capacity)) for lane in Lane}
        self._finals = self._lanes[Lane.FINAL]
        self._changed = Condition()
        self._closed = False
        self._waiting = False  # whether the worker waits for a job
        self._clock = clock
        self._in_hand: tuple[Lane, float] | None = None  # lane of the running job, and since when
        self._reserved = {lane: _ReservedTime() for lane in FILE_LANES}
        self._after_file = False  # whether the job before was a file's
        self._rested_at_s = -math.inf  # when the next second pass may start

    @property
    def capacity(self) -> int:
        """Slots of the ``final`` lane."""
        return self._finals.bound

    @capacity.setter
    def capacity(self, slots: int) -> None:
        self._finals.bound = slots

    @property
    def depth(self) -> int:
        return len(self._finals)

    @property
    def idle(self) -> bool:
        """Whether a partial would be taken: the worker waits, or runs an unhurried job, and no urgent one is queued."""
        in_hand = self._in_hand
        at_leisure = in_hand is not None and in_hand[0] in UNHURRIED
        return (self._waiting or at_leisure) and not self._hurried

    def must_yield(self, job: Job) -> bool:
        """Whether a job waits that ``job``, a partial or a second pass, must not delay."""
        finals = len(self._finals)
        if finals and job.speculative:
            with self._changed:  # its own final needs its transcript
                finals -= sum(job.may_answer(final) for final in self._finals.jobs_of(job.stream))
        return bool(self._closed or finals > 0 or len(self._lanes[Lane.REQUEST]))

    @property
    def drained(self) -> bool:
        """Whether it is closed and no job will be taken any more."""
        with self._changed:
            return self._closed and self._next_lane() is None

    def has_room(self, lane: Lane) -> bool:
        """Whether the lane has a free slot."""
        return len(self._lanes[lane]) < self._lanes[lane].bound

    def try_put(self, job: Job) -> Job | None:
        """Never waits. Returns the job that is refused: None, ``job``, or the newest of another stream.

        A partial is taken only while the queue is ``idle``: it uses time that would be wasted.

        When the lane is full, the newest job of the stream with the most slots is refused, the arriving
        job counted in; on a tie the arriving one. So a flooding stream loses its own windows.
        """
        with self._changed:
            if self._closed or (job.lane is Lane.PARTIAL and not self.idle):
                return job
            refused = self._lanes[job.lane].put(job)
            if refused is not job:
                self._changed.notify()
            return refused

    def full_error(self, lane: Lane) -> EngineError:
        """The outcome of a refused job that does not wait for a slot."""
        return EngineError(f"no place in the queue: {len(self._lanes[lane])} wait", reason="queue_full")

    def withdraw(self, job: Job) -> bool:
        """Take a job out whose caller is gone; False if it is not queued any more."""
        with self._changed:
            return self._lanes[job.lane].withdraw(job)

    def count_finished(self) -> None:
        """The running job is done, and the next one will be taken later. ``get`` does the same."""
        with self._changed:
            self._count_finished()

    def get(self, should_return: Callable[[], bool] = lambda: False) -> Job | None:
        """Waits for the next job; None once the queue is closed and empty, or ``should_return``, which is asked before each and at ``wake``."""
        with self._changed:
            self._count_finished()
            while not should_return():
                if job := self._take():
                    return job
                if self._closed:
                    return None
                self._waiting = True
                rests = len(self._lanes[Lane.SECOND_PASS])
                self._changed.wait(max(0.0, self._rested_at_s - self._clock()) if rests else None)
                self._waiting = False
            return None

    def wake(self) -> None:
        """Have ``get`` ask its ``should_return`` now."""
        with self._changed:
            self._changed.notify()

    def poll(self) -> Job | None:
        """The next job, as ``get`` gives it; None if none may be taken now."""
        with self._changed:
            self._count_finished()
            return self._take()

    def _take(self) -> Job | None:
        """The job whose turn it is; None if there is none."""
        if not (kind := self._next_lane()):
            return None
        self._in_hand = kind[0], self._clock()
        return kind[1].take()

    def _next_lane(self) -> "tuple[Lane, _Lane] | None":
        """The lane whose turn it is."""
        if not (self._after_file and self._hurried):  # what is hurried waits for one window of a file at most
            for kind, reserved in self._reserved.items():
                if len(self._lanes[kind]) and reserved.due:
                    return kind, self._lanes[kind]
        return next(((kind, lane) for kind, lane in self._lanes.items() if len(lane) and self._may_take(kind)), None)

    @property
    def _hurried(self) -> bool:
        """Whether anything waits that is not unhurried."""
        return any(len(self._lanes[lane]) for lane in Lane if lane not in UNHURRIED)

    def _may_take(self, kind: Lane) -> bool:
        return kind is not Lane.SECOND_PASS or (not self._closed and self._clock() >= self._rested_at_s)

    def _count_finished(self) -> None:
        """The running job is done: count the time it took."""
        if self._in_hand is None:
            return
        kind, since_s = self._in_hand
        self._in_hand = None
        now_s = self._clock()
        took_s = now_s - since_s
        if kind is Lane.SECOND_PASS:
            self._rested_at_s = now_s + took_s * (1 / SECOND_PASS_SHARE - 1)
        self._after_file = kind in FILE_LANES
        for lane, reserved in self._reserved.items():
            if kind is lane:
                reserved.use(took_s)
            elif len(self._lanes[lane]):
                reserved.accrue(took_s)

    def close(self) -> None:
        """Refuse new jobs; those queued can still be taken, but for second passes."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def clear(self) -> list[Job]:
        """Empty the queue; returns its jobs, oldest first."""
        with self._changed:
            return [job for lane in self._lanes.values() for job in lane.clear()]


class _ReservedTime:
    """What a lane of files has used of its share. Not thread-safe; the queue's lock is held."""

    def __init__(self) -> None:
        self._job_s: float | None = None  # how long its last job took
        self._owed_s = 0.0

    @property
    def due(self) -> bool:
        """Whether a waiting job's time has come."""
        return self._job_s is not None and self._owed_s > self._job_s

    def use(self, took_s: float) -> None:
        """A job of the lane took so long."""
        self._job_s, self._owed_s = took_s, max(0.0, self._owed_s - took_s)

    def accrue(self, took_s: float) -> None:
        """A job waited while another lane's took so long."""
        self._owed_s += FILE_SHARE / (1 - FILE_SHARE) * took_s
        self._job_s = took_s if self._job_s is None else self._job_s  # an estimate, until a job was timed


class _Lane:
    """Jobs of one priority. Not thread-safe; the queue's lock is held."""

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self._streams: OrderedDict[str, deque[Job]] = OrderedDict()  # the next stream first
        self._due: dict[Job, int] = {}  # in the order of arrival: the latest take that serves the job
        self._taken = 0

    def __len__(self) -> int:
        return len(self._due)

    def jobs_of(self, stream: str) -> Iterable[Job]:
        """The waiting jobs of one stream."""
        return self._streams.get(stream, ())

    def put(self, job: Job) -> Job | None:
        refused = None
        if len(self._due) >= self.bound:
            refused = self._newest_of_the_fullest(job)
            if refused is job:
                return job
            self._remove(refused)
        self._streams.setdefault(job.stream, deque()).append(job)
        self._due[job] = self._taken + self.bound
        return refused

    def take(self) -> Job:
        job = next(iter(self._streams.values()))[0]
        if not self._may_go_first(job):
            job = next(iter(self._due))
        self._taken += 1
        self._remove(job)
        if job.stream in self._streams:
            self._streams.move_to_end(job.stream)
        return job

    def withdraw(self, job: Job) -> bool:
        waits = job in self._due
        if waits:
            self._remove(job)
        return waits

    def clear(self) -> list[Job]:
        jobs = list(self._due)
        self._streams.clear()
        self._due.clear()
        return jobs

    def _newest_of_the_fullest(self, arriving: Job) -> Job:
        held = {stream: len(jobs) for stream, jobs in self._streams.items()}
        fullest = max(held, key=held.__getitem__)
        if held.get(arriving.stream, 0) + 1 >= held[fullest]:
            return arriving
        return self._streams[fullest][-1]

    def _may_go_first(self, job: Job) -> bool:
        """Whether all others are still taken in time if ``job`` goes first."""
        others = (due for other, due in self._due.items() if other is not job)
        return all(due > self._taken + place for place, due in enumerate(others, start=1))

    def _remove(self, job: Job) -> None:
        jobs = self._streams[job.stream]
        jobs.remove(job)
        if not jobs:
            del self._streams[job.stream]
        del self._due[job]
