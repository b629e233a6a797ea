"""One worker with n threads, or n workers with one? Threads that spin, or that sleep? Alone, and beside busy neighbours.

In: models. Each arrangement is a process of its own with real workers, whose queues are never empty; a neighbour is a
process that takes what processor it gets. Out: windows a second and the time of one, and the ratio to one worker with one
thread beside the same neighbours. Arrangements take turns; figures are medians of rounds.

Threads of one worker spin at OpenMP's barriers before they sleep: GOMP_SPINCOUNT turns. 0 is what
OMP_WAIT_POLICY=passive means, 300000 is GOMP's own default.
"""

import asyncio
import multiprocessing
import os
import statistics
import time
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, Self

from bench.lib.recordings import BUNDLED, PEOPLE, Samples, read_folder
from bench.lib.report import Results, note, quantiles, run
from bench.lib.shapes import MADE, WINDOW_S, find
from transcriber.config import load_settings
from transcriber.config.sizing import available_cores
from transcriber.engine.job import Job, Outcome
from transcriber.engine.pool import WorkerPool
from transcriber.engine.whisper.model import load_model
from transcriber.engine.worker import Worker
from transcriber.errors import EngineError
from transcriber.models.catalog import DEMO

OUR_SPINS, OTHER_SPINS = 1000, (0, 300_000)
PATIENCE_S = 300.0
_PROCESSES = multiprocessing.get_context("spawn")


Turn = tuple[float, list[float]]
"""Windows a second, and milliseconds inside whisper of each."""


class Arrangement(NamedTuple):
    """How the processor is used."""

    workers: int
    threads: int
    spins: int = OUR_SPINS


def add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--models", default="tiny.en,demo", help="names (-q8_0 too), made:SHAPE, demo, or ggml files")


def measure(quick: bool, models: str) -> Results:
    rounds, turn_s = (1, 1.0) if quick else (3, 3.0)
    return {model: _compare(model, rounds, turn_s) for model in (["demo"] if quick else models.split(","))}


def arrangements(cores: int) -> list[Arrangement]:
    """Those that fill the machine, or all of it but one core; and other ways to wait where threads wait most."""
    ways = {(workers, cores // workers) for workers in (1, 2, 4, 8, cores) if workers <= cores}
    ways |= {(1, 1), (1, max(1, cores - 1))}
    return [Arrangement(*way) for way in sorted(ways)] + [Arrangement(1, cores, spins) for spins in OTHER_SPINS]


def _compare(model: str, rounds: int, turn_s: float) -> list[Results]:
    """A row for each arrangement and number of neighbours."""
    cores = available_cores()
    turns: dict[tuple[int, Arrangement], list[Turn]] = {}
    with ExitStack() as stack:
        running = [stack.enter_context(_Running(one, model)) for one in arrangements(cores)]
        for number in range(rounds):
            for busy in (0, cores - 1, cores):
                with _neighbours(busy):
                    for one in running:
                        turns.setdefault((busy, one.arrangement), []).append(one.feed(turn_s))
            note(f"threads: {model}: round {number + 1} of {rounds}")
    return [_row(busy, one, some, turns[busy, Arrangement(1, 1)]) for (busy, one), some in turns.items()]


def _row(busy: int, one: Arrangement, turns: list[Turn], plain: list[Turn]) -> Results:
    """Medians over rounds; ``plain`` is what one worker with one thread did in the same ones."""
    return {
        "busy_neighbours": busy,
        **one._asdict(),
        "windows_s": round(statistics.median(rate for rate, _ in turns), 3),
        "ratio_to_1x1": round(statistics.median(a / b for (a, _), (b, _) in zip(turns, plain, strict=True)), 3),
        "processing_ms": quantiles([ms for _, times in turns for ms in times], p50=0.5, p95=0.95, worst=1.0),
    }


class _Running:
    """An arrangement in its process, loaded and warm, as long as the ``with`` block lasts."""

    def __init__(self, arrangement: Arrangement, model: str) -> None:
        self.arrangement = arrangement
        self._pipe, theirs = _PROCESSES.Pipe()
        self._process = _PROCESSES.Process(target=_serve, args=(theirs, arrangement, model), daemon=True)

    def __enter__(self) -> Self:
        os.environ["GOMP_SPINCOUNT"] = str(self.arrangement.spins)  # read when a process loads whisper.cpp; ours has
        self._process.start()
        self._answer()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()

    def feed(self, turn_s: float) -> Turn:
        """Keep it busy for that long."""
        self._pipe.send(turn_s)
        rate, processing_ms = self._answer()
        return rate, processing_ms

    def _answer(self) -> Any:
        if not self._pipe.poll(PATIENCE_S):
            raise SystemExit(f"{self.arrangement} does not answer")
        return self._pipe.recv()


def _serve(pipe: Connection, arrangement: Arrangement, model: str) -> None:
    """The process: load, then a turn whenever it is asked for one."""
    workers, threads, _ = arrangement
    settings = load_settings(whisper_workers=workers, whisper_threads=threads, transcription_queue_capacity=2)
    folder = BUNDLED if model == DEMO or model.startswith(MADE) else PEOPLE
    windows = [window for one in read_folder(folder) for window in one.windows(WINDOW_S)]
    with asyncio.Runner() as runner:
        pool = runner.run(WorkerPool.start(settings, lambda: load_model(find(model), settings)))
        pipe.send("ready")
        while True:
            pipe.send(runner.run(_feed(pool, windows, pipe.recv())))


async def _feed(pool: WorkerPool, windows: list[Samples], turn_s: float) -> Turn:
    """Keep all workers busy for a while, and for two windows at least."""
    done_s: dict[Worker, list[float]] = {worker: [] for worker in pool.workers}
    processing_ms: list[float] = []
    stop_s = time.monotonic() + turn_s
    over = asyncio.get_running_loop().create_future()
    out = pool.workers * 2  # of each worker, one window in hand and one that waits

    def put(worker: Worker) -> None:
        number = len(done_s[worker])
        worker.queue.try_put(Job("voice", windows[number % len(windows)], "en", partial(settle, worker)))

    def settle(worker: Worker, job: Job, outcome: Outcome) -> None:
        if isinstance(outcome, EngineError):
            over.set_exception(outcome)
            return
        done_s[worker].append(job.finished_s)
        processing_ms.append(1000 * outcome.processing_s)
        if time.monotonic() < stop_s or len(done_s[worker]) < 2:
            put(worker)
            return
        out.remove(worker)
        if not out:
            over.set_result(None)

    for worker in pool.workers * 2:
        put(worker)
    await over
    return rate(done_s.values()), processing_ms


def rate(done_s: Iterable[list[float]]) -> float:
    """Windows a second of all workers, from the times at which each was done with one; the first starts its clock."""
    return sum((len(times_s) - 1) / (times_s[-1] - times_s[0]) for times_s in done_s)


@contextmanager
def _neighbours(count: int) -> Iterator[None]:
    """Processes that take what processor they get."""
    hogs = [_PROCESSES.Process(target=_count_for_ever, daemon=True) for _ in range(count)]
    for hog in hogs:
        hog.start()
    time.sleep(0.5 * bool(hogs))
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.join()


def _count_for_ever() -> None:
    while True:
        pass


if __name__ == "__main__":
    run("threads", measure, add_options)
