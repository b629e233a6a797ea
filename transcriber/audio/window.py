"""How audio is cut into windows, and one window of a run. Plain data."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transcriber.audio.resampler import TARGET_SAMPLE_RATE
from transcriber.audio.vad.detector import THRESHOLD

OVERLAP_S = 0.5
"""Audio that a full window includes after its end, and without left context the next one before its start; at most a quarter of one."""


@dataclass(frozen=True, slots=True)
class WindowPolicy:
    """How audio is cut; the same for all streams.

    Attributes:
        window_s: seconds of the longest window.
        quiet_cut: whether a full window is cut at the quietest place near its end, else right there.
        endpoint_s: seconds of silence after which speech has ended; 0: nothing ends it.
        speech_gate: whether windows without speech become silences.
        speech_threshold: probability in [0, 1] from which on a frame holds speech.
        split_channels: whether each channel is transcribed by itself, not their mix.
        replayable: whether each window has a resampler and detector of its own, so that it can be cut again (``ReplayableRun``).
        left_context_s: seconds of the run before each window that are transcribed with it.
        always_detect: whether the detector runs even where neither ``speech_gate`` nor ``endpoint_s`` needs it.
    """

    window_s: float
    quiet_cut: bool = False
    endpoint_s: float = 0.0
    speech_gate: bool = False
    speech_threshold: float = THRESHOLD
    split_channels: bool = False
    replayable: bool = False
    left_context_s: float = 0.0
    always_detect: bool = False

    @property
    def needs_detector(self) -> bool:
        """Whether a speech detector is needed."""
        return self.speech_gate or self.endpoint_s > 0 or self.always_detect


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
