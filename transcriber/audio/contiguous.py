"""One uninterrupted run of audio: sound must not be joined over a hole, so every hole ends a run.

In: payloads of whole frames in the stream's own format. Out: the windows of each channel that is heard, at 16 kHz.

Live, the same ears hear the whole run. Where another process must be able to go on, each window has ears of its own.
"""

import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from transcriber.audio.format import AudioFormat
from transcriber.audio.mixing import Noticed
from transcriber.audio.pcm import decode
from transcriber.audio.resampler import TARGET_SAMPLE_RATE, Resampler
from transcriber.audio.vad.detector import FRAME_SAMPLES, Network
from transcriber.audio.window import BEFORE_S, Cut, Cutting, WindowCutter

BLOCK_S = 0.1
"""Seconds of audio that are decoded, resampled and listened to at once: per 20 ms payload that would cost twice as much."""

LATE_BLOCK_S = 0.02
"""The same where a window may be full: it need not wait for the rest of a long block."""

PRE_ROLL_S = BEFORE_S
"""How long before its window a pair of ears opens: for a second it takes whatever it hears for a rise, and it needs to have
heard some noise to know one."""


class ContiguousRun:
    """Decodes, resamples and cuts.

    Attributes:
        cutters: one for each channel that is heard: the mix of all, or each for itself.
    """

    __slots__ = (
        "_block_bytes", "_format", "_noticed", "_pending", "_pushed", "_resamplers", "_split", "_window", "cutters"
    )  # fmt: skip

    def __init__(
        self, fmt: AudioFormat, cutting: Cutting, network: Network | None, noticed: Noticed | None = None
    ) -> None:
        self._format = fmt
        self._noticed = noticed
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
        self._pushed += len(payload) // self._format.frame_bytes
        pending: bytes | bytearray | memoryview = payload
        if self._pending or len(payload) < self._block_bytes:
            self._pending += payload
            if len(self._pending) < self._block_bytes and self.open_frames < self._window:
                return []
            pending, self._pending = self._pending, bytearray()
        return [
            (channel, cut)
            for channel, samples in enumerate(decode(pending, self._format, split=self._split, noticed=self._noticed))
            for cut in self.cutters[channel].push(self._resamplers[channel].push(samples), eager=eager)
        ]

    def catch_up(self) -> list[tuple[int, Cut]]:
        """Nothing is ever put off."""
        return []

    def flush(self, rest: bytes = b"") -> list[tuple[int, Cut]]:
        """The run ends with ``rest``: returns what is left, the last windows shorter. Nothing may be pushed after it."""
        self._pending += rest
        self._pushed += len(rest) // self._format.frame_bytes
        cuts: list[tuple[int, Cut]] = []
        for channel, samples in enumerate(
            decode(self._pending, self._format, split=self._split, noticed=self._noticed)
        ):
            cutter, resampler = self.cutters[channel], self._resamplers[channel]
            cuts += [(channel, cut) for cut in cutter.flush(resampler.flush(samples), self._pushed)]
        return cuts


class ReplayableRun:
    """A ``ContiguousRun`` in which each window depends on its own audio and the ``PRE_ROLL_S`` before it, and on nothing else.

    So whoever knows where a window begins can cut it, and all that follow, again: the same ones, in the same order, however
    the payloads are sliced. What ``eager`` says must then be the same too.
    """

    __slots__ = (
        "_cutting",
        "_eager",
        "_ears",
        "_first",
        "_format",
        "_kept",
        "_lazy",
        "_network",
        "_noticed",
        "_pushed",
    )

    def __init__(
        self,
        fmt: AudioFormat,
        cutting: Cutting,
        network: Network | None,
        *,
        first: int = 0,
        places: Iterable[tuple[int, int, bool]] | None = None,
        noticed: Noticed | None = None,
    ) -> None:
        """A new run; or one to go on with, where each channel's next window is at (frame, frames of lead, ``follows``).

        ``follows`` is as in ``WindowCutter``.
        ``first`` is the run's frame with which what will be pushed begins: none that anybody has to hear comes before it.
        """
        self._format, self._cutting, self._network, self._noticed = fmt, cutting, network, noticed
        places = [(0, 0, False)] * heard_channels(fmt, cutting) if places is None else places
        self._ears = [self._new_ears(*place) for place in places]
        self._lazy = int(BLOCK_S * fmt.rate)  # frames
        self._eager = True
        self._kept = bytearray()  # payloads, as long as anybody has to hear them
        self._first = self._pushed = first  # the frames of the run with which they begin and end

    @property
    def cutters(self) -> list[WindowCutter]:
        """One for the open window of each channel; they count from where their ears opened."""
        return [ears.cutter for ears in self._ears]

    @property
    def open_frames(self) -> int:
        """Frames pushed that are not yet in the windows of all channels."""
        return max(0, self._pushed - min(ears.cut for ears in self._ears))

    def push(self, payload: bytes | memoryview, *, eager: bool) -> list[tuple[int, Cut]]:
        """Feed whole frames; returns the windows they complete, each with its channel. For ``eager`` see ``WindowCutter``."""
        self._eager = eager
        self._kept += payload
        self._pushed += len(payload) // self._format.frame_bytes
        needed = min(self._pushed, *(ears.begin for ears in self._ears))
        if needed > self._first:
            del self._kept[: (needed - self._first) * self._format.frame_bytes]
            self._first = needed
        return self._hear()

    def catch_up(self) -> list[tuple[int, Cut]]:
        """Returns the windows that the audio so far completes, as far as ``push`` has put them off."""
        found: list[tuple[int, Cut]] = []
        while more := self._hear():
            found += more
        return found

    def flush(self, rest: bytes = b"") -> list[tuple[int, Cut]]:
        """The run ends with ``rest``: returns what is left, the last windows shorter. Nothing may be pushed after it."""
        self._kept += rest
        self._pushed += len(rest) // self._format.frame_bytes
        found = self.catch_up()
        for channel in range(len(self._ears)):
            while self._ears[channel].cut < self._pushed:
                found += self._listen(channel)
        return found

    def _hear(self) -> list[tuple[int, Cut]]:
        """Whoever is furthest behind listens first: so the order of the windows depends on their places alone."""
        found: list[tuple[int, Cut]] = []
        while True:
            channel = min(range(len(self._ears)), key=lambda channel: self._ears[channel].due)
            due = self._ears[channel].due
            if due > self._pushed:
                return found
            cuts = self._listen(channel)
            found += cuts
            if cuts and self._pushed - due < self._lazy:
                # New ears have seconds to hear, which takes some ms: this window need not wait for them.
                return found

    def _listen(self, channel: int) -> list[tuple[int, Cut]]:
        """Let a channel hear as much as is due, or what is left of the run; returns its window if that has ended."""
        ears = self._ears[channel]
        over = ears.due > self._pushed
        begin, end = (
            (frame - self._first) * self._format.frame_bytes
            for frame in (ears.heard, self._pushed if over else ears.due)
        )
        kept = self._kept[begin:end]
        samples = decode(kept, self._format, split=self._cutting.apart, noticed=self._noticed)[channel]
        cuts = ears.flush(samples, self._pushed) if over else ears.push(samples, eager=self._eager)
        for cut in cuts:
            self._ears[channel] = self._new_ears(cut.start + cut.frames, cut.next_lead, cut.goes_on)
        return [(channel, cut) for cut in cuts]

    def _new_ears(self, cut: int, lead: int, follows: bool) -> "_WindowInput":
        return _WindowInput(self._format.rate, self._cutting, self._network, cut, lead, follows)


class _WindowInput:
    """Hear one channel for the sake of one window. They hear it in blocks that depend on its place, to the last bit alike.

    Attributes:
        cut: where the window begins, like all places here in frames of the run.
        begin: where they opened.
        heard, due: how far they have heard, and to where they want to hear next.
        cutter: counts from ``begin``.
    """

    __slots__ = ("_block", "_late_block", "_resampler", "begin", "cut", "cutter", "due", "heard")

    def __init__(
        self, rate: int, cutting: Cutting, network: Network | None, cut: int, lead: int, follows: bool
    ) -> None:
        self.cut = cut
        self.begin = self.heard = first_heard(cut, lead, rate)
        # What is heard for the sake of the words alone need not be listened to: that costs most.
        deaf = first_heard(cut, 0, rate) - self.begin
        self.cutter = WindowCutter(
            rate, cutting, network, cut=cut - self.begin, lead=lead, origin=self.begin, deaf=deaf, follows=follows
        )
        self._resampler = Resampler(rate)
        self._block, self._late_block = int(BLOCK_S * rate), int(LATE_BLOCK_S * rate)
        self.due = self._after(cut)

    def push(self, samples: NDArray[np.float32], *, eager: bool) -> list[Cut]:
        """Hear what is due, (n,) float32; returns the window if it has ended."""
        self.heard, self.due = self.due, self._after(self.due)
        return self._in_run(self.cutter.push(self._resampler.push(samples), eager=eager))

    def flush(self, samples: NDArray[np.float32], end: int) -> list[Cut]:
        """The run ends at ``end`` with these; returns the window."""
        return self._in_run(self.cutter.flush(self._resampler.flush(samples), end - self.begin))

    def _after(self, frame: int) -> int:
        """The end of the block that begins at ``frame``."""
        return max(frame + self._late_block, min(frame + self._block, self.begin + self.cutter.limit))

    def _in_run(self, cuts: list[Cut]) -> list[Cut]:
        return [replace(cut, start=self.begin + cut.start) for cut in cuts]


def first_heard(cut: int, lead: int, rate: int) -> int:
    """Where ears open for a window that begins at ``cut`` and hears ``lead`` frames before it, all in frames of a run.

    Samples at 16 kHz and frames of 32 ms lie where they would lie if they were counted from the run's start.
    """
    grid = rate * FRAME_SAMPLES // math.gcd(rate * FRAME_SAMPLES, TARGET_SAMPLE_RATE)
    return max(0, cut - lead - PRE_ROLL_S * rate) // grid * grid


def heard_channels(fmt: AudioFormat, cutting: Cutting) -> int:
    """How many channels of a stream are heard apart."""
    return fmt.channels if cutting.apart else 1
