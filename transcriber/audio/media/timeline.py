"""Places of decoded frames. In: time stamps of a container, which are rounded, missing or wrong. Out: places that only grow."""

_JITTER_S = 0.1
"""Time stamps are rounded (to milliseconds in WebM), and of another clock than the samples: up to this is no hole."""
_ROUNDING_S = 0.0025
"""Where a packet was lost, a hole is expected, and only rounding is ignored."""
_MAX_HOLE_S = 3600.0
"""A longer jump is not believed."""


class Timeline:
    """Counts frames, and follows the time stamps where they jump ahead.

    Attributes:
        frame: place of the next frame, if nothing is missing before it.
        origin: what the first frame's time stamp would be, in frames, if nothing is missing before it.
        rounding: losses up to this, in frames, leave no hole.
    """

    def __init__(self, rate: int, origin: int) -> None:
        self.frame = 0
        self._jitter = int(rate * _JITTER_S)
        self.rounding = int(rate * _ROUNDING_S)
        self._max_hole = int(rate * _MAX_HOLE_S)
        self.origin = origin
        self._lost = 0  # frames that could not be decoded since the last that could
        self._losing = False

    @property
    def at_start(self) -> bool:
        """Whether there was no more so far than a codec may put before the audio."""
        return self.frame <= self._jitter

    def lose(self, frames: int) -> None:
        """A packet could not be decoded: ``frames`` is its length, 0 if unknown."""
        self._losing = True
        self._lost += frames

    def place(self, stamp: int | None, frames: int) -> int:
        """The place of ``frames`` that were decoded; ``stamp`` is their time stamp in frames.

        They follow those before, or leave a hole; they never lie over them.
        """
        ahead = self._lost if stamp is None else stamp - self.origin - self.frame
        if not -self._jitter <= ahead <= self._max_hole:
            # Another recording joined to this one, or a wrong time stamp: count from here.
            ahead = self._lost
            self.origin = (stamp or 0) - self.frame - ahead
        elif not self.frame and not self._losing and abs(ahead) <= self._jitter:
            self.origin += ahead  # containers count the codec's padding at the start differently
        if ahead > (self.rounding if self._losing else self._jitter):
            self.frame += ahead
        self._lost, self._losing = 0, False
        start = self.frame
        self.frame += frames
        return start
