"""How many positions the encoder computes for a window. In: settings, the model's shape, a window's samples. Out: positions of 20 ms."""

from transcriber.config import Settings
from transcriber.config.sizing import FULL_AUDIO_CTX, MIN_AUDIO_CTX, fitting_positions
from transcriber.engine.job import WHISPER_SAMPLE_RATE

SAMPLES_PER_POSITION = 320
"""The encoder makes one position of 20 ms, of two frames of the spectrogram."""

REDO_POSITIONS = 1280
"""The context of a second run, which holds every window that a tighter one holds. Not the
model's whole 1500: that is no multiple of 256, the step in which whisper.cpp lays out the encoder's output for flash
attention, so the decoder would read some rows of an earlier call too. It also takes a fifth more time."""

SHORT_REDO_POSITIONS, SHORT_S = 1024, 3.0
"""Of a short window, in seconds, whose usual context is ``MIN_AUDIO_CTX``. Of 40 such that were doubted (tiny.en and base,
clean, under noise 5 dB below the speech, or as loud) 768 positions helped 3 and harmed 8, 1024 7 and 8, 1280 7 and 12, at 1.6, 2.3
and 2.9 times the cost of the first run."""


class EncoderContext:
    """The encoder contexts of one model: the usual one, and a wide one for a second run.

    Attributes:
        tight: whether the wide one is wider than the usual one.
        wide_positions: of the wide one; a window that needs as many gets no wider one.
    """

    def __init__(self, settings: Settings, full_positions: int) -> None:
        """``full_positions`` is the model's ``n_audio_ctx``."""
        self._positions = min(settings.audio_ctx or full_positions, full_positions)
        self._follows = settings.whisper_audio_ctx == "auto"
        self.wide_positions = min(REDO_POSITIONS, full_positions)
        self.tight = self._positions < self.wide_positions

    def usual(self, samples: int) -> int:
        """Positions of a window with ``samples``: as set, as long as they fit; with ``auto`` as many as they need."""
        if not self.tight:
            return self._positions
        if self._follows:
            fitting = fitting_positions(samples / WHISPER_SAMPLE_RATE) or FULL_AUDIO_CTX
            return min(max(self._positions, fitting), self.wide_positions)
        fits = samples <= self._positions * SAMPLES_PER_POSITION
        return self._positions if fits else self.wide_positions

    def wide(self, samples: int) -> int:
        """Positions of a second run on a window with ``samples``."""
        short = samples <= SHORT_S * WHISPER_SAMPLE_RATE and self._positions <= MIN_AUDIO_CTX
        return min(SHORT_REDO_POSITIONS, self.wide_positions) if short else self.wide_positions
