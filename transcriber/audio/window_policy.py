"""How audio is cut into windows. Plain data; loads no NumPy, for the command line."""

from dataclasses import dataclass

from transcriber.audio.vad import THRESHOLD


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
