"""The files of a daemon: jobs are taken when a worker has none, and worked through.

In: jobs of the work queue, which any daemon may take. Out: each is over some day, or back in the queue.
"""

import asyncio
import logging

from transcriber.bus.file_work import RETRY_S, FileRoom, FileWork
from transcriber.bus.jobs import JobFeed, Kept, TakenJob
from transcriber.bus.places import Places
from transcriber.cancelling import cancel
from transcriber.engine.job import Lane
from transcriber.engine.pool import WorkerPool
from transcriber.engine.worker import Worker
from transcriber.errors import FencedError, RefusedError, UnansweredError

log = logging.getLogger(__name__)


class Files:
    """Event loop only."""

    def __init__(self, pool: WorkerPool, feed: JobFeed, room: FileRoom) -> None:
        self._feed, self._room = feed, room
        self._places = {worker: Places(worker, Lane.FILE) for worker in pool.workers}
        self._works: set[FileWork] = set()
        self._serving: list[asyncio.Task[None]] = []
        self._stopping = False

    @property
    def running(self) -> int:
        """Jobs at which this daemon is."""
        return len(self._works)

    async def run(self) -> None:
        """Take jobs until cancelled, or drained: one for each worker at a time."""
        self._serving = [asyncio.create_task(self._serve(worker)) for worker in self._places]
        try:
            await asyncio.gather(*self._serving)
            await asyncio.get_running_loop().create_future()
        finally:
            await cancel(self._serving)

    async def drain(self) -> None:
        """Take no more; what is begun is the next daemon's."""
        self._stopping = True
        for work in self._works:
            work.stop()

    async def finish(self, timeout_s: float) -> None:
        """Wait until what the workers have made is stored, and the jobs are given back."""
        if self._works:
            await asyncio.wait(self._serving, timeout=timeout_s)

    async def _serve(self, worker: Worker) -> None:
        while not self._stopping:
            taken = await self._feed.next()
            try:
                again_s = await self._work(taken, worker)
            except FencedError as error:
                log.info("a file is left to another daemon: %s", error, extra={"job": taken.job})
                await taken.leave()
                continue
            except (UnansweredError, RefusedError) as error:
                self._room.around.warnings.warning("files", "a file cannot be begun or ended: %s", error, job=taken.job)
                again_s = RETRY_S
            await (taken.done() if again_s is None else taken.retry(again_s))

    async def _work(self, taken: TakenJob, worker: Worker) -> float | None:
        """One attempt; returns as ``FileWork.run``."""
        kept = await self._room.desk.record(taken.job) or Kept(taken.record, 0)
        work = FileWork(self._room, kept, worker, self._places[worker])
        self._works.add(work)
        if self._stopping:
            work.stop()
        try:
            return await work.run()
        finally:
            self._works.discard(work)
