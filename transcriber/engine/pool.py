"""All workers: a model and a thread each; a stream stays on its worker."""

import asyncio
from collections.abc import Callable

from transcriber.config import Settings
from transcriber.engine import WORKER_THREAD
from transcriber.engine.job import SpeechModel
from transcriber.engine.worker import Worker
from transcriber.errors import EngineError

CANCEL_S = 0.3
"""How long a cancelled job may take to end before it is abandoned."""


class WorkerPool:
    """Event loop only.

    Attributes:
        workers: all of them, loaded and warm. They warm up at the same time, so their RTF is that of a busy machine.
    """

    def __init__(self, workers: list[Worker]) -> None:
        self.workers = workers
        self._streams = dict.fromkeys(workers, 0)

    @classmethod
    async def start(cls, settings: Settings, load: Callable[[], SpeechModel]) -> "WorkerPool":
        """Load and warm up; returns when all workers are ready.

        Raises:
            ModelError: the model cannot be used.
        """
        workers = [
            Worker(
                f"{WORKER_THREAD}{number}",
                load,
                duration_s=settings.buffer_duration_secs,
                max_latency_s=settings.max_latency_secs,
                capacity_for=settings.queue_capacity,
                left_s=settings.window_policy.left_context_s,
            )
            for number in range(settings.whisper_workers)
        ]
        await asyncio.gather(*(worker.ready for worker in workers))
        return cls(workers)

    @property
    def model(self) -> SpeechModel:
        """Any of the models; they are alike."""
        return self.workers[0].model

    @property
    def depth(self) -> int:
        """Windows waiting, over all workers."""
        return sum(worker.queue.depth for worker in self.workers)

    @property
    def capacity(self) -> int:
        """Windows that may wait, over all workers."""
        return sum(worker.queue.capacity for worker in self.workers)

    @property
    def capacity_changes(self) -> int:
        """How often a worker's queue was made longer or shorter."""
        return sum(worker.capacity.changes for worker in self.workers)

    @property
    def rtf(self) -> float:
        """Of the slowest worker: the median of its recent jobs, over the duration of a whole window."""
        return max(worker.capacity.rtf for worker in self.workers)

    @property
    def busy_s(self) -> float:
        return sum(worker.busy_s for worker in self.workers)

    @property
    def healthy(self) -> bool:
        """Whether every thread lives and no job runs longer than its limit."""
        return all(worker.alive and not worker.overdue for worker in self.workers)

    def assign(self) -> Worker:
        """The worker with the fewest streams, for a new stream's whole life."""
        worker = min(self.workers, key=self._streams.__getitem__)
        self._streams[worker] += 1
        return worker

    def release(self, worker: Worker) -> None:
        """A stream of this worker has ended."""
        self._streams[worker] -= 1

    async def crashed(self) -> None:
        """Waits until a worker's thread dies; raises what killed it."""
        done, _ = await asyncio.wait([worker.finished for worker in self.workers], return_when=asyncio.FIRST_EXCEPTION)
        for finished in done:
            finished.result()

    async def stop(self, grace_s: float) -> None:
        """Drain the queues for ``grace_s`` seconds, then cancel; every job is settled on return."""
        for worker in self.workers:
            worker.queue.close()
        await asyncio.wait([worker.finished for worker in self.workers], timeout=grace_s)
        for worker in self.workers:
            for job in worker.cancel():
                job.settle(job, EngineError("still queued at shutdown", reason="shutdown"))
        await asyncio.wait([worker.finished for worker in self.workers], timeout=CANCEL_S)
        for worker in self.workers:
            worker.abandon()
