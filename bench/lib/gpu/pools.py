"""Workers of the daemon in a process of their own, on the device that was asked for or not at all.

In: a model and a way to run it. Out: text and time of one window; windows a second while none of the workers ever waits.
"""

import asyncio
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

from bench.lib.gpu.progress import UnavailableError
from bench.lib.recordings import Samples
from bench.lib.report import Results, quantiles
from bench.threads import _feed as feed
from transcriber.commands import placed
from transcriber.config import Settings, load_settings
from transcriber.engine.job import Job, Outcome, PlacedModel, SpeechModel
from transcriber.engine.pool import WorkerPool
from transcriber.errors import CardError, EngineError
from transcriber.gpu.nvml import open_card

PATIENCE_S = 120.0
_PROCESSES = multiprocessing.get_context("spawn")
WINDOW_S = 5.0


class ElsewhereError(SystemExit):
    """It ran on another device than was asked for: whatever it measured would be wrong."""


@dataclass(frozen=True, slots=True)
class Way:
    """How a model is run.

    Attributes:
        device: as ``WHISPER_DEVICE``: ``cpu``, ``cuda`` or ``cuda:1``.
        workers: ``WHISPER_WORKERS``: states of one context.
        threads: ``WHISPER_THREADS``.
        processes: ``WHISPER_PROCESSES``: children of one daemon; 0: none.
        replicas: daemons beside each other.
    """

    device: str
    workers: int = 1
    threads: int = 1
    processes: int = 0
    replicas: int = 1

    @property
    def environment(self) -> dict[str, str]:
        """Settings of one daemon."""
        given = {"DEVICE": self.device, "WORKERS": self.workers, "THREADS": self.threads, "PROCESSES": self.processes}
        return {f"WHISPER_{name}": str(value) for name, value in given.items()}


class Pool:
    """The workers of one daemon, loaded and warm, as long as the ``with`` block lasts.

    Raises:
        ElsewhereError: they run on another device.
        UnavailableError: they do not load, or their process died.
    """

    def __init__(self, model: Path, way: Way, windows: Sequence[Samples]) -> None:
        self._pipe, theirs = _PROCESSES.Pipe()
        # A pool may have children of its own, so it is no daemon; __exit__ kills it.
        self._process = _PROCESSES.Process(target=_serve, args=(theirs, model, way, list(windows)))
        self._theirs = theirs

    def __enter__(self) -> Self:
        self._process.start()
        self._theirs.close()  # so that its death is the end of the pipe
        try:
            self._answer()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        self._process.join(10)
        self._process.kill()
        self._process.join()

    def ask(self, window: int) -> tuple[float, str]:
        """Milliseconds inside whisper for one window alone, and its text."""
        ms, text = self._call("ask", window)
        return float(ms), str(text)

    def feed(self, turn_s: float) -> tuple[float, list[float]]:
        """Windows a second of all workers, and milliseconds inside whisper of each."""
        rate, processing_ms = self._call("feed", turn_s)
        return float(rate), list(processing_ms)

    def _call(self, what: str, argument: float) -> Any:
        self._pipe.send((what, argument))
        return self._answer()

    def _answer(self) -> Any:
        try:
            if not self._pipe.poll(PATIENCE_S):
                raise UnavailableError(f"no answer within {PATIENCE_S:g} s")
            error, answer = self._pipe.recv()
        except EOFError:
            self._process.join(PATIENCE_S)
            raise UnavailableError(f"the process died, status {self._process.exitcode}") from None
        if error:
            raise error
        return answer


def device_of(model: SpeechModel) -> str:
    """Where a loaded model is: ``cpu``, ``cuda:0``."""
    return model.device.name if isinstance(model, PlacedModel) else "unknown"


def check_device(asked: str, found: str) -> None:
    """Raise ``ElsewhereError`` if ``found`` (``cpu``, ``cuda``, ``cuda:0``) is not what was ``asked`` for."""
    if found != asked and found.partition(":")[0] != asked:
        raise ElsewhereError(f"asked for {asked}, but whisper runs on {found}: nothing is measured")


def busy(model: Path, way: Way, windows: Sequence[Samples], turn_s: float) -> Results:
    """All replicas at once, none of whose workers ever waits for a window."""
    with ExitStack() as stack:
        before_mb = device_memory_mb(way.device)
        with ThreadPoolExecutor(way.replicas) as threads:  # they load at the same time
            made = [Pool(model, way, windows) for _ in range(way.replicas)]
            pools = list(threads.map(stack.enter_context, made))
            after_mb = device_memory_mb(way.device)
            turns = list(threads.map(partial(Pool.feed, turn_s=turn_s), pools))
    windows_s = sum(rate for rate, _ in turns)
    return {
        **asdict(way),
        "windows_s": round(windows_s, 2),
        "streams": int(windows_s * WINDOW_S),
        "processing_ms": quantiles([ms for _, times in turns for ms in times], p50=0.5, p95=0.95),
        "device_memory_mb": None if after_mb is None or before_mb is None else after_mb - before_mb,
    }


def device_memory_mb(device: str) -> int | None:
    """What is in use of the card; None of the processor, or where NVML does not say it."""
    if device == "cpu":
        return None
    try:
        card = open_card(int(device.partition(":")[2] or 0))
    except CardError:
        return None
    try:
        used = card.read().memory_used_bytes
        return None if used is None else used // 2**20
    except CardError:
        return None
    finally:
        card.close()


async def start_pool(settings: Settings, model: Path) -> WorkerPool:
    """The workers, made as ``serve`` makes them: in this process, or each in one of its own."""
    settings, load = placed(settings)
    return await WorkerPool.start(settings, lambda: load(model, settings))


def _serve(pipe: Connection, model: Path, way: Way, windows: list[Samples]) -> None:
    """The process: load, then do what is asked for until the pipe is closed."""
    os.environ.update(way.environment)
    settings = load_settings(transcription_queue_capacity=2)
    with asyncio.Runner() as runner:
        try:
            pool = runner.run(start_pool(settings, model))
            for worker in pool.workers:
                check_device(way.device, device_of(worker.model))
        except ElsewhereError as error:
            pipe.send((error, None))
            return
        except Exception as error:  # noqa: BLE001 - of any library; it is written down
            pipe.send((UnavailableError(f"{type(error).__name__}: {error}"), None))
            return
        pipe.send((None, None))
        while call := _next(pipe):
            what, argument = call
            work = _ask(pool, windows[int(argument)]) if what == "ask" else _feed(pool, windows, argument)
            try:
                pipe.send((None, runner.run(work)))
            except EngineError as error:
                pipe.send((UnavailableError(f"whisper failed: {error}"), None))
        runner.run(pool.stop(0))


async def _feed(pool: WorkerPool, windows: list[Samples], turn_s: float) -> tuple[float, list[float]]:
    rate, processing_ms, *_ = await feed(pool, windows, turn_s)
    return rate, processing_ms


def _next(pipe: Connection) -> tuple[str, float] | None:
    """What is asked for next; None when nobody will ask any more."""
    try:
        call: tuple[str, float] = pipe.recv()
    except EOFError:
        return None
    return call


async def _ask(pool: WorkerPool, window: Samples) -> tuple[float, str]:
    """One window, to a pool that has nothing else to do."""
    done = asyncio.get_running_loop().create_future()

    def settle(_job: Job, outcome: Outcome) -> None:
        if isinstance(outcome, EngineError):
            done.set_exception(outcome)
        else:
            done.set_result((1000 * outcome.processing_s, outcome.text))

    pool.workers[0].queue.try_put(Job("voice", window, "en", settle))
    ms, text = await done
    return ms, text
