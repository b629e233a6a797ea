"""What a process of its own costs a model. In: models, by name, shape or file. Out: JSON.

The same windows, one to the model in this process and one to that in the other, in turn; so do calls that are aborted. Medians, and the median
of the differences of pairs. What it takes to get samples across, in the shared memory and through a pipe. Memory and start: of processes that only load the model, with or without one for it.
"""

import multiprocessing
import statistics
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from bench.lib.recordings import BUNDLED, PEOPLE, Samples, read_folder
from bench.lib.report import Results, note, quantiles, run
from bench.lib.shapes import MADE, WINDOW_S, find
from transcriber.config import load_settings
from transcriber.engine.job import SpeechModel
from transcriber.engine.remote.model import RemoteModel
from transcriber.engine.whisper.model import load_model
from transcriber.errors import EngineError
from transcriber.models.catalog import DEMO

_PROCESSES = multiprocessing.get_context("spawn")
NOTHING = "transcriber.testing.fake_model:load_fake_model"
LOAD = "transcriber.engine.whisper.model:load_model"
WAYS = ("here", "process")
ABORT_AFTER_S = 0.02

STARTED = """
import sys, time
from pathlib import Path
from transcriber.config import load_settings
begun_s = time.monotonic()
path, settings = Path(sys.argv[2]), load_settings(whisper_threads=1)
if sys.argv[1] == "here":
    from transcriber.engine.whisper.model import load_model
    model = load_model(path, settings)
else:
    from transcriber.engine.remote.model import RemoteModel
    model = RemoteModel("transcriber.engine.whisper.model:load_model", path, settings)
took_s = time.monotonic() - begun_s
from transcriber.engine.warm_up import self_test_speech
model.transcribe(self_test_speech(), "en", lambda: False)
children = Path(f"/proc/self/task").glob("*/children")
kb = 0
for pid in ["self", *(child for one in children for child in one.read_text().split())]:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    kb += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
print(took_s, kb / 1024)
"""


def add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--models", default="demo,tiny.en", help="names (-q8_0 too), made:SHAPE, demo, or ggml files")


def measure(quick: bool, models: str) -> Results:
    rounds = 5 if quick else 40
    crossing = {"crossing_ms": _crossing(20 * rounds)}
    return crossing | {model: _measure(model, rounds) for model in (["demo"] if quick else models.split(","))}


def _crossing(rounds: int) -> Results:
    """Milliseconds of a call with 12.5 s of samples of a model that does nothing; and of sending them through a pipe alone, and an answer."""
    samples = np.zeros(200_000, np.float32)
    ours, theirs = _PROCESSES.Pipe()
    echo = _PROCESSES.Process(target=_answer, args=(theirs,), daemon=True)
    echo.start()
    nothing = RemoteModel(NOTHING, Path("nothing"), load_settings())

    def through_pipe(_: int) -> float:
        begun_s = time.perf_counter()
        ours.send_bytes(samples.data.cast("B"))
        ours.recv()
        return time.perf_counter() - begun_s

    try:
        through_pipe(0)
        return _in_turn(rounds, {"pipe alone": through_pipe, "call": partial(_window_s, nothing, [samples])})
    finally:
        nothing.close()
        echo.kill()


def _answer(pipe: Connection) -> None:
    while True:
        pipe.recv_bytes()
        pipe.send("nothing")


def _measure(model: str, rounds: int) -> Results:
    path, settings = find(model), load_settings(whisper_threads=1)
    folder = BUNDLED if model == DEMO or model.startswith(MADE) else PEOPLE
    windows = [window for one in read_folder(folder) for window in one.windows(WINDOW_S)]
    here, there = load_model(path, settings), RemoteModel(LOAD, path, settings)
    models: dict[str, SpeechModel] = {"here": here, "process": there}
    try:
        windows_ms = _in_turn(rounds, {way: partial(_window_s, one, windows) for way, one in models.items()})
        note(f"child_process: {model}: windows are done")
        aborts_ms = _in_turn(rounds, {way: partial(_abort_s, one, windows) for way, one in models.items()})
    finally:
        here.close()
        there.close()
    note(f"child_process: {model}: aborts are done")
    starts = [{way: _start(way, path) for way in WAYS} for _ in range(max(3, rounds // 8))]
    return {
        "window_ms": windows_ms,
        "abort_ms": aborts_ms,
        "start_s": {way: round(statistics.median(one[way][0] for one in starts), 3) for way in WAYS},
        "memory_mb": {way: round(statistics.median(one[way][1] for one in starts), 1) for way in WAYS},
    }


def _in_turn(rounds: int, ways: dict[str, Callable[[int], float]]) -> Results:
    """Milliseconds of each way, and how many more the second one takes; which one is first changes."""
    times_ms: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds):
        for way in list(ways)[:: 1 if number % 2 else -1]:
            times_ms[way].append(1000 * ways[way](number))
    first, second = times_ms.values()
    more_ms = np.subtract(second, first).tolist()
    quartiles = {way: quantiles(some, p25=0.25, median=0.5, p75=0.75) for way, some in times_ms.items()}
    return quartiles | {"more": quantiles(more_ms, p25=0.25, median=0.5, p75=0.75)}


def _window_s(model: SpeechModel, windows: list[Samples], number: int) -> float:
    begun_s = time.perf_counter()
    model.transcribe(windows[number % len(windows)], "en", lambda: False)
    return time.perf_counter() - begun_s


def _abort_s(model: SpeechModel, windows: list[Samples], number: int) -> float:
    """From the moment at which a call is to be aborted until it is."""
    abort_s = time.perf_counter() + ABORT_AFTER_S
    try:
        model.transcribe(windows[number % len(windows)], "en", lambda: time.perf_counter() > abort_s)
    except EngineError:
        return time.perf_counter() - abort_s
    raise SystemExit("a window took no longer than it took to abort it")


def _start(way: str, path: Path) -> tuple[float, float]:
    """Seconds to load the model, and the proportional memory of all processes, MB, once it has transcribed a window."""
    command = [sys.executable, "-c", STARTED, way, str(path)]
    start_s, memory_mb = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return float(start_s), float(memory_mb)


if __name__ == "__main__":
    run("child_process", measure, add_options)
