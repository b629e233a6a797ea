"""The second pass: what has been said is heard once more, in one long piece, when there is time.

In: what was told of one channel, as it is told. Out: passages, speech that is over, of up to 23.5 s. What may stand for their text
is decided in ``revision``.

A passage takes whole windows. It ends in a pause, in front of what was not heard or is in another language, or when it is full:
then where speech had ended, if that leaves half of it. Where it has to be cut in the midst of speech, whisper hears a second of the
neighbours too, and the words that they have told are found in its answer and left to them, as with left context. So text is whole
whether or not the passage before or after it is heard again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from transcriber.audio.session import Silence, Window
from transcriber.audio.vad.detector import THRESHOLD, speech_probability, speech_seconds
from transcriber.engine.job import WHISPER_SAMPLE_RATE
from transcriber.engine.transcript import Transcript, Word
from transcriber.pipeline.left_context import PlacedWord, TranscribedRange, placed_words
from transcriber.pipeline.pauses import Range, spoken_ranges
from transcriber.schema.messages import Final

EDGE_S = 1.0
"""What is heard before and after a passage that is cut in the midst of speech."""

PASSAGE_S = 23.5
"""The longest passage. With both edges it fits the context that files have, 25.6 s."""

PAUSE_S = 2.0
"""Silence so long ends a passage: nobody need wait for what is said next."""

KEPT_WORDS = 20
"""Far more than are said in ``EDGE_S``."""


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
        audio: what may be transcribed again; None where it must be fetched.
        captured_at, received_at: of the message; None of a silence.
        first_seq, last_seq: of the message; None in live mode.
        stored_after: sequence of the message that was stored before it; 0 in live mode.
    """

    message_id: str
    number: int
    start_frame: int
    frames: int
    words: tuple[PlacedWord, ...] = ()
    language: str | None = None
    over: bool = False
    goes_on: bool = False
    avg_logprob: float | None = None
    audio: "PartAudio | None" = None
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
        words = tuple(placed_words(own, TranscribedRange(window.start_frame / rate, end_frame / rate)))
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
            PartAudio.of(window, threshold),
            window.captured_at,
            received_at,
        )

    @classmethod
    def of_final(cls, final: Final, message_id: str, stored_after: int) -> "Part":
        """``final`` is stored after the message of that sequence; its audio must be fetched."""
        words: tuple[Word, ...] | None = None
        if final.words is not None:
            words = tuple(
                Word(one.word, one.start - final.start, one.end - final.start, _confidence(one.confidence))
                for one in final.words
            )
        told = Transcript(final.text, words, final.language, final.avg_logprob, None, 0.0)
        published = tuple(placed_words(told, TranscribedRange(final.start, final.start + final.duration)))
        return cls(
            message_id,
            final.segment,
            final.start_frame,
            final.frames,
            published,
            final.language if published else None,
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
        return cls("", 0, silence.start_frame, silence.frames, audio=PartAudio.of(silence))

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
    before: tuple[PlacedWord, ...] = ()

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
        self._before: tuple[PlacedWord, ...] = ()
        self._silent = 0  # frames since its last window

    @property
    def first(self) -> Part | None:
        """The first window of the passage that is not yet whole."""
        return self._parts[0] if self._parts else None

    def add(self, part: Part) -> list[Passage]:
        """A window was told, or a silence; returns the passages that are whole now."""
        return self._place(part.start_frame, part.end_frame, part)

    def gap(self, start_frame: int, frames: int) -> list[Passage]:
        """So many frames were not heard; 0: nobody knows how many."""
        if not frames:
            self._breaks.add(start_frame)
        if not frames or self._in_order:  # then what follows shows whether it goes on over the gap
            return []
        return self._place(start_frame, start_frame + frames, None)

    def end(self) -> list[Passage]:
        """Nothing follows."""
        return self._close()

    def _place(self, start: int, end: int, part: Part | None) -> list[Passage]:
        whole: list[Passage] = []
        if self._in_order and start != self._reached:
            whole, self._reached = self._break(), start
        self._early[start] = end, part
        while (found := self._early.pop(self._reached, None)) is not None:
            if any(frame <= self._reached for frame in self._breaks):
                self._breaks = {frame for frame in self._breaks if frame > self._reached}
                whole += self._break()
            whole += self._break() if found[1] is None else self._append(found[1])
            self._reached = found[0]
        return whole

    def _break(self) -> list[Passage]:
        whole, self._before = self._close(), ()
        return whole

    def _append(self, part: Part) -> list[Passage]:
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
            whole += self._break()
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
class PartAudio:
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
    def of(cls, event: Window | Silence, threshold: float = THRESHOLD) -> "PartAudio":
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
class PassageAudio:
    """What whisper is to hear of a passage.

    Attributes:
        samples: (n,) float32 in [-1, 1] at 16 kHz.
        lead_s, tail_s: how much of them comes before and after the passage.
        speech_s, speech_prob: as of a ``PartAudio``.
        speech: likewise, in seconds from the passage's start.
    """

    samples: NDArray[np.float32]
    lead_s: float
    tail_s: float
    speech_s: float | None
    speech_prob: float | None
    speech: tuple[Range, ...] | None = None


def audio_of(passage: Passage, pieces: Sequence[PartAudio]) -> PassageAudio:
    """What is to be heard of ``passage``, whose parts are these pieces."""
    nothing = np.zeros(0, np.float32)
    lead = pieces[0].before if passage.before else nothing
    tail = pieces[-1].after if passage.goes_on else nothing
    known = [piece.speech_s for piece in pieces if piece.speech_s is not None]
    probs = [piece.speech_prob for piece in pieces if piece.speech_prob is not None]
    return PassageAudio(
        np.concatenate([lead, *(piece.samples for piece in pieces), tail]),
        len(lead) / WHISPER_SAMPLE_RATE,
        len(tail) / WHISPER_SAMPLE_RATE,
        sum(known) if len(known) == len(pieces) else None,
        max(probs) if probs else None,
        _speech(pieces),
    )


def _speech(pieces: Sequence[PartAudio]) -> tuple[Range, ...] | None:
    """Where there is speech in all of them together; None where nobody listened to one."""
    found: list[Range] = []
    begin_s = 0.0
    for piece in pieces:
        if piece.speech is None:
            return None
        found += ((begin_s + start_s, begin_s + end_s) for start_s, end_s in piece.speech)
        begin_s += len(piece.samples) / WHISPER_SAMPLE_RATE
    return tuple(found)


def _language(parts: Iterable[Part]) -> str | None:
    """Of the first words."""
    return next((part.language for part in parts if part.words), None)


def _confidence(confidence: float | None) -> float:
    return 1.0 if confidence is None else confidence
