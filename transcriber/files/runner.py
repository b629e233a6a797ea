"""The files of a daemon: a worker that has no job takes one, and an urgent one besides.

In: jobs of the work queue, which any daemon may take. Out: each is over, or back in the queue.
"""

import asyncio
import logging
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

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


class _Place(NamedTuple):
    """Where one job at a time runs."""

    worker: Worker
    slots: QueueSlots


class FileRunner:
    """Event loop only."""

    def __init__(self, pool: WorkerPool, queues: Mapping[Lane, WorkQueue], shared: FileRuntime) -> None:
        """``queues``: by the lane in which their jobs run. Of each, a worker has one job at a time."""
        self._queues, self._shared = queues, shared
        self._free: dict[Lane, asyncio.Queue[_Place]] = {lane: asyncio.Queue() for lane in queues}
        for lane, free in self._free.items():
            for worker in pool.workers:
                free.put_nowait(_Place(worker, QueueSlots(worker, lane)))
        self._attempts: dict[asyncio.Task[None], FileAttempt] = {}
        self._taking: list[asyncio.Task[None]] = []

    @property
    def running(self) -> int:
        """Jobs that this daemon works at."""
        return len(self._attempts)

    async def start(self) -> None:
        """Be ready to take jobs.

        Raises:
            BrokerError: the broker does not let us.
        """
        for queue in self._queues.values():
            await queue.start()

    async def run(self) -> None:
        """Take jobs until cancelled.

        Raises:
            What taking them raises unexpectedly: that is a crash.
        """
        self._taking = [asyncio.create_task(self._take(lane)) for lane in self._queues]
        try:
            done, _ = await asyncio.wait(self._taking, return_when=asyncio.FIRST_EXCEPTION)
            for taking in done:
                if not taking.cancelled():
                    taking.result()
            await asyncio.get_running_loop().create_future()
        finally:
            await cancel([*self._taking, *self._attempts])

    async def drain(self) -> None:
        """Take no more; what is begun is the next daemon's."""
        await cancel(self._taking)
        await asyncio.gather(*(attempt.stop() for attempt in self._attempts.values()))

    async def finish(self, timeout_s: float) -> None:
        """Wait until what the workers have transcribed is stored, and give the jobs back."""
        if self._attempts:
            await asyncio.wait(self._attempts, timeout=timeout_s)
            await cancel(self._attempts)

    async def _take(self, lane: Lane) -> None:
        while True:
            place = await self._free[lane].get()
            if await self._begin(place, await self._queues[lane].next_job()) is None:
                self._free[lane].put_nowait(place)

    async def _begin(self, place: _Place, taken: TakenJob) -> FileAttempt | None:
        """Have the worker of ``place`` work at a job; None if it cannot be just now, or need not be."""
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
        if (
            stored.record.urgent != taken.record.urgent
        ):  # it was submitted to both queues at once: the other has it, too
            await taken.done()
            return None
        attempt = FileAttempt(self._shared, stored, place.worker, place.slots)
        task = asyncio.create_task(self._attempt(taken, attempt))
        self._attempts[task] = attempt
        task.add_done_callback(partial(self._over, place))
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

    def _over(self, place: _Place, task: asyncio.Task[None]) -> None:
        del self._attempts[task]
        self._free[place.slots.lane].put_nowait(place)
