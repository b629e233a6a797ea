"""What is held. In: a process, a broker. Out: counts by name, and which of them rise from rest to rest.

``live.threads`` is a count of the process ``live``, ``AUDIO.consumers`` one of the JetStream stream ``AUDIO``.
"""

import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.chaos.daemons import until
from bench.lib.report import Results
from transcriber.bus.jetstream.client import JetStream
from transcriber.testing.daemon import DaemonProcess

Counts = dict[str, int]

ANSWER_S = 60.0
"""For a process to say what it holds, however busy the machine is."""

WARM_RESTS = 6
"""Of fewer, memory says nothing: its allocator is not warm."""

MEMORY = "rss_kb", "pss_kb"

BOUNDS = {"rss_kb": 6144.0, "pss_kb": 6144.0, "threads": 6.0, "descriptors": 6.0, "tasks": 30.0, "objects": 2000.0}
"""By how much a process may rise from the middle of the run to its end: an allocator moves by megabytes up and down, the pools of
threads fill as they are needed, and caches do; of three durable streams, with nine tasks each, some may be still served. All else, which the broker counts, may not rise at all.

A session that left anything behind would show a hundred times as much in an hour: there are some thousands of them.
"""


class Watched:
    """A process that ``bench.lib.watched`` runs. Event loop only."""

    def __init__(self, process: DaemonProcess, file: Path) -> None:
        """``file`` is its ``WATCHED_FILE``."""
        self._process, self._file = process, file
        self.types: Counts = {}
        """Objects by type, when they were last counted."""

    async def counts(self) -> Counts:
        """What it holds now.

        Raises:
            TimeoutError: it does not say.
        """
        pid = self._process.process.pid
        self._file.unlink(missing_ok=True)
        os.kill(pid, signal.SIGUSR1)
        if not await until(self._file.exists, ANSWER_S):
            raise TimeoutError(f"process {pid} does not say what it holds")
        said = json.loads(self._file.read_text())
        self.types = said.pop("types")
        family = [pid, *_children(pid)]
        return {
            "rss_kb": sum(_field(one, "status", "VmRSS:") for one in family),
            "pss_kb": sum(_field(one, "smaps_rollup", "Pss:") for one in family),
            "threads": sum(_field(one, "status", "Threads:") for one in family),
            "descriptors": len(os.listdir(f"/proc/{pid}/fd")),  # noqa: PTH208 - names of files that come and go
            "processes": len(family),
            **said,
        }


async def broker_counts(jetstream: JetStream) -> Counts:
    """Of every JetStream stream: its messages, which are chunks or entries of a bucket's, its subjects, its consumers."""
    found: Counts = {}
    for info in (await jetstream.call("STREAM.LIST"))["streams"]:
        name, state = info["config"]["name"], info["state"]
        found |= {
            f"{name}.messages": state["messages"],
            f"{name}.subjects": state.get("num_subjects", 0),
            f"{name}.consumers": state["consumer_count"],
        }
    return found


def risen(rests: Sequence[Counts]) -> Results:
    """What rises in the second half of the rests beyond its bound: by how much, by the line that fits best."""
    later = rests[len(rests) // 2 :]
    rises = {name: _rise([rest.get(name, 0) for rest in later]) for name in later[-1]}
    cold = () if len(later) >= WARM_RESTS else MEMORY
    return {name: round(rise, 1) for name, rise in rises.items() if rise > bound(name) and not name.endswith(cold)}


def bound(name: str) -> float:
    """What a count may rise by."""
    return BOUNDS.get(name.rpartition(".")[2], 0.5)


def _rise(values: Sequence[int]) -> float:
    slope, _ = np.polyfit(range(len(values)), values, 1)
    return float(slope) * (len(values) - 1)


def _field(pid: int, file: str, name: str) -> int:
    """0 of a process that is gone."""
    try:
        lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(name)), 0)


def _children(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == pid:
            found.append(int(stat.parent.name))
    return found
