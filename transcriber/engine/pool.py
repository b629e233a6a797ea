"""All workers: a model and a thread each, the weights shared; a stream stays on its worker."""

import asyncio
from collections.abc import Callable

from transcriber.config import Settings
from transcriber.engine import WORKER_THREAD
from transcriber.engine.job import CPU, Device, PlacedModel, SpeechModel
from transcriber.engine.swap import SharedLoad
from transcriber.engine.warm_up import Label
from transcriber.engine.worker import Worker
from transcriber.errors import EngineError

CANCEL_S = 0.3
"""How long a cancelled job may take to end before it is abandoned."""


class ModelInUse:
    """What the workers' model is and can do, through swaps: ``ModelFacts``. Any thread."""

    def __init__(self, pool: "WorkerPool") -> None:
        self._pool = pool

    @property
    def name(self) -> str:
        return self._pool.model.name

    @property
    def translates(self) -> bool:
        return self._pool.model.translates

    def supports(self, language: str) -> bool:
        """See ``ModelFacts.supports``."""
        return self._pool.model.supports(language)


class WorkerPool:
    """Event loop only.

    Attributes:
        workers: all of them, loaded and warm. They warm up at the same time, so their RTF is that of a busy machine.
    """

    def __init__(self, workers: list[Worker]) -> None:
        self.workers = workers
        self._streams = dict.fromkeys(workers, 0)

    @classmethod
    async def start(
        cls, settings: Settings, load: Callable[[], SpeechModel], label: Label | None = None
    ) -> "WorkerPool":
        """Load and warm up; returns when all workers are ready.

        ``load`` is called on a worker's thread: once if its model is divisible, else once a worker. ``label`` finds the
        speakers of a window, if voices are distinguished.

        Raises:
            ModelError: the model cannot be used.
        """
        shared = SharedLoad(load)
        workers = [
            Worker(
                f"{WORKER_THREAD}{number}",
                shared,
                duration_s=settings.buffer_duration_secs,
                max_latency_s=settings.max_latency_secs,
                capacity_for=settings.queue_capacity,
                left_s=settings.window_policy.left_context_s,
                label=label,
            )
            for number in range(settings.whisper_workers)
        ]
        await asyncio.gather(*(worker.ready for worker in workers))
        return cls(workers)

    @property
    def model(self) -> SpeechModel:
        """Any of the models; they are alike, but for where they run, and during a swap."""
        return self.workers[0].model

    @property
    def device(self) -> Device:
        """Where the models run now; where they differ, the worst: the CPU before a GPU, and with a reason before without. Any thread."""
        models = [worker.model for worker in self.workers]
        devices = [model.device if isinstance(model, PlacedModel) else CPU for model in models]
        return min(devices, key=lambda device: (device.kind != "cpu", not device.reason))

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
        """Whether every worker is."""
        return all(worker.healthy for worker in self.workers)

    @property
    def restarts(self) -> int:
        """How often processes of models were started again."""
        return sum(worker.restarts for worker in self.workers)

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
