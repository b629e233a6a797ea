"""One uninterrupted run of audio: sound must not be joined over a hole, so every hole ends a run.

In: payloads of whole frames in the stream's own format. Out: the windows of each channel that is heard, at 16 kHz.
"""

import numpy as np

from transcriber.audio.pcm import AudioFormat, decode
from transcriber.audio.resampler import Resampler
from transcriber.audio.speech import Network
from transcriber.audio.window import Cut, Cutting, WindowCutter

BLOCK_S = 0.1
"""Seconds of audio that are decoded, resampled and listened to at once: per 20 ms payload that would cost twice as much."""


class Run:
    """Decodes, resamples and cuts.

    Attributes:
        cutters: one for each channel that is heard: the mix of all, or each for itself.
    """

    __slots__ = ("_block_bytes", "_format", "_pending", "_pushed", "_resamplers", "_split", "_window", "cutters")

    def __init__(self, fmt: AudioFormat, cutting: Cutting, network: Network | None) -> None:
        self._format = fmt
        self._split = cutting.apart
        heard = range(heard_channels(fmt, cutting))
        self._resamplers = [Resampler(fmt.rate) for _ in heard]
        self.cutters = [WindowCutter(fmt.rate, cutting, network) for _ in heard]
        self._block_bytes = int(BLOCK_S * fmt.rate) * fmt.frame_bytes
        self._window = int(cutting.window_s * fmt.rate)  # frames
        self._pending = bytearray()  # payloads not yet decoded
        self._pushed = 0  # frames

    @property
    def open_frames(self) -> int:
        """Frames pushed that are not yet in the windows of all channels."""
        return self._pushed - min(cutter.cut for cutter in self.cutters)

    def push(self, payload: bytes | memoryview, *, eager: bool) -> list[tuple[int, Cut]]:
        """Feed whole frames; returns the windows they complete, each with its channel. For ``eager`` see ``WindowCutter``."""
        self._pending += payload
        self._pushed += len(payload) // self._format.frame_bytes
        if len(self._pending) < self._block_bytes and self.open_frames < self._window:
            return []
        pending, self._pending = self._pending, bytearray()
        return [
            (channel, cut)
            for channel, samples in enumerate(decode(pending, self._format, split=self._split))
            for cut in self.cutters[channel].push(self._resamplers[channel].push(samples), eager=eager)
        ]

    def flush(self) -> list[tuple[int, Cut]]:
        """The run ends: returns what is left, the last windows shorter. Nothing may be pushed after it."""
        cuts: list[tuple[int, Cut]] = []
        for channel, samples in enumerate(decode(self._pending, self._format, split=self._split)):
            cutter, resampler = self.cutters[channel], self._resamplers[channel]
            rest = np.concatenate((resampler.push(samples), resampler.flush()))
            cuts += [(channel, cut) for cut in cutter.flush(rest, self._pushed)]
        return cuts


def heard_channels(fmt: AudioFormat, cutting: Cutting) -> int:
    """How many channels of a stream are heard apart."""
    return fmt.channels if cutting.apart else 1
