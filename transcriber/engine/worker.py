"""The one thread that blocks: takes jobs, runs the model, hands outcomes to the event loop."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from transcriber.engine.capacity import Capacity, is_under_load, skips_left_context
from transcriber.engine.job import Job, Lane, Outcome, RestartingModel, Settle, SpeechModel
from transcriber.engine.job_queue import JobQueue
from transcriber.engine.language_detection import transcribe_job
from transcriber.engine.speculation import SpeculativeAnswer
from transcriber.engine.transcript import Transcript
from transcriber.engine.warm_up import Label, warm_up
from transcriber.errors import EngineError

log = logging.getLogger(__name__)

IDLE_LANES = frozenset({Lane.PARTIAL, Lane.SECOND_PASS})
"""Jobs for idle time: they are aborted for what arrives."""


class Worker:
    """One model, one queue, one long-lived thread (the OpenMP team of a model belongs to its caller).

    The thread reaches the event loop only by ``call_soon_threadsafe``; every job is settled there, once.

    Attributes:
        name: of its thread.
        queue: what waits for this worker.
        model: once ``ready``.
        capacity: of the queue, as it follows the model's speed; once ``ready``.
        ready: resolves when the model is warm; raises what loading raised.
        finished: resolves when the thread has ended as asked; raises what killed it.
        on_room: callbacks, called on the event loop when a job has left the queue.
    """

    def __init__(
        self,
        name: str,
        load: Callable[[], SpeechModel],
        *,
        duration_s: float,
        max_latency_s: float,
        capacity_for: Callable[[float], int],
        left_s: float = 0.0,
        label: Label | None = None,
    ) -> None:
        """``capacity_for`` gives the queue's capacity for a real-time factor; ``left_s`` is the left context of a window.

        ``label`` finds the speakers of a window, if voices are distinguished.
        """
        self.name = name
        self.queue = JobQueue()
        self.model: SpeechModel
        self.capacity: Capacity
        self._loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = self._loop.create_future()
        self.finished: asyncio.Future[None] = self._loop.create_future()
        self.on_room: list[Callable[[], None]] = []
        self._restarting: RestartingModel | None = None  # the model, if it is one
        self._load = load
        self._duration_s, self._left_s, self._label = duration_s, left_s, label
        self._capacity_for = capacity_for
        self._limit_s = self._max_latency_s = max_latency_s
        self._offer: _Offer | None = None  # written by the loop, taken by the thread
        self._job: Job | None = None  # running; written by the thread
        self._abandoned: Job | None = None  # settled without waiting for the thread
        self._cancelled = False
        self._busy_s = 0.0
        self._labelled_s = 0.0  # how long the speakers of a window took last
        self._speculation = SpeculativeAnswer()
        # A daemon: a call that never returns must not keep the process.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def crashed(self) -> bool:
        """Whether its thread died of an error."""
        return self.finished.done() and self.finished.exception() is not None

    @property
    def healthy(self) -> bool:
        """Whether its thread lives, no job runs longer than its limit, and the model's process, if it has one, is not away for long."""
        late = self._restarting is not None and self._restarting.late
        return self.alive and not self.overdue and not late

    @property
    def restarts(self) -> int:
        """How often the model's process was started again."""
        return self._restarting.restarts if self._restarting else 0

    @property
    def busy_s(self) -> float:
        """Seconds spent on jobs so far, the running one included; without partials and second passes."""
        job = self._job
        return self._busy_s + (time.monotonic() - job.started_s if job and _is_work(job) else 0.0)

    @property
    def overdue(self) -> bool:
        """Whether the running job exceeds its limit."""
        job = self._job
        return job is not None and time.monotonic() - job.started_s > self._limit_of(job)

    async def transcribe(self, make_job: Callable[[Settle], Job]) -> tuple[Job, Outcome] | None:
        """Queue a job and wait for its outcome; None if the queue refuses it. Event loop only.

        ``make_job`` makes it, given what settles it. A cancelled caller takes its job out of the queue.
        """
        settled: asyncio.Future[tuple[Job, Outcome]] = self._loop.create_future()

        def settle(job: Job, outcome: Outcome) -> None:
            if not settled.done():
                settled.set_result((job, outcome))

        job = make_job(settle)
        if self.queue.try_put(job):
            return None
        try:
            return await settled
        finally:
            self.queue.withdraw(job)

    def warm_up(self, model: SpeechModel) -> float:
        """RTF of a model for the windows of this worker, tried on bundled speech. On any thread; ``model`` is in use by no other.

        Raises:
            ModelError: it failed.
        """
        return warm_up(model, self._duration_s, self._left_s, self._label)

    async def replace_model(self, model: SpeechModel, rtf: float) -> SpeechModel:
        """Have the thread use ``model`` from its next job on; returns the one that is not used any more. Event loop only.

        That is the model before; or, if the thread has ended meanwhile, ``model``.
        """
        freed: asyncio.Future[SpeechModel] = self._loop.create_future()
        self._offer = _Offer(model, rtf, freed)
        self.queue.wake()
        either: set[asyncio.Future[Any]] = {freed, self.finished}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        return freed.result() if freed.done() else model

    def fail(self, error: BaseException) -> None:
        """It has no model, and will have none: end as if its thread had died of ``error``. Event loop only."""
        _resolve(self.finished, error)

    def cancel(self) -> list[Job]:
        """Abort the running job, as soon as whisper checks, and empty the queue; returns the queued jobs."""
        self._cancelled = True
        return self.queue.clear()

    def abandon(self) -> None:
        """Settle the running job without its thread; event loop only."""
        job = self._job
        if job is not None and not self.finished.done():
            self._abandoned = job
            job.settle(job, EngineError("abandoned: it did not answer in time", reason="shutdown"))

    def _run(self) -> None:
        """The thread's outermost frame: what escapes here ends the process."""
        job: Job | None = None
        try:
            model = self._load()
            rtf = self.warm_up(model)
            self.capacity = Capacity(self._capacity_for, rtf)
            self._take_model(model, rtf)
            self._call(_resolve, self.ready, None)
            while (job := self._next_job()) is not None:
                for callback in self.on_room:
                    self._call(callback)
                self._call(self._settle, job, self._work(job))
                job = None  # settled: what comes to pass while the next one is waited for is not its failure
            self.model.close()
        except BaseException as error:  # noqa: BLE001 - handed to the loop, which raises it
            if job is not None:
                self._call(self._settle, job, EngineError("the worker's thread died of it"))
            self._call(_resolve, self.finished if self.ready.done() else self.ready, error)
        else:
            self._call(_resolve, self.finished, None)

    def _next_job(self) -> Job | None:
        """Waits for it; None once the queue is closed and empty. While the model's process is away no job leaves the queue.

        Between two jobs a model that is offered takes the place of the present one.
        """
        while True:
            if self._offer:
                (model, rtf, freed), self._offer = self._offer, None
                before = self.model
                self._take_model(model, rtf)
                self._call(_give, freed, before)
            if self._restarting:
                self.queue.count_finished()  # the time in which the process is away is no job's
                self._restarting.wait(lambda: self._cancelled or self.queue.drained or self._offered())
            job = self.queue.get(self._offered)
            if job is not None or not self._offered():
                return job

    def _offered(self) -> bool:
        return self._offer is not None

    def _take_model(self, model: SpeechModel, rtf: float) -> None:
        """Use ``model`` from the next job on."""
        before, self._restarting = self._restarting, model if isinstance(model, RestartingModel) else None
        if before:
            before.on_failure = _ignore  # until it is closed it may still die
        if self._restarting:
            self._restarting.restarts += before.restarts if before else 0  # it counts those of this worker
            self._restarting.on_failure = partial(self._call, _resolve, self.finished)
        self.model = model
        self._call(self._measure_again, rtf)
        # A slow model is not a stuck one: leave room for four times its usual time.
        self._limit_s = max(self._max_latency_s, 4 * rtf * self._duration_s)
        self._speculation = SpeculativeAnswer()  # a final names one model

    def _measure_again(self, rtf: float) -> None:
        """Another model works, of which no job is settled yet. Event loop only."""
        self.capacity.start_again(rtf)
        self.queue.capacity = self.capacity.slots

    def _work(self, job: Job) -> Outcome:
        job.started_s, job.model = time.monotonic(), self.model.name
        self._job = job
        limit_s = self._limit_of(job)
        deadline_s = job.started_s + limit_s
        transcript: Transcript | None = None
        try:
            should_abort = partial(self._should_abort, job, deadline_s)
            transcript = self._transcribe(job, should_abort)
            self._find_speakers(job, should_abort)
        except EngineError as error:
            if self._cancelled:
                return EngineError("cancelled at shutdown", reason="shutdown", return_code=error.return_code)
            if time.monotonic() > deadline_s:
                return EngineError(f"took longer than {limit_s:.1f} s", return_code=error.return_code)
            return error
        else:
            return transcript
        finally:
            job.update_history(transcript)
            job.finished_s = time.monotonic()
            if _is_work(job):
                self._busy_s += job.finished_s - job.started_s
            self._job = None

    def _limit_of(self, job: Job) -> float:
        """Seconds that ``job`` may take: a longer window takes longer."""
        return self._limit_s * max(1.0, job.duration_s / self._duration_s)

    def _should_abort(self, job: Job, deadline_s: float) -> bool:
        gives_way = job.lane in IDLE_LANES and self.queue.must_yield(job)
        return self._cancelled or gives_way or time.monotonic() > deadline_s

    def _transcribe(self, job: Job, should_abort: Callable[[], bool]) -> Transcript:
        """Transcribe with the effort that the queue allows; or return the speculative transcript."""
        if job.lane is Lane.FINAL and (answer := self._speculation.take(job)):
            job.answered_speculatively = True
            return answer
        if job.speculative:
            self._speculation.begin(job)
        under_load = self._under_load(job)
        skip_lead = skips_left_context(self._depth_for(job), self.queue.capacity, self.capacity.rtf)
        answer = transcribe_job(self.model, job, should_abort, under_load=under_load, skip_lead=skip_lead)
        if job.speculative:
            self._speculation.store(answer)
        return answer

    def _find_speakers(self, job: Job, should_abort: Callable[[], bool]) -> None:
        """Find who speaks in ``job``, which has its text.

        Raises:
            EngineError: other work has arrived for which it gives way.
        """
        if job.speakers is None:
            return
        gives_way = should_abort if job.lane in IDLE_LANES else _never
        if gives_way():
            raise EngineError("given up before its speakers were found")
        begun_s = time.monotonic()
        stops = self._cancelled and not job.deterministic  # what must not depend on that is the next daemon's
        job.speakers.find(busy=stops or self._under_load(job), should_abort=gives_way)
        if job.lane is Lane.FINAL:
            self._labelled_s = time.monotonic() - begun_s

    def _depth_for(self, job: Job) -> int:
        """How many windows wait, as far as that may change what becomes of ``job``."""
        return 0 if job.deterministic else self.queue.depth

    def _under_load(self, job: Job) -> bool:
        """Whether the queue is more than half full: then only what is needed is done."""
        return is_under_load(self._depth_for(job), self.queue.capacity)

    def _settle(self, job: Job, outcome: Outcome) -> None:
        """Event loop only."""
        # The speakers of a window whose text was made ahead are found when it is sure.
        ahead_s = self._labelled_s if job.speculative else 0.0
        rtf = (job.finished_s - job.started_s + ahead_s) / self._duration_s
        # A job that failed at once says nothing about speed; a queue that grew by it would be too long.
        answered = isinstance(outcome, Transcript)
        final = job.lane is Lane.FINAL and not job.answered_speculatively
        counts = (final and (answered or rtf > self.capacity.rtf)) or (job.speculative and answered)
        if counts and self.capacity.update(rtf):
            self.queue.capacity = self.capacity.slots
            log.info(
                "queue capacity follows the speed of whisper",
                extra={
                    "worker": self.name,
                    "queue_capacity": self.capacity.slots,
                    "rtf": round(self.capacity.rtf, 4),
                },
            )
        if job is not self._abandoned:
            job.settle(job, outcome)

    def _call(self, function: Callable[..., None], *args: object) -> None:
        # The loop may be closed when an abandoned job returns after all; nothing waits for it.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *args)


class _Offer(NamedTuple):
    """A model for the thread to use, and its RTF; ``freed`` resolves with the one before."""

    model: SpeechModel
    rtf: float
    freed: "asyncio.Future[SpeechModel]"


def _never() -> bool:
    return False


def _ignore(_: BaseException) -> None:
    """Of a model that is not used any more."""


def _give(future: "asyncio.Future[SpeechModel]", model: SpeechModel) -> None:
    """Event loop only."""
    if not future.done():
        future.set_result(model)


def _is_work(job: Job) -> bool:
    """Whether its time would be needed in any case; of a speculative job that is likely."""
    return job.lane not in IDLE_LANES or job.speculative


def _resolve(future: asyncio.Future[None], error: BaseException | None) -> None:
    """Event loop only."""
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
