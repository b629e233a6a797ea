"""One window of a run, as it was cut. Plain data."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transcriber.audio.resampler import TARGET_SAMPLE_RATE

OVERLAP_S = 0.5
"""Audio that a full window includes after its end, and without left context the next one before its start; at most a quarter of one."""

MIN_FLUSH_S = 0.25
"""A window that would be shorter is not ended on request: hardly a word, and whisper would have a window for every payload."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The next frames of the run.

    Attributes:
        start, frames: the range, in frames of the run.
        samples: (n,) float32 in [-1, 1] at 16 kHz: of the range, and around it what neighbours cover.
        lead_s, tail_s: seconds of ``samples`` before and after the range.
        goes_on: whether it was cut in the middle of speech, because it was full.
        speech_final: whether speech had ended.
        speech: (k,) float32, how likely each 32 ms of the range hold speech; None without a detector.
        speech_before: (m,) float32, the same of up to 2 s before it.
        silent: there is no speech in it, so it need not be transcribed.
        next_lead: frames before its end that the next window includes again.
    """

    start: int
    frames: int
    samples: NDArray[np.float32]
    lead_s: float = 0.0
    tail_s: float = 0.0
    goes_on: bool = False
    speech_final: bool = False
    speech: NDArray[np.float32] | None = None
    speech_before: NDArray[np.float32] | None = None
    silent: bool = False
    next_lead: int = 0

    @property
    def empty(self) -> bool:
        """Whether the range is shorter than a sample."""
        return not len(self.own)

    @property
    def own(self) -> NDArray[np.float32]:
        """The samples of the range alone; a view."""
        lead, tail = (round(seconds * TARGET_SAMPLE_RATE) for seconds in (self.lead_s, self.tail_s))
        return self.samples[lead : len(self.samples) - tail]
