"""One recording: its clock, its holes, its windows and its account.

In: payloads with their offsets. Out: windows, silences and gaps that tile the session, for each channel that is heard: no
frame in two of them, none in none. Time comes from counting frames, never from a wall clock.
"""

from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta

from transcriber.audio.account import Account, Fate
from transcriber.audio.pcm import AudioFormat
from transcriber.audio.run import Run, heard_channels
from transcriber.audio.speech import Network
from transcriber.audio.window import Cut, Cutting, WindowCutter
from transcriber.errors import BadInputError
from transcriber.messages import GapReason

BEGAN_AGAIN_S = 10.0
"""A payload that lies more than this behind the clock is a publisher that began again, not an echo."""


@dataclass(frozen=True, slots=True)
class Window:
    """Audio for the engine.

    Attributes:
        channel: which of those that are heard apart; 0 if none are.
        number: of the window in its session and channel, from 0; silences count.
        start_frame, frames: the range it covers, at the stream's own rate.
        cut: its samples, which whoever takes the window owns, and what is known of them.
        captured_at: capture time of the first frame, None if never told.
    """

    session: "Session"
    channel: int
    number: int
    start_frame: int
    frames: int
    cut: Cut
    captured_at: datetime | None


@dataclass(frozen=True, slots=True)
class Silence:
    """``frames`` frames of ``channel`` in which nobody speaks."""

    session: "Session"
    channel: int
    start_frame: int
    frames: int


@dataclass(frozen=True, slots=True)
class Gap:
    """``frames`` frames (0: not known how many) that no window will cover; of all channels where ``channel`` is None."""

    session: "Session"
    start_frame: int
    frames: int
    reason: GapReason
    channel: int | None = None


class Session:
    """Clock, windows and account of one recording.

    Invariants, to the frame: ``clock == received + lost``; once closed and settled, ``received`` is the sum of what was
    transcribed, silent and dropped.

    Attributes:
        clock: frames since the session's first, holes included.
        received: frames that came.
        account: what became of all frames so far.
        channels: how many are heard apart.
        segments: windows that became a ``final``.
        overlap: frames that came twice and were trimmed.
        closed: no more audio will come, and all that was received has been handed on; to be set by who did that.
    """

    __slots__ = (
        "_captures", "_cutting", "_max_hole", "_network", "_numbers", "_origin", "_run", "_run_start", "_skipped_at",
        "account", "channels", "clock", "closed", "format", "id", "overlap", "received", "segments",
    )  # fmt: skip

    def __init__(
        self, session_id: str, fmt: AudioFormat, cutting: Cutting, network: Network | None, *, max_hole_s: float
    ) -> None:
        self.id = session_id
        self.format = fmt
        self.channels = heard_channels(fmt, cutting)
        self.account = Account(self.channels)
        self.clock = self.received = self.overlap = self.segments = 0
        self.closed = False
        self._cutting, self._network = cutting, network
        self._max_hole = int(max_hole_s * fmt.rate)
        self._run = Run(fmt, cutting, network)
        self._run_start = 0  # the clock when it began
        self._numbers = [0] * self.channels  # of the open windows
        self._skipped_at: int | None = None  # the clock at the last payload that could not be read
        self._origin: int | None = None  # the publisher's offset of our frame 0
        self._captures: deque[tuple[int, datetime]] = deque()  # frames, and when they were captured

    @property
    def rate(self) -> int:
        """Hz."""
        return self.format.rate

    @property
    def open_frames(self) -> int:
        """Frames received that are not yet in a window of every channel."""
        return self._run.open_frames

    @property
    def complete(self) -> bool:
        """Whether nothing more will come of this session but its ``end``."""
        return self.closed and self.account.settled == self.clock

    def number(self, channel: int) -> int:
        """Of the open window of ``channel``."""
        return self._numbers[channel]

    def cutter(self, channel: int) -> WindowCutter:
        """Who cuts this channel at present, to be asked about the open window."""
        return self._run.cutters[channel]

    def open_window(self, channel: int) -> Window:
        """The open window of ``channel`` as it would be if it ended now; its samples are shared with it."""
        return self._window(channel, self.cutter(channel).open_cut())

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
        eager: bool = True,
    ) -> list[Window | Silence | Gap]:
        """Take one payload of whole frames; returns what it completes.

        ``eager`` says whether windows should be closed where speech has ended. ``lost_before`` says that messages may have
        been lost since the previous payload, and why: where no offset tells how much, that is a gap of 0 frames.

        Raises:
            BadInputError: the offset is out of reach; nothing was taken.
        """
        position = self._position(offset)
        hole = position - self.clock
        if hole > self._max_hole:
            raise BadInputError(f"Audio-Offset jumps {hole / self.rate:.0f} s ahead")
        if offset is not None and self._origin is None:
            self._origin = offset - self.clock
        done: list[Window | Silence | Gap] = []
        if hole > 0:
            done = self._break(hole, "slow_consumer" if lost_before == "slow_consumer" else "lost_input")
        elif lost_before is not None and offset is None:
            done = self._break(0, lost_before)
        trim = max(0, -hole)
        # The time of an echo is none to count from.
        if captured_at is not None and trim * self.format.frame_bytes < len(payload):
            self._captures.append((self.clock, captured_at + timedelta(seconds=trim / self.rate)))
        return done + self._push(payload, trim=trim, eager=eager)

    def skip(self) -> list[Gap]:
        """A payload could not be read: a gap of 0 frames, the clock stays; one for all of them at one place."""
        if self._skipped_at == self.clock:
            return []
        self._skipped_at = self.clock
        return [Gap(self, self.clock, 0, "bad_input")]

    def pause(self) -> list[Window | Silence | Gap]:
        """Nothing comes for the time being: returns the open windows as they are. Nothing is missing, and the clock stays."""
        return self._end_run() if self.open_frames else []

    def close(self, lost_before: GapReason | None = None) -> list[Window | Silence | Gap]:
        """No more audio; returns the last windows, and a gap of 0 frames if more may have been on its way."""
        return self._windows(self._run.flush()) + (
            [] if lost_before is None else [Gap(self, self.clock, 0, lost_before)]
        )

    def _position(self, offset: int | None) -> int:
        """Where a payload with this offset belongs, in frames of our clock; may be negative."""
        return self.clock if offset is None or self._origin is None else offset - self._origin

    def _push(self, payload: bytes, *, trim: int, eager: bool) -> list[Window | Silence | Gap]:
        """Hand over ``payload`` without its first ``trim`` frames."""
        fresh = memoryview(payload)[trim * self.format.frame_bytes :]
        frames = len(fresh) // self.format.frame_bytes
        self.overlap += len(payload) // self.format.frame_bytes - frames
        if not frames:
            return []
        self.clock += frames
        self.received += frames
        return self._windows(self._run.push(fresh, eager=eager))

    def _break(self, hole: int, reason: GapReason) -> list[Window | Silence | Gap]:
        """Close the run, since sound must not be joined over a hole; then the gap."""
        done = self._end_run(hole)
        gap = Gap(self, self.clock, hole, reason)
        self.account.settle(Fate.LOST, self.clock, hole)
        self.clock += hole
        return [*done, gap]

    def _end_run(self, hole: int = 0) -> list[Window | Silence | Gap]:
        """Close the run; returns what was open in it. The next one begins ``hole`` frames from now."""
        done = self._windows(self._run.flush())
        self._run, self._run_start = Run(self.format, self._cutting, self._network), self.clock + hole
        return done

    def _windows(self, cuts: list[tuple[int, Cut]]) -> list[Window | Silence | Gap]:
        """Number the cuts and give them their places; those in which nobody speaks are silences."""
        windows: list[Window | Silence | Gap] = []
        for channel, cut in cuts:
            window = self._window(channel, cut)
            silence = Silence(self, channel, window.start_frame, cut.frames)
            windows.append(silence if cut.silent else window)
            self._numbers[channel] += 1
        if cuts:
            self._forget_captures()
        return windows

    def _window(self, channel: int, cut: Cut) -> Window:
        start = self._run_start + cut.start
        return Window(self, channel, self._numbers[channel], start, cut.frames, cut, self._captured_at(start))

    def _captured_at(self, frame: int) -> datetime | None:
        before = [capture for capture in self._captures if capture[0] <= frame]
        if not before:
            return None
        known, captured_at = before[-1]
        return captured_at + timedelta(seconds=(frame - known) / self.rate)

    def _forget_captures(self) -> None:
        """Keep those that the open windows, or what comes, will ask for."""
        first = self.clock - self.open_frames
        while len(self._captures) > 1 and self._captures[1][0] <= first:
            self._captures.popleft()
