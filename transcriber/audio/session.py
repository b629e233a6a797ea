"""One recording: its clock, its holes, its windows and its account.

In: payloads with their offsets. Out: windows and gaps that tile the session: no frame in two of
them, none in none. Time comes from counting frames, never from a wall clock.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from transcriber.audio.pcm import AudioFormat
from transcriber.audio.window import Cut, WindowCutter
from transcriber.errors import BadInputError
from transcriber.messages import GapReason

BEGAN_AGAIN_S = 10.0
"""A payload that lies more than this behind the clock is a publisher that began again, not an echo."""


@dataclass(frozen=True, slots=True)
class Window:
    """Audio for the engine.

    Attributes:
        number: of the window in its session, from 0.
        start_frame, frames: the range it covers, at the stream's own rate.
        samples: (n,) float32 in [-1, 1] at 16 kHz; whoever takes the window owns them.
        captured_at: capture time of the first frame, None if never told.
    """

    session: "Session"
    number: int
    start_frame: int
    frames: int
    samples: NDArray[np.float32]
    captured_at: datetime | None


@dataclass(frozen=True, slots=True)
class Gap:
    """``frames`` frames (0: not known how many) that no window will cover."""

    session: "Session"
    start_frame: int
    frames: int
    reason: GapReason


class Session:
    """Clock, windows and account of one recording.

    Invariants, to the frame: ``clock == received + lost``; once closed and settled,
    ``received == transcribed + silent + dropped``.

    Attributes:
        clock: frames since the session's first, holes included.
        received, lost: frames that came, frames that did not.
        transcribed, silent, dropped: what became of the received ones.
        segments: windows that became a ``final``.
        overlap: frames that came twice and were trimmed.
        closed: no more audio will come, and all that was received has been handed on; to be set by who did that.
    """

    __slots__ = (
        "_capture", "_cutter", "_max_hole", "_numbers", "_opening", "_origin", "_skipped_at", "_window_frames",
        "clock", "closed", "dropped", "format", "id", "lost", "overlap", "received", "segments", "silent", "transcribed",
    )  # fmt: skip

    def __init__(self, session_id: str, fmt: AudioFormat, *, window_s: float, max_hole_s: float) -> None:
        self.id = session_id
        self.format = fmt
        self.clock = self.received = self.lost = self.overlap = 0
        self.transcribed = self.silent = self.dropped = self.segments = 0
        self.closed = False
        self._window_frames = int(window_s * fmt.rate)
        self._max_hole = int(max_hole_s * fmt.rate)
        self._cutter = WindowCutter(fmt, self._window_frames)
        self._numbers = 0
        self._skipped_at: int | None = None  # the clock at the last payload that could not be read
        self._origin: int | None = None  # the publisher's offset of our frame 0
        self._capture: tuple[int, datetime] | None = None  # a frame, and when it was captured
        self._opening: tuple[int, datetime] | None = None  # the same, when the open window was opened

    @property
    def rate(self) -> int:
        """Hz."""
        return self.format.rate

    @property
    def open_frames(self) -> int:
        """Frames received that no window has taken yet."""
        return self._cutter.open_frames

    @property
    def complete(self) -> bool:
        """Whether nothing more will come of this session but its ``end``."""
        return self.closed and self.received == self.transcribed + self.silent + self.dropped

    def began_again(self, offset: int | None, frames: int) -> bool:
        """Whether this payload shows that the publisher started over."""
        if offset is None or self._origin is None or not frames:
            return False
        return self._position(offset) + frames < self.clock - BEGAN_AGAIN_S * self.rate

    def feed(
        self,
        payload: bytes,
        *,
        offset: int | None = None,
        captured_at: datetime | None = None,
        lost_before: GapReason | None = None,
    ) -> list[Window | Gap]:
        """Take one payload of whole frames; returns what it completes.

        ``lost_before`` says that messages may have been lost since the previous payload, and why: where no
        offset tells how much, that is a gap of 0 frames.

        Raises:
            BadInputError: the offset is out of reach; nothing was taken.
        """
        position = self._position(offset)
        hole = position - self.clock
        if hole > self._max_hole:
            raise BadInputError(f"Audio-Offset jumps {hole / self.rate:.0f} s ahead")
        if offset is not None and self._origin is None:
            self._origin = offset - self.clock
        done: list[Window | Gap] = []
        if hole > 0:
            done = self._break(hole, "slow_consumer" if lost_before == "slow_consumer" else "lost_input")
        elif lost_before is not None and offset is None:
            done = self._break(0, lost_before)
        if captured_at is not None and payload:
            self._capture = (position, captured_at)
        return done + self._push(payload, trim=max(0, -hole))

    def skip(self) -> list[Gap]:
        """A payload could not be read: a gap of 0 frames, the clock stays; one for all of them at one place."""
        if self._skipped_at == self.clock:
            return []
        self._skipped_at = self.clock
        return [Gap(self, self.clock, 0, "bad_input")]

    def close(self, lost_before: GapReason | None = None) -> list[Window | Gap]:
        """No more audio; returns the last windows, and a gap of 0 frames if more may have been on its way."""
        return self._windows(self._cutter.flush()) + (
            [] if lost_before is None else [Gap(self, self.clock, 0, lost_before)]
        )

    def _position(self, offset: int | None) -> int:
        """Where a payload with this offset belongs, in frames of our clock; may be negative."""
        return self.clock if offset is None or self._origin is None else offset - self._origin

    def _push(self, payload: bytes, trim: int) -> list[Window | Gap]:
        """Hand over ``payload`` without its first ``trim`` frames."""
        fresh = memoryview(payload)[trim * self.format.frame_bytes :]
        frames = len(fresh) // self.format.frame_bytes
        self.overlap += len(payload) // self.format.frame_bytes - frames
        if not frames:
            return []
        if not self.open_frames:
            self._opening = self._capture
        self.clock += frames
        self.received += frames
        return self._windows(self._cutter.push(fresh))

    def _break(self, hole: int, reason: GapReason) -> list[Window | Gap]:
        """Close the run, since sound must not be joined over a hole; then the gap."""
        done = self._windows(self._cutter.flush())
        done.append(Gap(self, self.clock, hole, reason))
        self.clock += hole
        self.lost += hole
        self._cutter = WindowCutter(self.format, self._window_frames)
        return done

    def _windows(self, cuts: list[Cut]) -> list[Window | Gap]:
        """Number the cuts and give them their places; the last one ends where the open frames begin."""
        start = self.clock - self.open_frames - sum(cut.frames for cut in cuts)
        windows: list[Window | Gap] = []
        for cut in cuts:
            windows.append(Window(self, self._numbers, start, cut.frames, cut.samples, self._captured_at(start)))
            self._numbers += 1
            self._opening = self._capture
            start += cut.frames
        return windows

    def _captured_at(self, frame: int) -> datetime | None:
        if self._opening is None:
            return None
        known, captured_at = self._opening
        return captured_at + timedelta(seconds=(frame - known) / self.rate)
