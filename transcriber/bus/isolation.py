"""When a broker counts as cut off from the others of its cluster. In: whether requests are answered. Out: that it is to be left.

Such a broker is alive, but JetStream's leaders cannot be reached through it.
"""

import time

ISOLATED_S = 20.0
"""Of requests to JetStream without any answer, until a broker counts as cut off; after that, twice as long."""
MOST_ISOLATED_S = 320.0
PAUSE_S = 10.0
"""Without a failure, until the next one is the first again: what is asked all the time fails more often, with its limit of 5 s."""


class Isolation:
    """Event loop only."""

    def __init__(self) -> None:
        self._limit_s = ISOLATED_S
        self._since_s: float | None = None
        self._failed_s = 0.0

    def answered(self) -> None:
        """A leader has answered."""
        self._since_s, self._limit_s = None, ISOLATED_S

    def reconnected(self) -> None:
        """What another connection did not answer says nothing about this one."""
        self._since_s = None

    def failed(self) -> bool:
        """A request was not answered, or not by a leader. Returns whether none was for so long that the broker counts as cut off."""
        now_s = time.monotonic()
        if self._since_s is None or now_s - self._failed_s > PAUSE_S:
            self._since_s = now_s
        self._failed_s = now_s
        return now_s - self._since_s > self._limit_s

    def left(self) -> None:
        """Another broker is tried, for longer: all may be without a leader."""
        self._since_s, self._limit_s = None, min(2 * self._limit_s, MOST_ISOLATED_S)
