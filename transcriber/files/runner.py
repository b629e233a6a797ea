"""The files of a daemon: jobs are taken when a worker has none, and worked through.

In: jobs of the work queue, which any daemon may take. Out: each is over some day, or back in the queue.
"""

import asyncio
import logging
from functools import partial

from transcriber.engine.job import Lane
from transcriber.engine.pool import WorkerPool
from transcriber.engine.queue_slots import QueueSlots
from transcriber.engine.worker import Worker
from transcriber.errors import FencedError, RefusedError, UnansweredError
from transcriber.files.attempt import RETRY_S, FileAttempt
from transcriber.files.job_store import StoredRecord
from transcriber.files.transcription import FileRuntime
from transcriber.files.work_queue import TakenJob, WorkQueue
from transcriber.tasks import cancel

log = logging.getLogger(__name__)


class FileRunner:
    """Event loop only."""

    def __init__(self, pool: WorkerPool, feed: WorkQueue, room: FileRuntime) -> None:
        self._feed, self._room = feed, room
        self._places = {worker: QueueSlots(worker, Lane.FILE) for worker in pool.workers}
        self._free: asyncio.Queue[Worker] = asyncio.Queue()
        self._works: dict[asyncio.Task[None], FileAttempt] = {}
        self._taking: asyncio.Task[None] | None = None

    @property
    def running(self) -> int:
        """Jobs at which this daemon is."""
        return len(self._works)

    async def start(self) -> None:
        """Be ready to take jobs.

        Raises:
            BrokerError: the broker does not let us.
        """
        await self._feed.start()

    async def run(self) -> None:
        """Take jobs until cancelled: one for each worker at a time.

        Raises:
            Whatever taking them raised that it should not: that is a crash.
        """
        for worker in self._places:
            self._free.put_nowait(worker)
        self._taking = asyncio.create_task(self._take())
        try:
            await asyncio.wait({self._taking})
            if not self._taking.cancelled():
                self._taking.result()
            await asyncio.get_running_loop().create_future()
        finally:
            await cancel([self._taking, *self._works])

    async def drain(self) -> None:
        """Take no more; what is begun is the next daemon's."""
        if self._taking:
            await cancel([self._taking])
        await asyncio.gather(*(work.stop() for work in self._works.values()))

    async def finish(self, timeout_s: float) -> None:
        """Wait until what the workers have made is stored, and give the jobs back."""
        if self._works:
            await asyncio.wait(self._works, timeout=timeout_s)
            await cancel(self._works)

    async def _take(self) -> None:
        while True:
            worker = await self._free.get()
            if await self._begin(worker, await self._feed.next_job()) is None:
                self._free.put_nowait(worker)

    async def _begin(self, worker: Worker, taken: TakenJob) -> FileAttempt | None:
        """Have ``worker`` work at a job; None if it cannot be just now, or need not be."""
        if taken.job in (work.job for work in self._works.values()):
            await taken.leave()  # the broker had not heard of us for a while; from now on it does
            return None
        try:
            kept = await self._room.desk.record(taken.job) or StoredRecord(taken.record, 0)
        except (UnansweredError, RefusedError):
            await taken.retry(RETRY_S)
            return None
        except asyncio.CancelledError:
            await taken.retry()
            raise
        work = FileAttempt(self._room, kept, worker, self._places[worker])
        attempt = asyncio.create_task(self._attempt(taken, work))
        self._works[attempt] = work
        attempt.add_done_callback(partial(self._over, worker))
        return work

    async def _attempt(self, taken: TakenJob, work: FileAttempt) -> None:
        """One attempt, and what becomes of the job."""
        try:
            again_s = await work.run()
        except FencedError as error:
            log.info("a file is left to another daemon: %s", error, extra={"job": taken.job})
            await taken.leave()
            return
        except (UnansweredError, RefusedError) as error:
            self._room.runtime.warnings.warning("files", "a file cannot be begun or ended: %s", error, job=taken.job)
            again_s = RETRY_S
        except asyncio.CancelledError:
            await taken.retry()
            raise
        except Exception:  # nobody else would have it while the queue hears of it
            log.exception("a file is left", extra={"job": taken.job})
            await taken.leave()
            return
        await (taken.done() if again_s is None else taken.retry(again_s))

    def _over(self, worker: Worker, attempt: asyncio.Task[None]) -> None:
        del self._works[attempt]
        self._free.put_nowait(worker)
