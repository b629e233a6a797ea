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

    def update(self, rtf: float) -> bool:
        """Take the RTF of one more job; returns whether ``slots`` changed."""
        self._recent.append(rtf)
        self.rtf = statistics.median(self._recent)
        if self._formula(self.rtf * MARGIN**2) <= self.slots <= self._formula(self.rtf):
            return False
        before, self.slots = self.slots, self._formula(self.rtf * MARGIN)
        self.changes += self.slots != before
        return self.slots != before
