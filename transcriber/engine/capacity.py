"""The queue's capacity, adjusted while the machine's speed changes.

In: how long each job took. Out: the number of slots that keeps the promised latency. A neighbour that takes half of
the processor doubles the time of a job, and a queue that was short enough becomes twice too long.
"""

import statistics
from collections import deque
from collections.abc import Callable

RECENT_JOBS = 7
"""The median of seven follows a change after four of them, and never a single slow job."""

MARGIN = 1.15
"""Hysteresis: a new capacity is right for jobs this much slower, and stays for jobs this much faster."""

MAX_CALM_BACKLOG = 0.5
"""Backlog of ordinary bursts, as a share of a window's duration. Beyond it windows are transcribed without their left context, which
is cheaper; long before any is dropped, or late by seconds."""


def is_under_load(depth: int, slots: int) -> bool:
    """Whether a queue is more than half full: then only what is needed is done."""
    return 2 * depth > slots


def skips_left_context(depth: int, slots: int, rtf: float) -> bool:
    """Whether the next window is transcribed without its left context: ``depth`` wait behind it, each takes ``rtf`` of its duration."""
    return is_under_load(depth, slots) or depth * rtf > MAX_CALM_BACKLOG


class Capacity:
    """Invariant: ``slots`` <= the formula's value at the median real-time factor of the recent jobs.

    Attributes:
        slots: the queue's capacity now.
        rtf: the median: job time over the duration of a whole window (a shorter one costs the same).
        changes: so far.
    """

    def __init__(self, formula: Callable[[float], int], rtf: float) -> None:
        """``formula`` gives the slots for an RTF; ``rtf`` was measured at start-up."""
        self.slots = formula(rtf)
        self.rtf = rtf
        self.changes = 0
        self._formula = formula
        self._recent = deque([rtf] * RECENT_JOBS, RECENT_JOBS)

    def start_again(self, rtf: float) -> None:
        """Another model works from now on, whose ``rtf`` was measured; what is known of the one before does not count."""
        before, self.slots, self.rtf = self.slots, self._formula(rtf), rtf
        self.changes += self.slots != before
        self._recent = deque([rtf] * RECENT_JOBS, RECENT_JOBS)

    def update(self, rtf: float) -> bool:
        """Take the RTF of one more job; returns whether ``slots`` changed."""
        self._recent.append(rtf)
        self.rtf = statistics.median(self._recent)
        if self._formula(self.rtf * MARGIN**2) <= self.slots <= self._formula(self.rtf):
            return False
        before, self.slots = self.slots, self._formula(self.rtf * MARGIN)
        self.changes += self.slots != before
        return self.slots != before
