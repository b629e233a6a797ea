"""The files of a daemon: a worker that has no job takes one.

In: jobs of the work queue, which any daemon may take. Out: each is over, or back in the queue.
"""

import asyncio
import logging
from functools import partial

from transcriber.engine.job import Lane
from transcriber.engine.pool import WorkerPool
from transcriber.engine.queue_slots import QueueSlots
from transcriber.engine.worker import Worker
from transcriber.errors import FencedError, RefusedError, UnansweredError
from transcriber.files.attempt import RETRY_S, AttemptEnd, FileAttempt, Retry
from transcriber.files.job_store import StoredRecord
from transcriber.files.transcription import FileRuntime
from transcriber.files.work_queue import TakenJob, WorkQueue
from transcriber.tasks import cancel

log = logging.getLogger(__name__)


class FileRunner:
    """Event loop only."""

    def __init__(self, pool: WorkerPool, queue: WorkQueue, shared: FileRuntime) -> None:
        self._queue, self._shared = queue, shared
        self._slots = {worker: QueueSlots(worker, Lane.FILE) for worker in pool.workers}
        self._free: asyncio.Queue[Worker] = asyncio.Queue()
        self._attempts: dict[asyncio.Task[None], FileAttempt] = {}
        self._taking: asyncio.Task[None] | None = None

    @property
    def running(self) -> int:
        """Jobs that this daemon works at."""
        return len(self._attempts)

    async def start(self) -> None:
        """Be ready to take jobs.

        Raises:
            BrokerError: the broker does not let us.
        """
        await self._queue.start()

    async def run(self) -> None:
        """Take jobs until cancelled: one for each worker at a time.

        Raises:
            What taking them raises unexpectedly: that is a crash.
        """
        for worker in self._slots:
            self._free.put_nowait(worker)
        self._taking = asyncio.create_task(self._take())
        try:
            await asyncio.wait({self._taking})
            if not self._taking.cancelled():
                self._taking.result()
            await asyncio.get_running_loop().create_future()
        finally:
            await cancel([self._taking, *self._attempts])

    async def drain(self) -> None:
        """Take no more; what is begun is the next daemon's."""
        if self._taking:
            await cancel([self._taking])
        await asyncio.gather(*(attempt.stop() for attempt in self._attempts.values()))

    async def finish(self, timeout_s: float) -> None:
        """Wait until what the workers have transcribed is stored, and give the jobs back."""
        if self._attempts:
            await asyncio.wait(self._attempts, timeout=timeout_s)
            await cancel(self._attempts)

    async def _take(self) -> None:
        while True:
            worker = await self._free.get()
            if await self._begin(worker, await self._queue.next_job()) is None:
                self._free.put_nowait(worker)

    async def _begin(self, worker: Worker, taken: TakenJob) -> FileAttempt | None:
        """Have ``worker`` work at a job; None if it cannot be just now, or need not be."""
        if taken.job in (attempt.job for attempt in self._attempts.values()):
            await taken.abandon()  # the broker's ``ack_wait`` had passed without an answer of ours
            return None
        try:
            stored = await self._shared.jobs.record(taken.job) or StoredRecord(taken.record, 0)
        except (UnansweredError, RefusedError):
            await taken.retry(RETRY_S)
            return None
        except asyncio.CancelledError:
            await taken.retry()
            raise
        attempt = FileAttempt(self._shared, stored, worker, self._slots[worker])
        task = asyncio.create_task(self._attempt(taken, attempt))
        self._attempts[task] = attempt
        task.add_done_callback(partial(self._over, worker))
        return attempt

    async def _attempt(self, taken: TakenJob, attempt: FileAttempt) -> None:
        """One attempt, and its end for the work queue."""
        end: AttemptEnd
        try:
            end = await attempt.run()
        except FencedError as error:
            log.info("file left to another daemon: %s", error, extra={"job": taken.job})
            await taken.abandon()
            return
        except (UnansweredError, RefusedError) as error:
            self._shared.runtime.warnings.warning(
                "files", "a file cannot be started or ended: %s", error, job=taken.job
            )
            end = Retry(RETRY_S)
        except asyncio.CancelledError:
            await taken.retry()
            raise
        except Exception:  # no other daemon gets it while its lease is extended
            log.exception("file abandoned", extra={"job": taken.job})
            await taken.abandon()
            return
        await (taken.retry(end.after_s) if isinstance(end, Retry) else taken.done())

    def _over(self, worker: Worker, task: asyncio.Task[None]) -> None:
        del self._attempts[task]
        self._free.put_nowait(worker)
