"""How audio is cut into windows. Plain data; loads no NumPy, for the command line."""

from dataclasses import dataclass
from typing import Any, Protocol

from transcriber.audio.vad import THRESHOLD

Changes = tuple[tuple[str, Any], ...]
"""Live settings that differ from the environment's: the name of each field, and its value; sorted by name."""


@dataclass(frozen=True, slots=True)
class WindowPolicy:
    """How audio is cut.

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
        changes: the live settings that it was made with, for the checkpoint.
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
    changes: Changes = ()

    def latest(self) -> "WindowPolicy":
        """As ``WindowPolicies`` that never change."""
        return self

    def policy(self, _: Changes) -> "WindowPolicy":
        return self

    @property
    def needs_detector(self) -> bool:
        """Whether a speech detector is needed."""
        return self.speech_gate or self.endpoint_s > 0 or self.always_detect


class WindowPolicies(Protocol):
    """Where a stream's settings may change while it runs; asked once a window. Event loop only."""

    def latest(self) -> WindowPolicy:
        """Of a window that begins now."""
        ...

    def policy(self, changes: Changes) -> WindowPolicy:
        """Of a window that began with these ``changes``."""
        ...
