"""Captions for people and players. In: transcript messages. Out: text; no I/O.

*Text* is a line a message, as it comes: what was said, what was not transcribed and why, dimmed what
happened to the stream. *Cues* (SRT, WebVTT) are for one session, in order of time: a gap, or what another speaker said,
may come before an earlier text and waits for it. Windows without words make no cue, gaps make a visible one;
partials and revisions are left out, since a subtitle once written stays. Where speakers are told apart, each is named.
"""

import heapq
import html
import textwrap
import unicodedata
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal, NamedTuple

from transcriber.messages import AnyMessage, End, Final, Gap, Revision, Silence, Status

CUE_COLUMNS = 42
"""Characters of a cue's line: what broadcasters allow."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of text; ``dim`` when it is about the stream and not what was said."""

    text: str
    dim: bool = False


def text_line(message: AnyMessage) -> Line | None:
    """The message as a line with its time in the stream; None for what text does not show."""
    time_s = message.start + (message.duration if isinstance(message, End) else 0)
    speaker = message.speaker if isinstance(message, Final | Revision | Gap) else None
    head = f"[{clock(time_s)}] {_clean(message.stream)}{'' if speaker is None else f' ({_clean(speaker)})'}: "
    match message:
        case Final(text=str(text)) if text:
            return Line(head + _clean(text))
        case Revision():
            return Line(f"{head}[revised] {_clean(message.text)}")
        case Gap():
            return Line(f"{head}[gap {message.duration:.1f} s: {message.reason}]")
        case Status():
            return Line(head + message.state, dim=True)
        case End():
            return Line(
                f"{head}end: {message.transcribed_s:.1f} s transcribed, "
                f"{message.silent_s:.1f} s silent, {message.dropped_s:.1f} s dropped, {message.lost_s:.1f} s lost",
                dim=True,
            )
        case _:
            return None


def clock(seconds: float) -> str:
    """Time in a stream, cut to whole seconds.

    >>> clock(75.9), clock(3675)
    ('01:15', '1:01:15')
    """
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute:02}:{second:02}"


class _Cue(NamedTuple):
    """In order of time, and at one time by speaker; ``""`` is nobody by name."""

    start_frame: int
    speaker: str
    start_s: float
    duration_s: float
    text: str


class _Told:
    """How far one speaker is told without a hole.

    Attributes:
        reached: the first frame of which we do not know; -1 before anything is told to one who listens from the middle.
    """

    def __init__(self, first_frame: int) -> None:
        self.reached = first_frame
        self._early: list[tuple[int, int]] = []  # a heap of ranges that came before earlier ones

    def tile(self, message: Final | Gap | Silence) -> None:
        """So much more is told."""
        start = message.start_frame
        heapq.heappush(self._early, (start, start + message.frames))
        # Finals come in order. From the middle nobody knows what was told before; but a gap is often early.
        if isinstance(message, Final) or (self.reached < 0 and not isinstance(message, Gap)):
            self.reached = max(self.reached, start)
        while self._early and self._early[0][0] <= self.reached:
            self.reached = max(self.reached, heapq.heappop(self._early)[1])


class Cues:
    """The subtitles of one session: the first whose message comes; those of others are passed over.

    Attributes:
        ended: the session has ended and all its cues are out.
    """

    def __init__(self, form: Literal["srt", "vtt"]) -> None:
        self.ended = False
        self._form = form
        self._session: tuple[str, str] | None = None
        self._count = 0
        self._from_start = False  # we heard it
        self._waiting: list[_Cue] = []  # a heap
        self._told: dict[str | None, _Told] = {}  # by speaker

    @property
    def head(self) -> str:
        """What the file begins with."""
        return "WEBVTT\n\n" if self._form == "vtt" else ""

    def add(self, message: AnyMessage) -> str:
        """The cues that are complete with this message; often none."""
        if self._session is None:
            self._session = message.stream, message.session
        if self.ended or self._session != (message.stream, message.session):
            return ""
        match message:
            case Status(state="started"):
                self._from_start = True
            case Gap() | Silence() | Final() if message.frames:
                self._take(message)
            case End():
                self.ended = True
        return self._complete()

    def _take(self, message: Final | Gap | Silence) -> None:
        """Note how far its speaker is told, and its cue if it has one."""
        speaker = message.speaker
        if not self._told:
            self._told[None] = _Told(0 if self._from_start else -1)
        if speaker is not None and (of_all := self._told.pop(None, None)):
            self._told = {
                label: deepcopy(of_all) for label in ("0", "1")
            }  # where channels are told apart there are two
        for label, told in self._told.items():
            if label == speaker or (speaker is None and isinstance(message, Gap)):
                told.tile(message)
        match message:
            case Final():
                text = _clean(message.text)
            case Gap():
                text = f"[not transcribed: {message.reason}]"
            case _:
                text = ""
        if text:
            cue = _Cue(message.start_frame, speaker or "", message.start, message.duration, text)
            heapq.heappush(self._waiting, cue)

    def _complete(self) -> str:
        """The cues before which nothing is missing any more."""
        cues = ""
        reached = min((told.reached for told in self._told.values()), default=0)
        while self._waiting and (self.ended or self._waiting[0].start_frame < reached):
            cues += self._written(heapq.heappop(self._waiting))
        return cues

    def _written(self, cue: _Cue) -> str:
        self._count += 1
        name = f"Speaker {_clean(cue.speaker)}" if cue.speaker else ""
        if self._form == "vtt":
            voice = f"<v {html.escape(name, quote=False)}>" if name else ""
            text = voice + html.escape(_wrapped(cue.text), quote=False)
        else:
            text = _wrapped(f"{name}: {cue.text}" if name else cue.text)
        start_ms = round(cue.start_s * 1000)
        # A cue that ends when it starts is not allowed.
        end_ms = max(round((cue.start_s + cue.duration_s) * 1000), start_ms + 1)
        return f"{self._count}\n{self._stamp(start_ms)} --> {self._stamp(end_ms)}\n{text}\n\n"

    def _stamp(self, time_ms: int) -> str:
        seconds, milli = divmod(time_ms, 1000)
        minutes, second = divmod(seconds, 60)
        hours, minute = divmod(minutes, 60)
        return f"{hours:02}:{minute:02}:{second:02}{'.' if self._form == 'vtt' else ','}{milli:03}"


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.wrap(text, CUE_COLUMNS, break_on_hyphens=False))


def _clean(text: str) -> str:
    """``text`` on one line and without control characters: whoever may publish must not steer a terminal."""
    return " ".join("".join(" " if unicodedata.category(c) == "Cc" else c for c in text).split())
