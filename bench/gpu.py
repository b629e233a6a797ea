"""What a GPU does: the time of one window, and windows a second of 1 to 8 processes that share it.

In: shapes, and a build of pywhispercpp for CUDA (the Dockerfile's ``cuda-build`` shows how). Each process has a model of its
own, as replicas of the daemon would. Out: by shape and number of processes the time of a window while all of them are busy,
windows a second, and how many real-time streams that is. For live streams with their latency: ``WHISPER_DEVICE=cuda python
-m bench.capacity --workers 8``.

``--device cpu`` runs the same on the processor, so that the script can be tried anywhere.
"""

import subprocess
import time
from argparse import ArgumentParser
from concurrent.futures import ThreadPoolExecutor

from bench.lib.peers.engines import Engine, Ours, Running
from bench.lib.recordings import BUNDLED, read_folder
from bench.lib.report import Results, note, quantiles, run
from bench.lib.shapes import MADE, SHAPES, WINDOW_S

PROCESSES = (1, 2, 4, 8)


def add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")


def measure(quick: bool, device: str) -> Results:
    shapes, counts, turn_s = (["tiny.en"], PROCESSES[:2], 1.0) if quick else (list(SHAPES), PROCESSES, 10.0)
    return {"device": device, "card": card()} | {
        shape: {str(count): _busy(shape, device, count, turn_s) for count in counts} for shape in shapes
    }


def card() -> str | None:
    """Its name and driver; None where there is none."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _busy(shape: str, device: str, count: int, turn_s: float) -> Results:
    """So many processes for so long, none of which ever waits for a window."""
    windows = [window for one in read_folder(BUNDLED) for window in one.windows(WINDOW_S)]
    engine = Engine("ours", Ours(device=device, threads=1), "_pywhispercpp", ours=True)
    running = [Running(engine, f"{MADE}{shape}", 1, windows) for _ in range(count)]

    def keep_busy(one: Running) -> list[float]:
        times_ms: list[float] = []
        until_s = time.monotonic() + turn_s
        while time.monotonic() < until_s:
            times_ms.append(one.ask(len(times_ms) % len(windows))[0])
        return times_ms

    began_s = time.monotonic()
    with ThreadPoolExecutor(count) as threads:
        times_ms = [ms for times in threads.map(keep_busy, running) for ms in times]
    windows_s = len(times_ms) / (time.monotonic() - began_s)
    for one in running:
        one.close()
    note(f"gpu: {shape}, {count} processes: {windows_s:.1f} windows/s")
    return {
        "window_ms": quantiles(times_ms, p50=0.5, p95=0.95),
        "windows_s": round(windows_s, 1),
        "streams": int(windows_s * WINDOW_S),
    }


if __name__ == "__main__":
    run("gpu", measure, add_options)
