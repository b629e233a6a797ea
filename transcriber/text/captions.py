"""Captions for people and players. In: transcript messages. Out: text; no I/O.

*Text* is a line a message and speaker, at once: what was said, what was not transcribed and why, and, dimmed, changes of the
stream's state. *Cues* (SRT, WebVTT) are for one session, in order of time, and of a readable length (``phrases.py``). Windows
without words make no cue, gaps make a visible one; partials and revisions are left out, since a written subtitle cannot change
(``revisions.py`` applies them to a complete session). Where speakers are distinguished, each is named.
"""

import html
from dataclasses import dataclass, field
from typing import Literal

from transcriber.schema.messages import ENDED_STATES, AnyMessage, End, Final, Gap, Partial, Progress, Revision, Status
from transcriber.text.lines import wrapped
from transcriber.text.phrases import SHORTEST_S, Phrase, PhraseQueue, by_speaker, clean

NAME_COLUMNS = len("Speaker 0: ")
SHORTEST_MS = round(1000 * SHORTEST_S)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of text.

    Attributes:
        dim: it is about the stream and not what was said, or it is a guess.
        head: characters of the time and the name before the text; where lines wrap, rows are indented by it.
    """

    text: str
    dim: bool = False
    head: int = field(default=0, compare=False)


def text_lines(message: AnyMessage) -> list[Line]:
    """The message as lines, each with its time in the stream; none if text does not show it."""
    match message:
        case Final() if message.text or message.suppressed:
            return _spoken(message)
        case Revision():
            return _spoken(message, "[revised]")
        case Gap():
            detail = f": {clean(message.detail)}" if message.detail else ""
            return [
                _line(message, f"[gap {message.duration:.1f} s: {message.reason}{detail}]", speaker=message.speaker)
            ]
        case Status():
            return [_line(message, message.state, dim=True)]
        case End():
            account = (
                f"end: {message.transcribed_s:.1f} s transcribed, {message.silent_s:.1f} s silent, "
                f"{message.dropped_s:.1f} s dropped, {message.lost_s:.1f} s lost"
            )
            return [_line(message, account, time_s=message.start + message.duration, dim=True)]
        case Progress() if message.state in ENDED_STATES:
            error = f": {clean(message.error)}" if message.error else ""
            return [_line(message, message.state + error, time_s=message.start + message.duration, dim=True)]
        case _:
            return []


def partial_line(message: Partial) -> Line:
    """A partial as a line, for where lines can still change."""
    return _line(message, clean(message.text), speaker=message.speaker, dim=True)


def _spoken(message: Final | Revision, mark: str = "") -> list[Line]:
    """A line for each stretch of one speaker; suppressed text is mentioned, else it would look like silence."""
    parts = by_speaker(message, clean(message.text))
    held = f"[held back {message.duration:.1f} s: {message.suppressed}]" if message.suppressed else ""
    dim = isinstance(message, Final) and not message.text
    lines = []
    for number, part in enumerate(parts, 1):
        pieces = mark, part.text, held if number == len(parts) else ""
        time_s = part.start_s if number > 1 else message.start
        lines.append(_line(message, " ".join(filter(None, pieces)), speaker=part.speaker, time_s=time_s, dim=dim))
    return lines


def _line(
    message: AnyMessage, text: str, *, speaker: str | None = None, time_s: float | None = None, dim: bool = False
) -> Line:
    """``text`` behind the time in the stream, the stream, and the speaker, if there is one."""
    who = f" ({clean(speaker)})" if speaker else ""
    head = f"[{clock(message.start if time_s is None else time_s)}] {clean(message.stream)}{who}: "
    return Line(head + text, dim=dim, head=len(head))


def clock(seconds: float) -> str:
    """Time in a stream, cut to whole seconds.

    >>> clock(75.9), clock(3675)
    ('01:15', '1:01:15')
    """
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute:02}:{second:02}"


def phrase_text(phrase: Phrase) -> str:
    """The text of a phrase; for a gap, its reason."""
    return f"[not transcribed: {phrase.source.reason}]" if isinstance(phrase.source, Gap) else phrase.text


def speaker_name(phrase: Phrase) -> str:
    """The name of its speaker; ``""`` where speakers are not distinguished."""
    return f"Speaker {clean(phrase.speaker)}" if phrase.speaker else ""


class Cues:
    """The subtitles of one session: that of the first message; messages of others are ignored."""

    def __init__(self, form: Literal["srt", "vtt"]) -> None:
        self._form = form
        self._phrases = PhraseQueue(room=NAME_COLUMNS if form == "srt" else 0)
        self._count = 0
        self._begun_ms = 0  # when the last cue starts
        self._until_ms: dict[str, int] = {}  # by channel, when the last one of words ends

    @property
    def ended(self) -> bool:
        """Whether the session has ended and all its cues are returned."""
        return self._phrases.ended

    @property
    def head(self) -> str:
        """The beginning of the file."""
        return "WEBVTT\n\n" if self._form == "vtt" else ""

    def add(self, message: AnyMessage) -> str:
        """The cues that this message completes; often none."""
        return "".join(map(self._written, self._phrases.add(message)))

    def _written(self, phrase: Phrase) -> str:
        self._count += 1
        name, text = speaker_name(phrase), phrase_text(phrase)
        if self._form == "vtt":
            voice = f"<v {html.escape(name, quote=False)}>" if name else ""
            text = voice + html.escape("\n".join(wrapped(text)), quote=False)
        else:
            text = "\n".join(wrapped(f"{name}: {text}" if name else text))
        start_ms, end_ms = self._times(phrase)
        return f"{self._count}\n{self._stamp(start_ms)} --> {self._stamp(end_ms)}\n{text}\n\n"

    def _times(self, phrase: Phrase) -> tuple[int, int]:
        """Start and end of a phrase's cue: long enough to be seen; the channel's next cue starts after it."""
        words = isinstance(phrase.source, Final)
        until_ms = self._until_ms.get(phrase.channel, 0) if words else 0
        start_ms = self._begun_ms = max(round(phrase.start_s * 1000), self._begun_ms, until_ms)
        end_ms = max(round(phrase.end_s * 1000), start_ms + SHORTEST_MS)
        if words:
            self._until_ms[phrase.channel] = end_ms
        return start_ms, end_ms

    def _stamp(self, time_ms: int) -> str:
        seconds, milli = divmod(time_ms, 1000)
        minutes, second = divmod(seconds, 60)
        hours, minute = divmod(minutes, 60)
        return f"{hours:02}:{minute:02}:{second:02}{'.' if self._form == 'vtt' else ','}{milli:03}"
