"""Whole results: of a request, or of a file of any length. In: a session's messages, in order. Out: text; no I/O.

Each form has a writer that returns its text piece by piece: ``head``, what each message adds, and ``end``. Writers keep only
what cannot be written yet: for a ``verbose_json`` the text, the gaps and the suppressed windows, which follow the segments; the
words only if they are also wanted at its top level. Names of fields are OpenAI's.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from transcriber.schema.messages import AnyMessage, Final, Gap, Word, held_back
from transcriber.text.captions import Cues, phrase_text, speaker_name
from transcriber.text.phrases import Phrase, PhraseQueue

Form = Literal["json", "verbose_json", "text", "srt", "vtt"]
Task = Literal["transcribe", "translate"]


@dataclass(frozen=True, slots=True)
class Result:
    """The requested result; ``words``: whether a ``verbose_json`` has them at its top level, too, which takes memory."""

    form: Form
    task: Task = "transcribe"
    words: bool = True


class Writer(Protocol):
    """Writes one form. The result is ``head``, then what each message adds, then ``end()``."""

    @property
    def head(self) -> str: ...

    def add(self, message: AnyMessage) -> str:
        """The text that this message completes; often none."""
        ...

    def end(self) -> str:
        """The rest, after the session's ``end`` message was added."""
        ...


def writer(result: Result) -> Writer:
    """A new writer for ``result``."""
    match result.form:
        case "json":
            return JsonWriter()
        case "verbose_json":
            return VerboseWriter(result.task, words=result.words)
        case "text":
            return TextWriter()
        case form:
            return CueWriter(form)


def render(messages: Iterable[AnyMessage], result: Result) -> str:
    """All of it at once; the last message is the session's ``end``."""
    of_form = writer(result)
    return of_form.head + "".join(map(of_form.add, messages)) + of_form.end()


class CueWriter:
    """SRT or WebVTT."""

    def __init__(self, form: Literal["srt", "vtt"]) -> None:
        self._cues = Cues(form)
        self.head = self._cues.head
        self.add = self._cues.add

    def end(self) -> str:
        return ""


class TextWriter:
    """A line a window and speaker, who is named where there are several; gaps are visible."""

    head = ""

    def __init__(self) -> None:
        self._phrases = PhraseQueue(split=False)

    def add(self, message: AnyMessage) -> str:
        return "".join(map(self._line, self._phrases.add(message)))

    def end(self) -> str:
        return ""

    @staticmethod
    def _line(phrase: Phrase) -> str:
        name = speaker_name(phrase)
        return f"{name}: {phrase_text(phrase)}\n" if name else f"{phrase_text(phrase)}\n"


class JsonWriter:
    """``{"text": ...}``, and ``suppressed`` where text was suppressed: else an empty one would look like silence."""

    head = '{"text": "'

    def __init__(self) -> None:
        self._phrases = PhraseQueue(split=False)
        self._text = _RunningText()
        self._suppressed: list[dict[str, Any]] = []

    def add(self, message: AnyMessage) -> str:
        if held := held_back(message):
            self._suppressed.append(held.model_dump())
        return "".join(_json(self._text.add(phrase))[1:-1] for phrase in self._phrases.add(message))

    def end(self) -> str:
        return f'", "suppressed": {_json(self._suppressed)}}}' if self._suppressed else '"}'


class VerboseWriter:
    """``{"task", "segments", "words", "gaps", "suppressed", "language", "duration", "text"}``."""

    def __init__(self, task: Task, *, words: bool) -> None:
        self.head = f'{{"task": {_json(task)}, "segments": ['
        self._phrases = PhraseQueue()
        self._running = _RunningText()
        self._text: list[str] = []
        self._words: list[dict[str, Any]] | None = [] if words else None
        self._gaps: list[dict[str, Any]] = []
        self._suppressed: list[dict[str, Any]] = []
        self._count = 0
        self._language: str | None = None
        self._duration_s = 0.0

    def add(self, message: AnyMessage) -> str:
        self._duration_s = max(self._duration_s, message.start + message.duration)
        if isinstance(message, Gap):
            end = message.start + message.duration
            self._gaps.append({"start": message.start, "end": end, "reason": message.reason, "detail": message.detail})
        if held := held_back(message):
            self._suppressed.append(held.model_dump())
        return "".join(map(self._segment, self._phrases.add(message)))

    def end(self) -> str:
        words = [] if self._words is None else [f'"words": {_json(self._words)}']
        fields = [
            *words,
            f'"gaps": {_json(self._gaps)}',
            f'"suppressed": {_json(self._suppressed)}',
            f'"language": {_json(self._language)}',
            f'"duration": {_json(self._duration_s)}',
            f'"text": {_json("".join(self._text))}',
        ]
        return f"], {', '.join(fields)}}}"

    def _segment(self, phrase: Phrase) -> str:
        if not isinstance(phrase.source, Final):
            return ""
        final, words = phrase.source, [_word(word) for word in phrase.words or ()]
        self._text.append(self._running.add(phrase))
        self._language = self._language or final.language
        if self._words is not None:
            self._words += words
        segment = {
            "id": self._count,
            "start": phrase.start_s,
            "end": phrase.end_s,
            "text": phrase.text,
            "avg_logprob": final.avg_logprob,
            "no_speech_prob": final.no_speech_prob,
            "temperature": 0.0,
            "speaker": phrase.speaker or None,
            "words": words,
        }
        self._count += 1
        return (", " if segment["id"] else "") + _json(segment)


class _RunningText:
    """Phrases as one text."""

    def __init__(self) -> None:
        self._begun = False

    def add(self, phrase: Phrase) -> str:
        """The text that the phrase adds; a gap adds none."""
        if not phrase.text:
            return ""
        joint, self._begun = (phrase.joint if self._begun else ""), True
        return joint + phrase.text


def _word(word: Word) -> dict[str, Any]:
    return {"word": word.word, "start": word.start, "end": word.end, "probability": word.confidence}


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
