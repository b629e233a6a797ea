"""One uninterrupted run of audio: audio must not be joined over a hole, so every hole ends a run.

In: payloads of whole frames in the stream's own format. Out: the windows of each transcribed channel, at 16 kHz.

Live, one resampler and cutter serve a channel for the whole run. Where another process must be able to resume, each window has
its own.
"""

import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from transcriber.audio.codecs.pcm import decode
from transcriber.audio.format import AudioFormat
from transcriber.audio.mixing import MixReport
from transcriber.audio.resampler import TARGET_SAMPLE_RATE, DrainableResampler, Resampler
from transcriber.audio.vad.detector import FRAME_SAMPLES, Network
from transcriber.audio.window import Cut
from transcriber.audio.window_cutter import BEFORE_S, WindowCutter
from transcriber.audio.window_policy import WindowPolicies, WindowPolicy

BLOCK_S = 0.1
"""Seconds of audio that are decoded, resampled and examined at once: per payload of 20 ms that would cost twice as much."""

LATE_BLOCK_S = 0.02
"""The same where a window may be full, so that it does not wait for the rest of a long block."""

PRE_ROLL_S = BEFORE_S
"""So long before its window a ``_WindowInput`` begins: in its first second the energy gate is always open, and it must have seen
some noise to know its floor."""


class ContiguousRun:
    """Decodes, resamples and cuts.

    Attributes:
        cutters: one for each transcribed channel: the mix of all, or each by itself.
    """

    __slots__ = (
        "_block_bytes", "_format", "_mix_report", "_pending", "_pushed", "_resamplers", "_split", "_window", "cutters"
    )  # fmt: skip

    def __init__(
        self, fmt: AudioFormat, policies: WindowPolicies, network: Network | None, mix_report: MixReport | None = None
    ) -> None:
        policy = policies.latest()
        self._format = fmt
        self._mix_report = mix_report
        self._split = policy.split_channels
        channels = range(window_channels(fmt, policy))
        self._resamplers = [DrainableResampler(fmt.rate) for _ in channels]
        self.cutters = [WindowCutter(fmt.rate, policies, network) for _ in channels]
        self._block_bytes = int(BLOCK_S * fmt.rate) * fmt.frame_bytes
        self._window = int(policy.window_s * fmt.rate)  # frames
        self._pending = bytearray()  # payloads not yet decoded
        self._pushed = 0  # frames

    @property
    def open_frames(self) -> int:
        """Frames pushed that are not yet in the windows of all channels."""
        return self._pushed - min(cutter.cut for cutter in self.cutters)

    def push(self, payload: bytes | bytearray | memoryview, *, eager: bool) -> list[tuple[int, Cut]]:
        """Feed whole frames; returns the windows they complete, each with its channel. For ``eager`` see ``WindowCutter``."""
        self._pushed += len(payload) // self._format.frame_bytes
        if self._pending or len(payload) < self._block_bytes:
            self._pending += payload
            if len(self._pending) < self._block_bytes and self.open_frames < self._window:
                return []
            payload, self._pending = self._pending, bytearray()
        return self._examine(payload, eager=eager)

    def _examine(self, pending: bytes | bytearray | memoryview, *, eager: bool) -> list[tuple[int, Cut]]:
        return [
            (channel, cut)
            for channel, samples in enumerate(
                decode(pending, self._format, split=self._split, mix_report=self._mix_report)
            )
            for cut in self.cutters[channel].push(self._resamplers[channel].push(samples), eager=eager)
        ]

    def catch_up(self) -> list[tuple[int, Cut]]:
        """Nothing is ever deferred: no windows."""
        return []

    def settle(self) -> list[tuple[int, Cut]]:
        """Examine all that was pushed; returns the windows that it completes."""
        pending, self._pending = self._pending, bytearray()
        return self._examine(pending, eager=False) if pending else []

    def end_speech(self) -> list[tuple[int, Cut]]:
        """Examine all that was pushed; returns the windows that it completes, and those in which speech has ended."""
        cuts = self.settle()
        return cuts + [(channel, cut) for channel, cutter in enumerate(self.cutters) for cut in cutter.end_speech()]

    def end_window(self, channel: int) -> list[tuple[int, Cut]]:
        """The open window of ``channel`` ends here, after ``settle``, and the run goes on."""
        cuts = self.cutters[channel].end_window(self._resamplers[channel].drain(), self._pushed)
        return [(channel, cut) for cut in cuts]

    def flush(self, rest: bytes = b"") -> list[tuple[int, Cut]]:
        """The run ends with ``rest``: returns what is left, the last windows shorter. Nothing may be pushed after it."""
        self._pending += rest
        self._pushed += len(rest) // self._format.frame_bytes
        cuts: list[tuple[int, Cut]] = []
        for channel, samples in enumerate(
            decode(self._pending, self._format, split=self._split, mix_report=self._mix_report)
        ):
            cutter, resampler = self.cutters[channel], self._resamplers[channel]
            cuts += [(channel, cut) for cut in cutter.flush(resampler.flush(samples), self._pushed)]
        return cuts


class ReplayableRun:
    """A ``ContiguousRun`` in which each window depends on its own audio and the ``PRE_ROLL_S`` before it, and on nothing else.

    So given where a window begins, it and all that follow can be cut again: the same ones, in the same order, however the
    payloads are sliced. ``eager`` must then be the same, too.
    """

    __slots__ = (
        "_block_frames",
        "_eager",
        "_first",
        "_format",
        "_inputs",
        "_kept",
        "_mix_report",
        "_network",
        "_policies",
        "_pushed",
    )

    def __init__(
        self,
        fmt: AudioFormat,
        policies: WindowPolicies,
        network: Network | None,
        *,
        first: int = 0,
        places: Iterable[tuple[int, int, bool, WindowPolicy]] | None = None,
        mix_report: MixReport | None = None,
    ) -> None:
        """A new run; or one to resume, where each channel's next window is at (frame, frames of lead, ``follows``, its policy).

        ``follows`` is as in ``WindowCutter``. What will be pushed begins with the run's frame ``first``, which no window needs
        to begin before.
        """
        self._format, self._policies, self._network, self._mix_report = fmt, policies, network, mix_report
        policy = policies.latest()
        places = [(0, 0, False, policy)] * window_channels(fmt, policy) if places is None else places
        self._inputs = [self._new_input(*place) for place in places]
        self._block_frames = int(BLOCK_S * fmt.rate)  # frames
        self._eager = True
        self._kept = bytearray()  # payloads that a window still needs
        self._first = self._pushed = first  # the frames of the run with which they begin and end

    @property
    def cutters(self) -> list[WindowCutter]:
        """One for the open window of each channel; they count from where their input begins."""
        return [window.cutter for window in self._inputs]

    @property
    def open_frames(self) -> int:
        """Frames pushed that are not yet in the windows of all channels."""
        return max(0, self._pushed - min(window.cut for window in self._inputs))

    def push(self, payload: bytes | memoryview, *, eager: bool) -> list[tuple[int, Cut]]:
        """Feed whole frames; returns the windows they complete, each with its channel. For ``eager`` see ``WindowCutter``."""
        self._eager = eager
        self._kept += payload
        self._pushed += len(payload) // self._format.frame_bytes
        needed = min(self._pushed, *(window.begin for window in self._inputs))
        if needed > self._first:
            del self._kept[: (needed - self._first) * self._format.frame_bytes]
            self._first = needed
        return self._advance()

    def catch_up(self) -> list[tuple[int, Cut]]:
        """Returns the windows that the audio so far completes and ``push`` has deferred."""
        found: list[tuple[int, Cut]] = []
        while more := self._advance():
            found += more
        return found

    settle = end_speech = catch_up

    def end_window(self, channel: int) -> list[tuple[int, Cut]]:
        """The open window of ``channel`` ends here, after ``settle``, and the run goes on."""
        found: list[tuple[int, Cut]] = []
        while self._inputs[channel].cut < self._pushed:
            found += self._feed(channel)
        return found

    def flush(self, rest: bytes = b"") -> list[tuple[int, Cut]]:
        """The run ends with ``rest``: returns what is left, the last windows shorter. Nothing may be pushed after it."""
        self._kept += rest
        self._pushed += len(rest) // self._format.frame_bytes
        found = self.catch_up()
        for channel in range(len(self._inputs)):
            found += self.end_window(channel)
        return found

    def _advance(self) -> list[tuple[int, Cut]]:
        """Feed the channel that is furthest behind first: so the order of the windows depends on their places alone."""
        found: list[tuple[int, Cut]] = []
        while True:
            channel = min(range(len(self._inputs)), key=lambda channel: self._inputs[channel].due)
            due = self._inputs[channel].due
            if due > self._pushed:
                return found
            cuts = self._feed(channel)
            found += cuts
            if cuts and self._pushed - due < self._block_frames:
                # A new input has seconds of audio to take, which costs some ms: this window need not wait for that.
                return found

    def _feed(self, channel: int) -> list[tuple[int, Cut]]:
        """Feed a channel what is due, or what is left of the run; returns its window if that has ended."""
        window = self._inputs[channel]
        over = window.due > self._pushed
        begin, end = (
            (frame - self._first) * self._format.frame_bytes
            for frame in (window.fed, self._pushed if over else window.due)
        )
        kept = self._kept[begin:end]
        samples = decode(kept, self._format, split=len(self._inputs) > 1, mix_report=self._mix_report)[channel]
        cuts = window.flush(samples, self._pushed) if over else window.push(samples, eager=self._eager)
        for cut in cuts:
            place = cut.start + cut.frames, cut.next_lead, cut.goes_on
            self._inputs[channel] = self._new_input(*place, self._policies.latest())
        return [(channel, cut) for cut in cuts]

    def _new_input(self, cut: int, lead: int, follows: bool, policy: WindowPolicy) -> "_WindowInput":
        return _WindowInput(self._format.rate, policy, self._network, cut, lead, follows)


class _WindowInput:
    """Resampler and cutter of one window of one channel. Blocks depend on the window's place alone, so results are bit-identical.

    Attributes:
        cut: where the window begins; all places here are frames of the run.
        begin: where its input begins.
        fed, due: how far it was fed, and to where it is to be fed next.
        cutter: counts from ``begin``.
    """

    __slots__ = ("_block", "_late_block", "_resampler", "begin", "cut", "cutter", "due", "fed")

    def __init__(
        self, rate: int, policy: WindowPolicy, network: Network | None, cut: int, lead: int, follows: bool
    ) -> None:
        self.cut = cut
        self.begin = self.fed = input_start(cut, lead, rate)
        # The left context alone needs no speech detection, which costs most.
        detect_from = input_start(cut, 0, rate) - self.begin
        self.cutter = WindowCutter(
            rate,
            policy,
            network,
            cut=cut - self.begin,
            lead=lead,
            origin=self.begin,
            detect_from=detect_from,
            follows=follows,
        )
        self._resampler = Resampler(rate)
        self._block, self._late_block = int(BLOCK_S * rate), int(LATE_BLOCK_S * rate)
        self.due = self._after(cut)

    def push(self, samples: NDArray[np.float32], *, eager: bool) -> list[Cut]:
        """Take what is due, (n,) float32; returns the window if it has ended."""
        self.fed, self.due = self.due, self._after(self.due)
        return self._in_run(self.cutter.push(self._resampler.push(samples), eager=eager))

    def flush(self, samples: NDArray[np.float32], end: int) -> list[Cut]:
        """The run ends at ``end`` with these; returns the window."""
        return self._in_run(self.cutter.flush(self._resampler.flush(samples), end - self.begin))

    def _after(self, frame: int) -> int:
        """The end of the block that begins at ``frame``."""
        return max(frame + self._late_block, min(frame + self._block, self.begin + self.cutter.limit))

    def _in_run(self, cuts: list[Cut]) -> list[Cut]:
        return [replace(cut, start=self.begin + cut.start) for cut in cuts]


def input_start(cut: int, lead: int, rate: int) -> int:
    """Where the input begins of a window at ``cut`` that includes ``lead`` frames before it, all in frames of a run.

    Samples at 16 kHz and frames of 32 ms lie where they would lie if they were counted from the run's start.
    """
    grid = rate * FRAME_SAMPLES // math.gcd(rate * FRAME_SAMPLES, TARGET_SAMPLE_RATE)
    return max(0, cut - lead - PRE_ROLL_S * rate) // grid * grid


def window_channels(fmt: AudioFormat, policy: WindowPolicy) -> int:
    """How many channels of a stream have windows of their own."""
    return fmt.channels if policy.split_channels else 1
