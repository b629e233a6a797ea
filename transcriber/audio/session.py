"""One recording: its clock, its holes, its windows and the outcomes of its frames.

In: payloads with their offsets. Out: windows, silences and gaps that tile the session, for each transcribed channel: no
frame in two of them, none in none. Time comes from counting frames, never from a wall clock.
"""

from collections import deque
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from transcriber.audio.contiguous import ContiguousRun, ReplayableRun, window_channels
from transcriber.audio.format import AudioFormat
from transcriber.audio.frame_account import FrameAccount, FrameOutcome
from transcriber.audio.mixing import MixReport
from transcriber.audio.offsets import RESTART_S, Offsets, OffsetsSnapshot
from transcriber.audio.resume_point import ChannelResumePoint, SessionResumePoint, replay_from
from transcriber.audio.vad.detector import Network
from transcriber.audio.window import MIN_FLUSH_S, Cut
from transcriber.audio.window_cutter import WindowCutter
from transcriber.audio.window_policy import WindowPolicies, WindowPolicy
from transcriber.errors import BadInputError
from transcriber.schema.messages import BRIDGED_S, LOST_REASONS, GapReason


@dataclass(frozen=True, slots=True)
class Window:
    """Audio for the engine.

    Attributes:
        channel: of those with windows of their own; 0 if there is one.
        number: of the window in its session and channel, from 0; silences count.
        start_frame, frames: the range it covers, at the stream's own rate.
        cut: its samples, owned by the window, and what is known of them.
        captured_at: capture time of the first frame, None if unknown.
        places: where each channel resumes.
        policy: how it was cut.
        flushed: whether it ends because the publisher asked for it.
    """

    session: "Session"
    channel: int
    number: int
    start_frame: int
    frames: int
    cut: Cut
    captured_at: datetime | None
    places: tuple[ChannelResumePoint, ...]
    policy: WindowPolicy
    flushed: bool = False


@dataclass(frozen=True, slots=True)
class Silence:
    """``frames`` frames of ``channel`` without speech; ``places`` and ``flushed`` are as in a ``Window``.

    Attributes:
        samples: (n,) float32 in [-1, 1] at 16 kHz: its audio.
    """

    session: "Session"
    channel: int
    start_frame: int
    frames: int
    places: tuple[ChannelResumePoint, ...]
    samples: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32), compare=False, repr=False)
    flushed: bool = False


@dataclass(frozen=True, slots=True)
class Gap:
    """``frames`` frames (0: not known how many) that are not transcribed; of all channels where ``channel`` is None.

    ``places`` say where each channel resumes; ``detail`` adds to ``reason``; ``flushed`` is as in a ``Window``. A ``bridged`` gap lies within
    windows, all others between them.
    """

    session: "Session"
    start_frame: int
    frames: int
    reason: GapReason
    places: tuple[ChannelResumePoint, ...]
    channel: int | None = None
    detail: str | None = None
    bridged: bool = False
    flushed: bool = False

    @property
    def outcome(self) -> FrameOutcome:
        """Lost if its frames were never received, else dropped."""
        return FrameOutcome.LOST if self.reason in LOST_REASONS else FrameOutcome.DROPPED


@dataclass(frozen=True, slots=True)
class Flushed:
    """The publisher asked for the open windows to end at ``frame``, but they hold too little, or nothing."""

    session: "Session"
    frame: int


class Session:
    """Clock, windows and frame account of one recording.

    Invariants, to the frame: ``clock == received + lost``; once closed and settled, ``received`` is the sum of what was
    transcribed, silent and dropped. Lost and dropped frames are returned as a ``Gap``, and counted by the caller.

    Attributes:
        clock: frames since the session's first, holes included.
        received: frames that were received.
        account: outcomes of all frames so far; kept by the handler of the events.
        channels: how many have windows of their own.
        offsets: the publisher's; None if there were none.
        segments: windows that became a ``final``.
        skipped_at: the clock at the last payload that could not be read.
        flushed_at: the clock when the publisher last asked for the open windows to end.
        overlap: frames that arrived twice and were trimmed.
        mix_report: what was found while its channels were mixed.
        begin: where each channel began, or resumed.
        closed: no more audio will arrive, and all that was received has been passed on; set by the handler of the events.
    """

    __slots__ = (
        "_bridges", "_captures", "_exact_offsets", "_max_hole", "_network", "_places", "_policies", "_run", "account", "begin",
        "channels", "clock", "closed", "flushed_at", "format", "id", "mix_report", "offsets", "overlap", "received", "segments",
        "skipped_at"
    )  # fmt: skip

    def __init__(
        self,
        session_id: str,
        fmt: AudioFormat,
        policies: WindowPolicies,
        network: Network | None,
        *,
        max_hole_s: float,
        exact_offsets: bool = False,
        bookmark: SessionResumePoint | None = None,
    ) -> None:
        """A new session; or one that resumes at ``bookmark``: then ``policies`` must be replayable.

        ``exact_offsets``: they are counted by this process, as for a file.
        """
        self.id, self.format, latest = session_id, fmt, policies.latest()
        self.channels = len(bookmark.places) if bookmark else window_channels(fmt, latest)
        place = ChannelResumePoint(0, 0, 0, 0, settings=latest.changes)
        mark = bookmark or SessionResumePoint(0, (place,) * self.channels, FrameAccount(self.channels))
        self.begin = mark.places
        self.account = mark.account
        self.clock, self.segments = mark.clock, mark.segments
        self.offsets = Offsets(fmt, mark.offsets) if mark.offsets else None
        self.received = self.clock - self.account[FrameOutcome.LOST] if mark.received is None else mark.received
        self.overlap, self.closed = 0, False
        self.mix_report = MixReport()
        self._policies, self._network = policies, network
        self._exact_offsets = exact_offsets
        self._max_hole = int(max_hole_s * fmt.rate)
        self._places = list(mark.places)  # of the open windows
        self._run = self._open_run()
        self.skipped_at, self.flushed_at = mark.skipped_at, mark.flushed_at
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
        """Whether nothing is left to be published of this session but its ``end``."""
        return self.closed and self.account.settled == self.clock

    @property
    def places(self) -> tuple[ChannelResumePoint, ...]:
        """Where each channel resumes after all events so far."""
        return tuple(self._places)

    def number(self, channel: int) -> int:
        """Of the open window of ``channel``."""
        return self._places[channel].number

    def cutter(self, channel: int) -> WindowCutter:
        """The cutter of this channel's open window."""
        return self._run.cutters[channel]

    def open_window(self, channel: int) -> Window:
        """The open window of ``channel`` as it would be if it ended now; its samples are shared with it."""
        return self._window(channel, self.cutter(channel).open_cut(), self._places[channel])

    def closing_window(self, channel: int) -> Window:
        """The open window of ``channel``, whose cutter is ``closing``, as it ends unless speech resumes."""
        return self._window(channel, self.cutter(channel).closing_cut(), self._places[channel])

    def capture(self, frame: int) -> tuple[int, datetime] | None:
        """The latest frame at or before ``frame`` with a known capture time, and the time.

        Known back to where audio is replayed from to resume after an event, until more is fed.
        """
        return next((capture for capture in reversed(self._captures) if capture[0] <= frame), None)

    def restarted(self, offset: int | None, frames: int) -> bool:
        """Whether this payload shows that the publisher started over."""
        if offset is None or self.offsets is None or not frames or self.offsets.fits(offset, self.clock):
            return False
        return self.offsets.away(offset, self.clock) + frames < -RESTART_S * self.rate

    def feed(
        self,
        payload: bytes,
        *,
        offset: int | None = None,
        captured_at: datetime | None = None,
        lost_before: GapReason | None = None,
        eager: bool = True,
        unusable: str | None = None,
    ) -> list[Window | Silence | Gap]:
        """Take one payload of whole frames; returns the events that it completes.

        ``eager`` says whether windows should be closed where speech has ended. ``lost_before`` says that messages may have
        been lost since the previous payload, and why: where no offset says how much, that is a gap of 0 frames. ``unusable`` says
        why the payload must not be transcribed: then its frames count as received, and are a gap.

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
        # The capture time of a repeated payload is not used.
        if captured_at is not None and trim * self.format.frame_bytes < len(payload):
            self._captures.append((self.clock, captured_at + timedelta(seconds=trim / self.rate)))
        return done + self._push(payload, trim=trim, eager=eager, unusable=unusable)

    def skip(self, detail: str) -> list[Window | Silence | Gap]:
        """A payload could not be read, ``detail`` says why: a gap of 0 frames, the clock stays; one for all of them at one place."""
        if self.skipped_at is not None and self.clock <= self.skipped_at:
            return []
        self.skipped_at = self.clock
        return [*self._windows(self._run.catch_up()), Gap(self, self.clock, 0, "bad_input", self.places, detail=detail)]

    def end_speech(self) -> list[Window | Silence | Gap]:
        """Returns the open windows in which speech has ended, as an ``eager`` payload would; the run goes on."""
        return self._windows(self._run.end_speech())

    def pause(self) -> list[Window | Silence | Gap]:
        """Audio pauses: returns the open windows as they are. Nothing is missing, and the clock stays."""
        done = self._windows(self._run.catch_up())
        return done + self._end_run() if self.open_frames else done

    def flush(self) -> list[Window | Silence | Gap | Flushed]:
        """The open windows end here, and the run goes on; too short ones stay open, unless words were left to them.

        Events are ``flushed``; where all windows stay open, a ``Flushed``, once at one place.
        """
        done: list[Window | Silence | Gap | Flushed] = [*self._windows(self._run.settle())]
        least, answered = int(MIN_FLUSH_S * self.rate), -1 if self.flushed_at is None else self.flushed_at
        due = [n for n, place in enumerate(self._places) if self.clock - place.frame >= (1 if place.goes_on else least)]
        for channel in due:
            *full, last = self._windows(self._run.end_window(channel))
            done += [*full, replace(last, flushed=True)]
        if not due and self.clock > answered:
            done.append(Flushed(self, self.clock))
        self.flushed_at = max(self.clock, answered)
        return done

    def close(self, lost_before: GapReason | None = None, *, rest: bytes = b"") -> list[Window | Silence | Gap]:
        """No more audio after ``rest``; returns the last windows, and a gap of 0 frames if more may have been lost.

        ``rest`` follows what was fed. Since nothing follows it, a window that it fills need not be cut.
        """
        frames = len(rest) // self.format.frame_bytes
        self.clock += frames
        self.received += frames
        done = self._end_run(rest)
        return done if lost_before is None else [*done, Gap(self, self.clock, 0, lost_before, self.places)]

    def _place(self, offset: int, frames: int) -> int:
        """How many frames are missing before a payload; negative if so many have arrived already."""
        if self.offsets is None:
            self.offsets = Offsets(self.format, OffsetsSnapshot(offset - self.clock, exact=self._exact_offsets))
        return self.offsets.place(offset, frames, self.clock)

    def _push(self, payload: bytes, *, trim: int, eager: bool, unusable: str | None) -> list[Window | Silence | Gap]:
        """Pass on ``payload`` without its first ``trim`` frames; as a gap if it is ``unusable``."""
        frames = len(payload) // self.format.frame_bytes
        fresh: bytes | memoryview = payload
        if trim:
            fresh = memoryview(payload)[trim * self.format.frame_bytes :]
            self.overlap += min(trim, frames)
            frames -= min(trim, frames)
        if not frames:
            return []
        self.received += frames
        if unusable:
            return self._bridge(frames, "bad_input", unusable, eager=eager)
        self.clock += frames
        return self._windows(self._run.push(fresh, eager=eager))

    def _bridge(
        self, frames: int, reason: GapReason, detail: str | None = None, *, eager: bool
    ) -> list[Window | Silence | Gap]:
        """Frames are missing, and audio follows: fill them if they are few; and the gap, unless it was published before a resume."""
        if not self.clock or frames > BRIDGED_S * self.rate:
            return self._break(frames, reason, detail)
        done = self._windows(self._run.catch_up())
        gap = Gap(self, self.clock, frames, reason, self.places, detail=detail, bridged=True)
        if not self.account.covers(gap.outcome, gap.start_frame, frames):
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
        """Whether all these frames are bridged: their outcome is settled, so a window of them need not be transcribed."""
        return any(first <= start and start + frames <= end for first, end in self._bridges)

    def _break(self, hole: int, reason: GapReason, detail: str | None = None) -> list[Window | Silence | Gap]:
        """Close the run, since audio must not be joined over a hole; then the gap."""
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
        here, changes = self.clock, self._policies.latest().changes
        self._places = [ChannelResumePoint(here, 0, here, place.number, settings=changes) for place in self._places]
        self._run = self._open_run()

    def _open_run(self) -> ContiguousRun | ReplayableRun:
        """The run that resumes at ``_places`` with audio from ``clock`` on."""
        fmt, policies, network, report = self.format, self._policies, self._network, self.mix_report
        if not policies.latest().replayable:
            return ContiguousRun(fmt, policies, network, report)
        start = self._places[0].run_start
        places = [(at.frame - start, at.lead, at.follows, policies.policy(at.settings)) for at in self._places]
        return ReplayableRun(fmt, policies, network, first=self.clock - start, places=places, mix_report=report)

    def _windows(self, cuts: list[tuple[int, Cut]]) -> list[Window | Silence | Gap]:
        """Number the cuts and give them their places; those without speech are silences."""
        windows: list[Window | Silence | Gap] = []
        latest = self._policies.latest()
        for channel, cut in cuts:
            place = self._places[channel]
            silent = cut.empty or (cut.silent and not place.goes_on) or self._is_bridge(place.frame, cut.frames)
            follows = cut.goes_on and latest.left_context_s > 0  # which is never switched on or off
            # Words that were left to a window which is not transcribed are left to the one after it.
            goes_on = follows or (silent and place.goes_on)
            next_at = place.frame + cut.frames, cut.next_lead, place.run_start, place.number + 1
            self._places[channel] = ChannelResumePoint(*next_at, goes_on, follows, latest.changes)
            silence = Silence(self, channel, place.frame, cut.frames, self.places, cut.own)
            windows.append(silence if silent else self._window(channel, cut, place))
        return windows

    def _window(self, channel: int, cut: Cut, place: ChannelResumePoint) -> Window:
        """The window at ``place``, with the current places of all channels."""
        at, policy = self._captured_at(place.frame), self._policies.policy(place.settings)
        return Window(self, channel, place.number, place.frame, cut.frames, cut, at, self.places, policy)

    def _captured_at(self, frame: int) -> datetime | None:
        capture = self.capture(frame)
        return capture and capture[1] + timedelta(seconds=(frame - capture[0]) / self.rate)

    def _forget_captures(self) -> None:
        """Keep those that the open windows, later ones, or a replay of them need."""
        first = min(replay_from(place, self.rate) for place in self._places)
        while len(self._captures) > 1 and self._captures[1][0] <= first:
            self._captures.popleft()
