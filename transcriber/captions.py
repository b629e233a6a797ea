"""Captions for people and players. In: transcript messages. Out: text; no I/O.

*Text* is a line a message, as it comes: what was said, what was not transcribed and why, dimmed what
happened to the stream. *Cues* (SRT, WebVTT) are for one session, in order of time: a gap may come
before an earlier text and waits for it. Windows without words make no cue, gaps make a visible one;
partials and revisions are left out, since a subtitle once written stays.
"""

import heapq
import html
import textwrap
import unicodedata
from dataclasses import dataclass
from typing import Literal

from transcriber.messages import AnyMessage, End, Final, Gap, Revision, Status

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
    head = f"[{clock(time_s)}] {_clean(message.stream)}: "
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
        self._gaps: list[tuple[float, float, str]] = []

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
            case Gap() if message.frames:
                heapq.heappush(self._gaps, (message.start, message.duration, f"[not transcribed: {message.reason}]"))
                return ""
            case Final():
                said = _clean(message.text)
                before = self._gaps_before(message.start)
                return before + (self._cue(message.start, message.duration, said) if said else "")
            case End():
                self.ended = True
                return self._gaps_before(message.start + message.duration)
            case _:
                return ""

    def _gaps_before(self, start_s: float) -> str:
        """Finals come in order: before one of them nothing is missing but these."""
        cues = ""
        while self._gaps and self._gaps[0][0] < start_s:
            cues += self._cue(*heapq.heappop(self._gaps))
        return cues

    def _cue(self, start_s: float, duration_s: float, text: str) -> str:
        self._count += 1
        text = "\n".join(textwrap.wrap(text, CUE_COLUMNS, break_on_hyphens=False))
        if self._form == "vtt":
            text = html.escape(text, quote=False)
        start_ms = round(start_s * 1000)
        # A cue that ends when it starts is not allowed.
        end_ms = max(round((start_s + duration_s) * 1000), start_ms + 1)
        return f"{self._count}\n{self._stamp(start_ms)} --> {self._stamp(end_ms)}\n{text}\n\n"

    def _stamp(self, time_ms: int) -> str:
        seconds, milli = divmod(time_ms, 1000)
        minutes, second = divmod(seconds, 60)
        hours, minute = divmod(minutes, 60)
        return f"{hours:02}:{minute:02}:{second:02}{'.' if self._form == 'vtt' else ','}{milli:03}"


def _clean(text: str) -> str:
    """``text`` on one line and without control characters: whoever may publish must not steer a terminal."""
    return " ".join("".join(" " if unicodedata.category(c) == "Cc" else c for c in text).split())
