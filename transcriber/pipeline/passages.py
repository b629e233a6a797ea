"""The second pass: what has been said is heard once more, in one long piece, when there is time.

In: what was told of one channel, as it is told. Out: passages, speech that is over, of up to 23.5 s, and of the answer to one the
text that may stand for what was told of it.

A passage takes whole windows. It ends in a pause, in front of what was not heard or is in another language, or when it is full:
then where speech had ended, if that leaves half of it. Where it has to be cut in the midst of speech, whisper hears a second of the
neighbours too, and the words that they have told are found in its answer and left to them, as with left context. So text is whole
whether or not the passage before or after it is heard again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from difflib import SequenceMatcher
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from transcriber.audio.session import Silence, Window
from transcriber.audio.vad import THRESHOLD
from transcriber.audio.vad.detector import speech_probability, speech_seconds
from transcriber.engine.job import WHISPER_SAMPLE_RATE
from transcriber.engine.transcript import Transcript, Word
from transcriber.pipeline.left_context import Heard, Placed, bare, first_from, nearest_beginning, of_these, placed
from transcriber.pipeline.pauses import Pauses, Range, spoken_ranges
from transcriber.schema.messages import Final

EDGE_S = 1.0
"""What is heard before and after a passage that is cut in the midst of speech."""

PASSAGE_S = 23.5
"""The longest passage. With both edges it fits the context that files have, 25.6 s."""

PAUSE_S = 2.0
"""Silence so long ends a passage: nobody need wait for what is said next."""

COMPARED_S = 8.0
"""So much of what was told before the end of a passage is looked for in the answer."""

KEPT_WORDS = 20
"""Far more than are said in ``EDGE_S``."""

SURE = 0.6
"""A word that whisper was so sure of, and that nothing in the answer stands for, was said and is lost."""

LESS_SURE = 0.05
"""An answer whose words are less likely by so much than those that were told, as mean log-probabilities, is no better.

``bench.second_pass``, tiny.en, 96 passages of readings and dialogues: with both rules 7.4 % of the words are wrong in the end, where
8.1 % were told, and 5 of 5276 that were right are missing.
"""

Unrevised = Literal["same", "shorter", "doubted"]
"""Why an answer is not published: it says the same, or less, or a guard doubts it, or it is less likely."""


class Part(NamedTuple):
    """A window with speech, as it was told; or a silence, which nothing but its range is known of.

    Attributes:
        message_id: of its ``final``; "" of a silence.
        number: of the window.
        start_frame, frames: its range.
        words: in seconds of the session.
        language: None where nothing was said.
        over: whether speech had ended with it.
        goes_on: whether it may have left its last words to the next window.
        avg_logprob: of its text; None without one.
        heard: what may be heard again; None where it must be fetched.
        captured_at, received_at: of the message; None of a silence.
        first_seq, last_seq: of the message; None in live mode.
        stored_after: sequence of the message that was stored before it; 0 in live mode.
    """

    message_id: str
    number: int
    start_frame: int
    frames: int
    words: tuple[Placed, ...] = ()
    language: str | None = None
    over: bool = False
    goes_on: bool = False
    avg_logprob: float | None = None
    heard: "Piece | None" = None
    captured_at: datetime | None = None
    received_at: datetime | None = None
    first_seq: int | None = None
    last_seq: int | None = None
    stored_after: int = 0

    @classmethod
    def of_window(
        cls, window: Window, own: Transcript, message_id: str, threshold: float, received_at: datetime | None = None
    ) -> "Part":
        """``window`` was told with the words of ``own``; a frame of it holds speech from ``threshold`` on."""
        rate, end_frame = window.session.rate, window.start_frame + window.frames
        words = tuple(placed(own, Heard(window.start_frame / rate, end_frame / rate)))
        return cls(
            message_id,
            window.number,
            window.start_frame,
            window.frames,
            words,
            own.language if words else None,
            window.cut.speech_final,
            window.cut.goes_on,
            own.avg_logprob,
            Piece.of(window, threshold),
            window.captured_at,
            received_at,
        )

    @classmethod
    def of_final(cls, final: Final, message_id: str, stored_after: int) -> "Part":
        """``final`` is stored after the message of that sequence; its audio must be fetched."""
        words: tuple[Word, ...] | None = None
        if final.words is not None:
            words = tuple(
                Word(one.word, one.start - final.start, one.end - final.start, _known(one.confidence))
                for one in final.words
            )
        told = Transcript(final.text, words, final.language, final.avg_logprob, None, 0.0)
        placed_words = tuple(placed(told, Heard(final.start, final.start + final.duration)))
        return cls(
            message_id,
            final.segment,
            final.start_frame,
            final.frames,
            placed_words,
            final.language if placed_words else None,
            final.speech_final,
            not final.speech_final,
            final.avg_logprob,
            None,
            final.captured_at,
            final.received_at,
            final.first_seq,
            final.last_seq,
            stored_after,
        )

    @classmethod
    def of_silence(cls, silence: Silence) -> "Part":
        return cls("", 0, silence.start_frame, silence.frames, heard=Piece.of(silence))

    @property
    def end_frame(self) -> int:
        return self.start_frame + self.frames


@dataclass(frozen=True, slots=True)
class Passage:
    """What is to be heard again: at least two windows.

    Attributes:
        parts: that follow each other; the first and the last are no silences.
        before: words that were told just before it, in seconds of the session.
    """

    parts: tuple[Part, ...]
    before: tuple[Placed, ...] = ()

    @property
    def goes_on(self) -> bool:
        """Whether its last window may have left words to the next one."""
        return self.parts[-1].goes_on

    @property
    def start_frame(self) -> int:
        return self.parts[0].start_frame

    @property
    def frames(self) -> int:
        return self.parts[-1].end_frame - self.start_frame

    @property
    def number(self) -> int:
        """Of its first window."""
        return self.parts[0].number

    @property
    def captured_at(self) -> datetime | None:
        return self.parts[0].captured_at

    @property
    def finals(self) -> tuple[Part, ...]:
        return tuple(part for part in self.parts if part.message_id)

    @property
    def language(self) -> str | None:
        """Of its words."""
        return _language(self.parts)


class Passages:
    """Of one channel."""

    def __init__(self, rate: int, *, in_order: bool = False) -> None:
        """``rate`` in Hz is the stream's.

        ``in_order``: what is told comes in its order, and perhaps not from the beginning; else silences and gaps come at once, and
        text later.
        """
        self._rate = rate
        self._in_order = in_order
        self._reached = 0
        self._early: dict[int, tuple[int, Part | None]] = {}  # by first frame: the end, and what it is, None for a gap
        self._breaks: set[int] = set()  # frames before which something may be missing
        self._parts: list[Part] = []  # of the open passage
        self._before: tuple[Placed, ...] = ()
        self._silent = 0  # frames since its last window

    @property
    def first(self) -> Part | None:
        """The first window of the passage that is not yet whole."""
        return self._parts[0] if self._parts else None

    def add(self, part: Part) -> list[Passage]:
        """A window was told, or a silence; returns the passages that are whole now."""
        return self._tile(part.start_frame, part.end_frame, part)

    def gap(self, start_frame: int, frames: int) -> list[Passage]:
        """So many frames were not heard; 0: nobody knows how many."""
        if not frames:
            self._breaks.add(start_frame)
        if not frames or self._in_order:  # then what follows shows whether it goes on over the gap
            return []
        return self._tile(start_frame, start_frame + frames, None)

    def end(self) -> list[Passage]:
        """Nothing follows."""
        return self._close()

    def _tile(self, start: int, end: int, part: Part | None) -> list[Passage]:
        whole: list[Passage] = []
        if self._in_order and start != self._reached:
            whole, self._reached = self._interrupt(), start
        self._early[start] = end, part
        while (found := self._early.pop(self._reached, None)) is not None:
            if any(frame <= self._reached for frame in self._breaks):
                self._breaks = {frame for frame in self._breaks if frame > self._reached}
                whole += self._interrupt()
            whole += self._interrupt() if found[1] is None else self._take(found[1])
            self._reached = found[0]
        return whole

    def _interrupt(self) -> list[Passage]:
        whole, self._before = self._close(), ()
        return whole

    def _take(self, part: Part) -> list[Passage]:
        if not part.message_id:
            if not self._parts:
                self._before = ()
                return []
            self._silent += part.frames
            self._parts.append(part)
            return self._close() if self._silent >= PAUSE_S * self._rate else []
        whole: list[Passage] = []
        while self._parts and part.end_frame - self._parts[0].start_frame > PASSAGE_S * self._rate:
            whole += self._close_where_best()
        if part.words and _language(self._parts) not in {None, part.language}:
            whole += self._interrupt()
        self._silent = 0
        self._parts.append(part)
        return whole

    def _close_where_best(self) -> list[Passage]:
        """The open passage is full: it ends where speech had, if that leaves half of it."""
        half = self._parts[0].start_frame + PASSAGE_S * self._rate / 2
        ends = [
            n for n, part in enumerate(self._parts, 1) if part.end_frame >= half and (part.over or not part.message_id)
        ]
        return self._close(ends[-1] if ends else None, full=True)

    def _close(self, count: int | None = None, *, full: bool = False) -> list[Passage]:
        """The first ``count`` parts are a passage; without a number, all. ``full``: what follows may follow upon it."""
        parts, self._parts = self._parts[:count], [] if count is None else self._parts[count:]
        ended = False
        while parts and not parts[-1].message_id:
            ended = True
            parts.pop()
        while self._parts and not self._parts[0].message_id:
            self._parts.pop(0)
        self._silent = 0 if not self._parts else self._silent
        if not parts:
            return []
        passage = Passage(tuple(parts), self._before)
        words = [word for part in parts for word in part.words]
        self._before = tuple(words[-KEPT_WORDS:]) if full and not ended and passage.goes_on else ()
        # What was heard in one piece is not heard better in the same.
        return [passage] if len(passage.finals) > 1 else []


@dataclass(frozen=True, slots=True)
class Piece:
    """What can be heard of a window or a silence.

    Attributes:
        samples: (n,) float32 in [-1, 1] at 16 kHz: of its range.
        before, after: (m,) float32: what comes before and after it, up to ``EDGE_S``.
        speech_s: seconds of speech; None where no detector listened.
        speech_prob: how sure the detector is that there was any, in [0, 1]; None as well.
        speech: where it is, in seconds from the first of ``samples``; None as well.
    """

    samples: NDArray[np.float32]
    before: NDArray[np.float32]
    after: NDArray[np.float32]
    speech_s: float | None = None
    speech_prob: float | None = None
    speech: tuple[Range, ...] | None = None

    @classmethod
    def of(cls, event: Window | Silence, threshold: float = THRESHOLD) -> "Piece":
        """A copy; a frame holds speech from ``threshold`` on."""
        nothing = np.zeros(0, np.float32)
        if isinstance(event, Silence):
            return cls(event.samples.copy(), nothing, nothing, 0.0, None, ())
        cut = event.cut
        lead, tail = (round(seconds * WHISPER_SAMPLE_RATE) for seconds in (cut.lead_s, cut.tail_s))
        edge = round(EDGE_S * WHISPER_SAMPLE_RATE)
        before, after = cut.samples[max(0, lead - edge) : lead], cut.samples[len(cut.samples) - tail :][:edge]
        speech = cut.speech
        return cls(
            cut.own.copy(),
            before.copy(),
            after.copy(),
            None if speech is None else speech_seconds(speech, threshold),
            None if speech is None else speech_probability(speech),
            None if speech is None else spoken_ranges(speech, threshold, 0.0),
        )


@dataclass(frozen=True, slots=True)
class Sound:
    """What whisper is to hear of a passage.

    Attributes:
        samples: (n,) float32 in [-1, 1] at 16 kHz.
        lead_s, tail_s: how much of them comes before and after the passage.
        speech_s, speech_prob: as of a ``Piece``.
        speech: likewise, in seconds from the passage's start.
    """

    samples: NDArray[np.float32]
    lead_s: float
    tail_s: float
    speech_s: float | None
    speech_prob: float | None
    speech: tuple[Range, ...] | None = None


def sound_of(passage: Passage, pieces: Sequence[Piece]) -> Sound:
    """What is to be heard of ``passage``, whose parts are these pieces."""
    nothing = np.zeros(0, np.float32)
    lead = pieces[0].before if passage.before else nothing
    tail = pieces[-1].after if passage.goes_on else nothing
    known = [piece.speech_s for piece in pieces if piece.speech_s is not None]
    probs = [piece.speech_prob for piece in pieces if piece.speech_prob is not None]
    return Sound(
        np.concatenate([lead, *(piece.samples for piece in pieces), tail]),
        len(lead) / WHISPER_SAMPLE_RATE,
        len(tail) / WHISPER_SAMPLE_RATE,
        sum(known) if len(known) == len(pieces) else None,
        max(probs) if probs else None,
        _speech(pieces),
    )


def _speech(pieces: Sequence[Piece]) -> tuple[Range, ...] | None:
    """Where there is speech in all of them together; None where nobody listened to one."""
    found: list[Range] = []
    begin_s = 0.0
    for piece in pieces:
        if piece.speech is None:
            return None
        found += ((begin_s + start_s, begin_s + end_s) for start_s, end_s in piece.speech)
        begin_s += len(piece.samples) / WHISPER_SAMPLE_RATE
    return tuple(found)


def revised(passage: Passage, answer: Transcript, rate: int, sound: Sound) -> Transcript | Unrevised:
    """What may stand for the texts of ``passage``: times count from its start; or why nothing does.

    ``answer`` is to ``sound``; ``rate`` in Hz is the stream's.
    """
    if answer.suppressed or _less_sure(passage, answer):
        return "doubted"
    start_s, end_s = passage.start_frame / rate, (passage.start_frame + passage.frames) / rate
    heard = Heard(start_s, end_s, sound.lead_s, sound.tail_s)
    told = [word for part in passage.parts for word in part.words]
    words = _out_of_pauses(placed(answer, heard), answer, start_s, end_s, sound)
    if sound.lead_s and words:
        before = [word for word in passage.before if word.end_s > start_s - sound.lead_s]
        words = words[nearest_beginning(before, words, passage.before[-1].end_s, start_s - sound.lead_s) :]
    else:
        # Words that a window before it left over lie before what is heard; but times slip.
        left = [word for word in told if word.end_s <= start_s]
        if left and not nearest_beginning(left, words, start_s, start_s - EDGE_S):
            words = [*(word._replace(of=-number) for number, word in enumerate(left, 1)), *words]
    if passage.goes_on and told:
        words = words[: _told_of(told, words)]
    if [word.word.strip() for word in told] == [word.word.strip() for word in words]:
        return "same"
    if loses(told, words) or not words:
        return "shorter"
    return of_these(answer, words, heard, min(start_s, told[0].start_s if told else start_s))


def _out_of_pauses(words: list[Placed], answer: Transcript, start_s: float, end_s: float, sound: Sound) -> list[Placed]:
    """The words of an answer to a passage from ``start_s`` to ``end_s`` at the times that would be told, as those are that were told."""
    if sound.speech is None:
        return words
    speech = [(start_s + begin_s, start_s + stop_s) for begin_s, stop_s in sound.speech]
    phrases = replace(answer, lead_s=sound.lead_s).phrases_from(start_s)
    pauses = Pauses(phrases, speech, (start_s, end_s))
    first = first_from(start_s, words)  # what is heard before it was told by others
    times_s = pauses.place([(word.start_s, word.end_s) for word in words[first:]], start_s)
    return words[:first] + [
        word._replace(start_s=one[0], end_s=one[1]) for word, one in zip(words[first:], times_s, strict=True)
    ]


def _less_sure(passage: Passage, answer: Transcript) -> bool:
    likely = [(len(part.words), part.avg_logprob) for part in passage.finals if part.avg_logprob is not None]
    count = sum(words for words, _ in likely)
    if not count or answer.avg_logprob is None:
        return False
    return answer.avg_logprob < sum(words * logprob for words, logprob in likely) / count - LESS_SURE


def _told_of(told: Sequence[Placed], words: Sequence[Placed]) -> int:
    """How many of ``words`` are what was told."""
    until_s = told[-1].end_s
    first = first_from(until_s - COMPARED_S, words)
    begin_s = words[first].start_s if first < len(words) else until_s
    recent = [word for word in told if word.middle_s >= begin_s]
    return first + nearest_beginning(recent, words[first:], until_s, begin_s)


def loses(told: Sequence[Placed], words: Sequence[Placed]) -> bool:
    """Whether ``words`` leave out any that was surely said. Of a word that is told twice, the second time may be wrong.

    >>> told = [Placed(word, 0.0, 0.0, confidence) for word, confidence in (("shut", 0.9), ("shut", 0.3), ("it", 0.9))]
    >>> loses(told, [Placed("shut", 0.0, 0.0), Placed("it", 0.0, 0.0)]), loses(told, [Placed("shut", 0.0, 0.0)])
    (False, True)
    """
    twice = {n for n, (one, other) in enumerate(pairwise(_spelt(told))) if one == other}
    told = [word for n, word in enumerate(told) if word.confidence >= SURE or not ({n, n - 1} & twice)]
    matcher = SequenceMatcher(None, _spelt(told), _spelt(words), autojunk=False)
    return any(
        sum(word.confidence >= SURE for word in told[here:there]) > after - before
        for kind, here, there, before, after in matcher.get_opcodes()
        if kind != "equal"
    )


def _language(parts: Iterable[Part]) -> str | None:
    """Of the first words."""
    return next((part.language for part in parts if part.words), None)


def _known(confidence: float | None) -> float:
    return 1.0 if confidence is None else confidence


def _spelt(words: Iterable[Placed]) -> list[str]:
    return [bare(word.word) for word in words]
