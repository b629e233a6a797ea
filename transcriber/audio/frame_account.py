"""The outcome of every received frame, over all speakers of a session.

In: ranges and their outcomes, by channel, in any order; a hole within a window is settled before it. Out: sums in frames that add up.
Where two channels are transcribed separately a frame counts once: as dropped if it was dropped for any speaker, else as transcribed
if it was for any.
"""

from bisect import insort
from collections.abc import Iterable
from enum import IntEnum
from typing import Any, NamedTuple, Self


class FrameOutcome(IntEnum):
    """The outcome of a frame; of two speakers' the greater counts."""

    LOST = 0  # never received, for all channels alike
    SILENT = 1
    TRANSCRIBED = 2
    DROPPED = 3


class _Range(NamedTuple):
    start: int
    end: int
    outcome: FrameOutcome


class FrameAccount:
    """Sums of one session. Invariant: they add up to ``settled``, the frames before the first without an outcome."""

    __slots__ = ("_channels", "_sums", "settled")

    def __init__(self, channels: int) -> None:
        self.settled = 0
        self._sums = dict.fromkeys(FrameOutcome, 0)
        self._channels: list[list[_Range]] = [[] for _ in range(channels)]  # not yet in the sums, in order

    @classmethod
    def restored(cls, snapshot: dict[str, Any]) -> Self:
        """The account as ``snapshot`` describes it."""
        account = cls(len(snapshot["open"]))
        account.settled = snapshot["settled"]
        account._sums = {outcome: snapshot["sums"][outcome.name.lower()] for outcome in FrameOutcome}
        account._channels = [
            [_Range(start, end, FrameOutcome[name.upper()]) for start, end, name in ranges]
            for ranges in snapshot["open"]
        ]
        return account

    def snapshot(self) -> dict[str, Any]:
        """All of it, as JSON has it: ``settled``, ``sums`` by outcome, and of each channel the ``open`` ranges after them."""
        return {
            "settled": self.settled,
            "sums": {outcome.name.lower(): frames for outcome, frames in self._sums.items()},
            "open": [
                [[start, end, outcome.name.lower()] for start, end, outcome in ranges] for ranges in self._channels
            ],
        }

    def __getitem__(self, outcome: FrameOutcome) -> int:
        """Frames of that outcome, of those before ``settled``."""
        return self._sums[outcome]

    def settle(self, outcome: FrameOutcome, start: int, frames: int, channel: int | None = None) -> None:
        """Set the outcome of ``frames`` frames of ``channel``, or of all; that of frames settled before does not change."""
        for ranges in self._channels if channel is None else (self._channels[channel],):
            for begin, end in _between(ranges, max(start, self.settled), start + frames):
                insort(ranges, _Range(begin, end, outcome))
        while all(ranges and ranges[0].start <= self.settled for ranges in self._channels):
            self._sum_up([ranges[0] for ranges in self._channels])

    def covers(self, outcome: FrameOutcome, start: int, frames: int) -> bool:
        """Whether these frames have this outcome for all channels; or they are summed up already."""
        end = start + frames
        return end <= self.settled or all(
            any(known.outcome is outcome and known.start <= start and end <= known.end for known in ranges)
            for ranges in self._channels
        )

    def _sum_up(self, heads: Iterable[_Range]) -> None:
        """Sum up to where the first of these ranges ends."""
        end = min(head.end for head in heads)
        self._sums[max(head.outcome for head in heads)] += end - self.settled
        self.settled = end
        for ranges in self._channels:
            if ranges[0].end == end:
                del ranges[0]


def _between(ranges: list[_Range], start: int, end: int) -> list[tuple[int, int]]:
    """The parts of the frames from ``start`` to ``end`` that are in none of these ranges."""
    free = []
    for known in ranges:
        if known.start < end and known.end > start:
            if known.start > start:
                free.append((start, known.start))
            start = known.end
    return [*free, (start, end)] if start < end else free
