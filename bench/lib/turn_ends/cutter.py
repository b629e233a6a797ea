"""Windows cut where a turn ends, as a daemon would that asks a network. In: as for ``WindowCutter``. Out: windows."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from transcriber.audio import contiguous
from transcriber.audio.vad.detector import FRAME_SAMPLES, Network
from transcriber.audio.window_cutter import WindowCutter
from transcriber.audio.window_policy import WindowPolicy


@dataclass(frozen=True, slots=True)
class TurnEnds:
    """When a window ends in silence.

    Attributes:
        probability: that what (n,) float32 at 16 kHz ends with is complete.
        complete: from which of it on it is.
        ask_frames: frames of 32 ms of silence after which it is asked, once a pause; a complete turn ends the window there.
        hold_frames: frames of silence after which the window ends whatever was answered.
    """

    probability: Callable[[NDArray[np.float32]], float]
    complete: float
    ask_frames: int
    hold_frames: int


class TurnCutter(WindowCutter):
    """Cuts one run. A full window ends as in ``WindowCutter``, however long it is held open."""

    __slots__ = ("_complete", "_ends")

    def __init__(
        self, rate: int, policy: WindowPolicy, network: Network | None, *, ends: TurnEnds, **place: Any
    ) -> None:
        """``place`` are the other arguments of ``WindowCutter``."""
        super().__init__(rate, policy, network, **place)
        self._ends, self._complete = ends, False

    def _ended(self, end: int) -> bool:
        silence = self._silence_frames
        if not self._may_end or silence < self._ends.ask_frames:
            return False
        if silence == self._ends.ask_frames:
            heard = self._joined()[: end - self._samples_begin]
            self._complete = self._ends.probability(heard) >= self._ends.complete
        return self._complete or silence >= self._ends.hold_frames

    def _after_speech(self, end: int) -> int:
        half = min(self._silence_frames, self._endpoint_frames) // 2
        return super()._after_speech(end + (self._endpoint_frames // 2 - half) * FRAME_SAMPLES)


@contextmanager
def cut_by(ends: TurnEnds | None) -> Iterator[None]:
    """Sessions that begin in it have their windows cut so; by silence where it is None."""
    cutter = WindowCutter if ends is None else partial(TurnCutter, ends=ends)
    with patch.object(contiguous, "WindowCutter", cutter):
        yield
