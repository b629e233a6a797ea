"""Seconds that a busy machine does not lengthen.

A bound on wall time says two things: how long the product waits and computes, and how busy the machine is. Only the first
is ours to prove. The kernel counts for every thread how long it was ready to run while the processors were another's.
"""

import contextlib
import os
import time
from pathlib import Path

_NS = 1e-9


class Stopwatch:
    """Runs from the moment that it is made. Of this process and all that it has started, and what they start meanwhile.

    On a machine with nothing else to do ``starved_s`` is about nothing, and ``own_s`` the time that has passed.
    """

    def __init__(self) -> None:
        self._began_s = time.monotonic()
        self._before = _waited_ns()
        self._waited = dict(self._before)
        self._stolen_s = _stolen_s()

    def look(self) -> None:
        """Before a process is given up that has ended: what it waited for is forgotten with it."""
        self._waited |= _waited_ns()

    @property
    def starved_s(self) -> float:
        """Seconds that threads waited for a processor so far, in all, and those that the host took from this machine."""
        self.look()
        waited_ns = sum(ns - self._before.get(thread, 0) for thread, ns in self._waited.items())
        return waited_ns * _NS + _stolen_s() - self._stolen_s

    @property
    def own_s(self) -> float:
        """Seconds that passed, less ``starved_s``; 0 where threads waited for more than one another."""
        return max(0.0, time.monotonic() - self._began_s - self.starved_s)


def _waited_ns() -> dict[str, int]:
    """By thread of this process and its descendants."""
    found, processes = {}, [str(os.getpid())]
    for process in processes:
        threads: list[Path] = []
        with contextlib.suppress(OSError):  # it has just ended, and so may any of its threads
            threads += Path(f"/proc/{process}/task").iterdir()
        for thread in threads:
            with contextlib.suppress(OSError):
                found[thread.name] = int((thread / "schedstat").read_text().split()[1])
                processes += (thread / "children").read_text().split()
    return found


def _stolen_s() -> float:
    """What the host gave to others while this machine had something to do, over all processors."""
    return int(Path("/proc/stat").read_text().split(maxsplit=9)[8]) / os.sysconf("SC_CLK_TCK")
