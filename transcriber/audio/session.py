"""One recording: its clock, its holes, its windows and its account.

In: payloads with their offsets. Out: windows, silences and gaps that tile the session, for each channel that is heard: no
frame in two of them, none in none. Time comes from counting frames, never from a wall clock.
"""

from collections import deque
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from transcriber.audio.contiguous import ContiguousRun, ReplayableRun, first_heard, heard_channels
from transcriber.audio.format import AudioFormat
from transcriber.audio.frame_account import FrameAccount, FrameOutcome
from transcriber.audio.mixing import Noticed
from transcriber.audio.offsets import Known, Offsets
from transcriber.audio.vad.detector import Network
from transcriber.audio.window import Cut, Cutting, WindowCutter
from transcriber.errors import BadInputError
from transcriber.schema.messages import BRIDGED_S, NEVER_CAME, GapReason

BEGAN_AGAIN_S = 10.0
"""A payload that lies more than this behind the clock is a publisher that began again, not an echo."""


class ChannelResumePoint(NamedTuple):
    """Where a channel goes on; in frames of the session.

    Attributes:
        frame: the first of its next window.
        lead: frames before it which that window hears again.
        run_start: where the run begins that it belongs to.
        number: that window's.
        goes_on: whether the last words before it were left to it.
        follows: whether the window before it was cut in the midst of speech.
    """

    frame: int
    lead: int
    run_start: int
    number: int
    goes_on: bool = False
    follows: bool = False


def replay_from(place: ChannelResumePoint, rate: int) -> int:
    """The first frame of the session that must be heard to go on at ``place``, at ``rate`` Hz."""
    return place.run_start + first_heard(place.frame - place.run_start, place.lead, rate)


@dataclass(frozen=True, slots=True)
class SessionResumePoint:
    """What must be known of a recording to go on with it, after one of its events.

    Attributes:
        clock: frame of the session with which the audio comes again: in the run that ``places`` belong to, and no later
            than ``replay_from`` of any.
        places: of that event.
        account: what became of all frames before ``places``, and of holes after them.
        received: frames that came before ``clock``; None: all that were not lost.
        offsets: what was known of the publisher's then; None if there were none.
        captured: ``Session.capture`` of that ``clock``.
        segments: windows that became a ``final``.
        skipped_at: where payloads that cannot be read were last told of, None if never.
    """

    clock: int
    places: tuple[ChannelResumePoint, ...]
    account: FrameAccount
    received: int | None = None
    offsets: Known | None = None
    captured: tuple[int, datetime] | None = None
    segments: int = 0
    skipped_at: int | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """Audio for the engine.

    Attributes:
        channel: which of those that are heard apart; 0 if none are.
        number: of the window in its session and channel, from 0; silences count.
        start_frame, frames: the range it covers, at the stream's own rate.
        cut: its samples, which whoever takes the window owns, and what is known of them.
        captured_at: capture time of the first frame, None if never told.
        places: where each channel goes on.
    """

    session: "Session"
    channel: int
    number: int
    start_frame: int
    frames: int
    cut: Cut
    captured_at: datetime | None
    places: tuple[ChannelResumePoint, ...]


@dataclass(frozen=True, slots=True)
class Silence:
    """``frames`` frames of ``channel`` in which nobody speaks; ``places`` say where each channel goes on.

    Attributes:
        samples: (n,) float32 in [-1, 1] at 16 kHz: what is to be heard all the same.
    """

    session: "Session"
    channel: int
    start_frame: int
    frames: int
    places: tuple[ChannelResumePoint, ...]
    samples: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32), compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Gap:
    """``frames`` frames (0: not known how many) that were not heard; of all channels where ``channel`` is None.

    ``places`` say where each channel goes on; ``detail`` says more than ``reason``, if there is more to say. A ``bridged`` gap
    lies within windows, all others between them.
    """

    session: "Session"
    start_frame: int
    frames: int
    reason: GapReason
    places: tuple[ChannelResumePoint, ...]
    channel: int | None = None
    detail: str | None = None
    bridged: bool = False

    @property
    def fate(self) -> FrameOutcome:
        """What became of its frames: they never came, or they came for nothing."""
        return FrameOutcome.LOST if self.reason in NEVER_CAME else FrameOutcome.DROPPED


class Session:
    """Clock, windows and account of one recording.

    Invariants, to the frame: ``clock == received + lost``; once closed and settled, ``received`` is the sum of what was
    transcribed, silent and dropped. What is lost or of no use is told as a ``Gap``, and counted by who handles it.

    Attributes:
        clock: frames since the session's first, holes included.
        received: frames that came.
        account: what became of all frames so far; kept by who handles the events.
        channels: how many are heard apart.
        offsets: the publisher's; None if there were none.
        segments: windows that became a ``final``.
        skipped_at: the clock at the last payload that could not be read.
        overlap: frames that came twice and were trimmed.
        noticed: what showed while its channels were mixed.
        closed: no more audio will come, and all that was received has been handed on; to be set by who did that.
    """

    __slots__ = (
        "_bridges", "_captures", "_cutting", "_exact_offsets", "_max_hole", "_network", "_places", "_run",
        "account", "channels", "clock", "closed", "format", "id", "noticed", "offsets", "overlap", "received", "segments",
        "skipped_at",
    )  # fmt: skip

    def __init__(
        self,
        session_id: str,
        fmt: AudioFormat,
        cutting: Cutting,
        network: Network | None,
        *,
        max_hole_s: float,
        exact_offsets: bool = False,
        bookmark: SessionResumePoint | None = None,
    ) -> None:
        """A new session; or, from ``bookmark`` on, one to go on with: then ``cutting`` must cut each window afresh.

        ``exact_offsets``: they are our own count.
        """
        self.id = session_id
        self.format = fmt
        self.channels = heard_channels(fmt, cutting)
        mark = bookmark or SessionResumePoint(
            0, (ChannelResumePoint(0, 0, 0, 0),) * self.channels, FrameAccount(self.channels)
        )
        self.account = mark.account
        self.clock, self.segments = mark.clock, mark.segments
        self.offsets = Offsets(fmt, mark.offsets) if mark.offsets else None
        self.received = self.clock - self.account[FrameOutcome.LOST] if mark.received is None else mark.received
        self.overlap = 0
        self.noticed = Noticed()
        self.closed = False
        self._cutting, self._network = cutting, network
        self._exact_offsets = exact_offsets
        self._max_hole = int(max_hole_s * fmt.rate)
        self._places = list(mark.places)  # of the open windows
        self._run = self._open_run()
        self.skipped_at = mark.skipped_at
        self._bridges: deque[tuple[int, int]] = deque()  # frames from and to, of those that open windows may hold
        self._captures = deque([mark.captured] if mark.captured else [])  # frames, and when they were captured

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

    @property
    def places(self) -> tuple[ChannelResumePoint, ...]:
        """Where each channel goes on after all events so far."""
        return tuple(self._places)

    def number(self, channel: int) -> int:
        """Of the open window of ``channel``."""
        return self._places[channel].number

    def cutter(self, channel: int) -> WindowCutter:
        """Who cuts this channel at present, to be asked about the open window."""
        return self._run.cutters[channel]

    def open_window(self, channel: int) -> Window:
        """The open window of ``channel`` as it would be if it ended now; its samples are shared with it."""
        return self._window(channel, self.cutter(channel).open_cut(), self._places[channel])

    def closing_window(self, channel: int) -> Window:
        """The open window of ``channel``, whose cutter is ``closing``, as it ends unless somebody speaks again."""
        return self._window(channel, self.cutter(channel).closing_cut(), self._places[channel])

    def capture(self, frame: int) -> tuple[int, datetime] | None:
        """The latest frame at or before ``frame`` of which the capture time was told, and the time.

        Known from where audio must be replayed to go on after an event, until more is fed.
        """
        return next((capture for capture in reversed(self._captures) if capture[0] <= frame), None)

    def began_again(self, offset: int | None, frames: int) -> bool:
        """Whether this payload shows that the publisher started over."""
        if offset is None or self.offsets is None or not frames:
            return False
        if self.offsets.fits(offset, self.clock):
            return False
        return self.offsets.away(offset, self.clock) + frames < -BEGAN_AGAIN_S * self.rate

    def feed(
        self,
        payload: bytes,
        *,
        offset: int | None = None,
        captured_at: datetime | None = None,
        lost_before: GapReason | None = None,
        eager: bool = True,
        unfit: str | None = None,
    ) -> list[Window | Silence | Gap]:
        """Take one payload of whole frames; returns what it completes.

        ``eager`` says whether windows should be closed where speech has ended. ``lost_before`` says that messages may have
        been lost since the previous payload, and why: where no offset tells how much, that is a gap of 0 frames. ``unfit`` says
        why the payload must not be heard: then its frames count as received, and are a gap.

        Raises:
            BadInputError: the offset is out of reach; nothing was taken.
        """
        hole = 0 if offset is None else self._place(offset, len(payload) // self.format.frame_bytes)
        if hole > self._max_hole:
            raise BadInputError(f"Audio-Offset jumps {hole / self.rate:.0f} s ahead")
        if captured_at is not None:
            self._forget_captures()
        done: list[Window | Silence | Gap] = []
        if hole > 0:
            reason: GapReason = "slow_consumer" if lost_before == "slow_consumer" else "lost_input"
            done = self._bridge(hole, reason, eager=eager) if payload else self._break(hole, reason)
        elif lost_before is not None and offset is None:
            done = self._break(0, lost_before)
        trim = max(0, -hole)
        # The time of an echo is none to count from.
        if captured_at is not None and trim * self.format.frame_bytes < len(payload):
            self._captures.append((self.clock, captured_at + timedelta(seconds=trim / self.rate)))
        return done + self._push(payload, trim=trim, eager=eager, unfit=unfit)

    def skip(self, detail: str) -> list[Window | Silence | Gap]:
        """A payload could not be read, ``detail`` says why: a gap of 0 frames, the clock stays; one for all of them at one place."""
        if self.skipped_at is not None and self.clock <= self.skipped_at:
            return []
        self.skipped_at = self.clock
        done = self._windows(self._run.catch_up())
        return [*done, Gap(self, self.clock, 0, "bad_input", self.places, detail=detail)]

    def pause(self) -> list[Window | Silence | Gap]:
        """Nothing comes for the time being: returns the open windows as they are. Nothing is missing, and the clock stays."""
        done = self._windows(self._run.catch_up())
        return done + self._end_run() if self.open_frames else done

    def close(self, lost_before: GapReason | None = None, *, rest: bytes = b"") -> list[Window | Silence | Gap]:
        """No more audio after ``rest``; returns the last windows, and a gap of 0 frames if more may have been on its way.

        ``rest`` follows what was fed. Since nothing follows it, a window that it fills need not be cut.
        """
        frames = len(rest) // self.format.frame_bytes
        self.clock += frames
        self.received += frames
        done = self._end_run(rest)
        return done if lost_before is None else [*done, Gap(self, self.clock, 0, lost_before, self.places)]

    def _place(self, offset: int, frames: int) -> int:
        """How many frames are missing before a payload; negative if so many have come before."""
        if self.offsets is None:
            self.offsets = Offsets(self.format, Known(offset - self.clock, exact=self._exact_offsets))
        return self.offsets.place(offset, frames, self.clock)

    def _push(self, payload: bytes, *, trim: int, eager: bool, unfit: str | None) -> list[Window | Silence | Gap]:
        """Hand over ``payload`` without its first ``trim`` frames; what is ``unfit``, as a gap."""
        frames = len(payload) // self.format.frame_bytes
        fresh: bytes | memoryview = payload
        if trim:
            fresh = memoryview(payload)[trim * self.format.frame_bytes :]
            self.overlap += min(trim, frames)
            frames -= min(trim, frames)
        if not frames:
            return []
        self.received += frames
        if unfit:
            return self._bridge(frames, "bad_input", unfit, eager=eager)
        self.clock += frames
        return self._windows(self._run.push(fresh, eager=eager))

    def _bridge(
        self, frames: int, reason: GapReason, detail: str | None = None, *, eager: bool
    ) -> list[Window | Silence | Gap]:
        """So many frames are missing, and audio goes on: fill them if they are few; and the gap, unless it was told before us."""
        if not self.clock or frames > BRIDGED_S * self.rate:
            return self._break(frames, reason, detail)
        done = self._windows(self._run.catch_up())
        gap = Gap(self, self.clock, frames, reason, self.places, detail=detail, bridged=True)
        if not self.account.knows(gap.fate, gap.start_frame, frames):
            done.append(gap)
        self._note_bridge(self.clock, self.clock + frames)
        self.clock += frames
        return done + self._windows(self._run.push(self.format.silence(frames), eager=eager))

    def _note_bridge(self, start: int, end: int) -> None:
        first = min(place.frame for place in self._places)
        while self._bridges and self._bridges[0][1] <= first:
            self._bridges.popleft()
        if self._bridges and self._bridges[-1][1] == start:
            start, _ = self._bridges.pop()
        self._bridges.append((start, end))

    def _is_bridge(self, start: int, frames: int) -> bool:
        """Whether none of these frames is to be heard: their fate is told, so nobody would wait for what a window of them says."""
        return any(first <= start and start + frames <= end for first, end in self._bridges)

    def _break(self, hole: int, reason: GapReason, detail: str | None = None) -> list[Window | Silence | Gap]:
        """Close the run, since sound must not be joined over a hole; then the gap."""
        done, start = self._end_run(), self.clock
        self.clock += hole
        self._begin_run()
        return [*done, Gap(self, start, hole, reason, self.places, detail=detail)]

    def _end_run(self, rest: bytes = b"") -> list[Window | Silence | Gap]:
        """Close the run, which ends with ``rest``, and begin another; returns what was open."""
        done = self._windows(self._run.flush(rest))
        self._begin_run()
        if done:
            done[-1] = replace(done[-1], places=self.places)
        return done

    def _begin_run(self) -> None:
        self._places = [ChannelResumePoint(self.clock, 0, self.clock, place.number) for place in self._places]
        self._run = self._open_run()

    def _open_run(self) -> ContiguousRun | ReplayableRun:
        """The run that goes on at ``_places`` when audio comes from ``clock`` on."""
        if not self._cutting.afresh:
            return ContiguousRun(self.format, self._cutting, self._network, self.noticed)
        start = self._places[0].run_start
        places = [(place.frame - start, place.lead, place.follows) for place in self._places]
        first = self.clock - start
        return ReplayableRun(
            self.format, self._cutting, self._network, first=first, places=places, noticed=self.noticed
        )

    def _windows(self, cuts: list[tuple[int, Cut]]) -> list[Window | Silence | Gap]:
        """Number the cuts and give them their places; those in which nobody speaks are silences."""
        windows: list[Window | Silence | Gap] = []
        for channel, cut in cuts:
            place = self._places[channel]
            silent = cut.empty or (cut.silent and not place.goes_on) or self._is_bridge(place.frame, cut.frames)
            follows = cut.goes_on and self._cutting.left_s > 0
            # Words that were left to a window which nobody hears are left to the one after it.
            goes_on = follows or (silent and place.goes_on)
            self._places[channel] = ChannelResumePoint(
                place.frame + cut.frames, cut.next_lead, place.run_start, place.number + 1, goes_on, follows
            )
            silence = Silence(self, channel, place.frame, cut.frames, self.places, cut.own)
            windows.append(silence if silent else self._window(channel, cut, place))
        return windows

    def _window(self, channel: int, cut: Cut, place: ChannelResumePoint) -> Window:
        """The window at ``place``; the others, and what comes after it, are where they are now."""
        captured_at = self._captured_at(place.frame)
        return Window(self, channel, place.number, place.frame, cut.frames, cut, captured_at, self.places)

    def _captured_at(self, frame: int) -> datetime | None:
        if (capture := self.capture(frame)) is None:
            return None
        known, captured_at = capture
        return captured_at + timedelta(seconds=(frame - known) / self.rate)

    def _forget_captures(self) -> None:
        """Keep those that the open windows, or what comes, or a replay of them will ask for."""
        first = min(replay_from(place, self.rate) for place in self._places)
        while len(self._captures) > 1 and self._captures[1][0] <= first:
            self._captures.popleft()
