"""One copy of the weights for all workers, or a copy for each? Memory, windows a second, processor time, and the text.

In: models. For each number of workers two processes, one with each; a worker is a thread with a model, and all of them transcribe
the same windows at the same time. Out: a row for each number of workers. Processes take turns; figures are medians of rounds.
"""

import multiprocessing
import time
from argparse import ArgumentParser
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench.lib.recordings import BUNDLED, PEOPLE, Samples, read_folder
from bench.lib.report import Results, note, run
from bench.lib.shapes import MADE, WINDOW_S, find
from transcriber.config import load_settings
from transcriber.engine.whisper.model import WhisperModel, load_model
from transcriber.models.catalog import DEMO

WORKERS = (1, 2, 4)
WINDOWS = 2
"""Of each worker, in a round."""

PATIENCE_S = 600.0
_PROCESSES = multiprocessing.get_context("spawn")


class Round(NamedTuple):
    """What a process did.

    Attributes:
        wall_s: until all workers were done.
        cpu_s: processor time of all of them.
        pss_mb: memory of the process; of pages that several processes have, its share.
        texts: of each worker's windows.
    """

    wall_s: float
    cpu_s: float
    pss_mb: float
    texts: list[list[str]]


def add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--models", default="tiny.en,demo", help="names (-q8_0 too), made:SHAPE, demo, or ggml files")
    parser.add_argument("--rounds", type=int, default=5)


def measure(quick: bool, models: str, rounds: int) -> Results:
    return {
        model: [_compare(model, workers, 1 if quick else rounds) for workers in (WORKERS[:2] if quick else WORKERS)]
        for model in (["demo"] if quick else models.split(","))
    }


def _compare(model: str, workers: int, rounds: int) -> Results:
    """A row: shared weights beside copies of them."""
    pipes, done = [], list[list[Round]]()
    processes = []
    for copies in (False, True):
        ours, theirs = _PROCESSES.Pipe()
        process = _PROCESSES.Process(target=_serve, args=(theirs, model, workers, copies), daemon=True)
        process.start()
        pipes.append(ours)
        processes.append(process)
        done.append([])
    for number in range(rounds + 1):  # the first is not counted: it is the first use of the memory
        for which in (0, 1) if number % 2 else (1, 0):
            pipes[which].send(True)
            if not pipes[which].poll(PATIENCE_S):
                raise SystemExit(f"{model}: {workers} workers do not answer")
            done[which].append(pipes[which].recv())
        note(f"copies: {model}: {workers} workers, round {number} of {rounds}")
    for process in processes:
        process.kill()
        process.join()
    shared, copied = (each[1:] for each in done)
    texts = [each for one in shared + copied for each in one.texts]
    return {
        "workers": workers,
        "windows_s": round(median(workers * WINDOWS / one.wall_s for one in shared), 3),
        "windows_s_to_copies": round(median(b.wall_s / a.wall_s for a, b in zip(shared, copied, strict=True)), 3),
        "cpu_ms": round(median(1000 * one.cpu_s / (workers * WINDOWS) for one in shared), 1),
        "cpu_to_copies": round(median(a.cpu_s / b.cpu_s for a, b in zip(shared, copied, strict=True)), 3),
        "pss_mb": shared[-1].pss_mb,
        "pss_mb_with_copies": copied[-1].pss_mb,
        "same_text": all(each == texts[0] for each in texts),
    }


def _serve(pipe: Connection, model: str, workers: int, copies: bool) -> None:
    """The process: load, then a round whenever it is asked for one."""
    settings = load_settings(whisper_threads=1)
    folder = BUNDLED if model == DEMO or model.startswith(MADE) else PEOPLE
    windows = [window for one in read_folder(folder) for window in one.windows(WINDOW_S)][:WINDOWS]
    path = find(model)
    first = load_model(path, settings)
    others = [load_model(path, settings) if copies else first.sibling() for _ in range(workers - 1)]
    with ThreadPoolExecutor(workers) as pool, closing(pipe):
        while pipe.recv():
            begun_s, cpu_begun_s = time.perf_counter(), time.process_time()
            texts = list(pool.map(lambda one: _transcribe(one, windows), [first, *others]))
            wall_s, cpu_s = time.perf_counter() - begun_s, time.process_time() - cpu_begun_s
            pipe.send(Round(wall_s, cpu_s, _pss_mb(), texts))


def _transcribe(model: WhisperModel, windows: list[Samples]) -> list[str]:
    return [model.transcribe(window, "en", _never).text for window in windows]


def _never() -> bool:
    return False


def _pss_mb() -> float:
    line = next(line for line in Path("/proc/self/smaps_rollup").read_text().splitlines() if line.startswith("Pss:"))
    return round(int(line.split()[1]) * 1024 / 1e6, 1)


if __name__ == "__main__":
    run("copies", measure, add_options)
