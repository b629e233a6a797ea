"""The one thread that blocks: takes jobs, asks the model, hands outcomes to the event loop."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable

from transcriber.engine.job import Job, SpeechModel, Transcript
from transcriber.engine.job_queue import JobQueue
from transcriber.engine.warm_up import warm_up
from transcriber.errors import EngineError

THREAD_NAME = "whisper-"
"""What the names of the workers' threads begin with."""

Outcome = Transcript | EngineError


class Worker:
    """One model, one queue, one long-lived thread (the OpenMP team of a model belongs to its caller).

    The thread reaches the event loop only by ``call_soon_threadsafe``; every job is settled there, once.

    Attributes:
        queue: what waits for this worker.
        model: once ``ready``.
        rtf: processing time over audio time, measured on the loaded model; once ``ready``.
        ready: resolves when the model is warm; raises what loading raised.
        finished: resolves when the thread has ended as asked; raises what killed it.
    """

    def __init__(self, name: str, load: Callable[[], SpeechModel], *, duration_s: float, max_latency_s: float) -> None:
        self.queue = JobQueue()
        self.model: SpeechModel
        self.rtf = 0.0
        self._loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = self._loop.create_future()
        self.finished: asyncio.Future[None] = self._loop.create_future()
        self._load = load
        self._duration_s = duration_s
        self._limit_s = max_latency_s
        self._job: Job | None = None  # in hand; written by the thread
        self._abandoned: Job | None = None  # settled without waiting for the thread
        self._cancelled = False
        self._busy_s = 0.0
        # A daemon: a call that never comes back must not keep the process.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def busy_s(self) -> float:
        """Seconds spent on jobs so far, the running one included."""
        job = self._job
        return self._busy_s + (time.monotonic() - job.started_s if job else 0.0)

    @property
    def overdue(self) -> bool:
        """Whether the job in hand runs longer than its limit."""
        job = self._job
        return job is not None and time.monotonic() - job.started_s > self._limit_s

    def cancel(self) -> list[Job]:
        """Abort the job in hand, as soon as whisper asks, and empty the queue; returns what was queued."""
        self._cancelled = True
        return self.queue.clear()

    def abandon(self) -> None:
        """Settle the job in hand without its thread; event loop only."""
        job = self._job
        if job is not None and not self.finished.done():
            self._abandoned = job
            job.settle(job, EngineError("abandoned: it did not answer in time", reason="shutdown"))

    def _run(self) -> None:
        """The thread. Its outermost frame: whatever escapes here ends the process."""
        job: Job | None = None
        try:
            self.model = self._load()
            self.rtf = warm_up(self.model, self._duration_s)
            # A slow model is not a stuck one: leave room for four times its usual time.
            self._limit_s = max(self._limit_s, 4 * self.rtf * self._duration_s)
            self._call(_resolve, self.ready, None)
            while (job := self.queue.get()) is not None:
                self._call(self._settle, job, self._work(job))
        except BaseException as error:  # noqa: BLE001 - handed to the loop, which raises it
            if job is not None:
                self._call(self._settle, job, EngineError("the worker's thread died of it"))
            self._call(_resolve, self.finished if self.ready.done() else self.ready, error)
        else:
            self._call(_resolve, self.finished, None)

    def _work(self, job: Job) -> Outcome:
        job.started_s = time.monotonic()
        self._job = job
        deadline_s = job.started_s + self._limit_s
        try:
            return self.model.transcribe(
                job.samples, job.language, lambda: self._cancelled or time.monotonic() > deadline_s
            )
        except EngineError as error:
            if self._cancelled:
                return EngineError("cancelled at shutdown", reason="shutdown", return_code=error.return_code)
            if time.monotonic() > deadline_s:
                return EngineError(f"took longer than {self._limit_s:.1f} s", return_code=error.return_code)
            return error
        finally:
            job.finished_s = time.monotonic()
            self._busy_s += job.finished_s - job.started_s
            self._job = None

    def _settle(self, job: Job, outcome: Outcome) -> None:
        """Event loop only."""
        if job is not self._abandoned:
            job.settle(job, outcome)

    def _call(self, function: Callable[..., None], *args: object) -> None:
        # The loop is closed when an abandoned job comes back after all; nobody waits for it.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *args)


def _resolve(future: asyncio.Future[None], error: BaseException | None) -> None:
    """Event loop only."""
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
