"""Passages for the second pass: published windows that are transcribed again in one long piece, when there is time.

In: finals, silences and gaps of one channel, as they are published. Out: complete passages of up to 23.5 s. ``revision`` decides what
may replace their text.

A passage consists of whole windows. It ends at a pause, before a gap or another language, or when it is full: then where speech
ended, if that leaves half of it. Where it is cut within speech, whisper gets a second of the neighbours too, and the words that
they published are found in its transcript and left to them, as with left context. So text is complete whether or not the passage
before or after it is revised.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from transcriber.audio.session import Silence, Window
from transcriber.audio.vad.detector import speech_probability, speech_seconds
from transcriber.diarization.voices import KnownVoices
from transcriber.engine.job import WHISPER_SAMPLE_RATE, Job
from transcriber.engine.transcript import Transcript, Word
from transcriber.pipeline.left_context import TranscribedRange, placed_words
from transcriber.pipeline.pauses import Range, spoken_ranges
from transcriber.pipeline.speakers import labels, turns_of
from transcriber.pipeline.word_alignment import PlacedWord, whole_words
from transcriber.schema.messages import Final

EDGE_S = 1.0
"""Context before and after a passage that is cut within speech."""

PASSAGE_S = 23.5
"""The longest passage. With both edges it fits the context that files have, 25.6 s."""

PAUSE_S = 2.0
"""Silence so long ends a passage."""

KEPT_WORDS = 20
"""Far more than are said in ``EDGE_S``."""


class Part(NamedTuple):
    """A window with speech, as published; or a silence, which has only a range.

    Attributes:
        message_id: of its ``final``; "" of a silence.
        number: of the window.
        start_frame, frames: its range.
        words: in seconds of the session.
        language: None without words.
        over: whether speech ended with it.
        goes_on: whether it may have held back its last words for the next window.
        avg_logprob: of its text; None without one.
        speakers: label of each word of the message; None: the speakers of the window were not found.
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
    speakers: tuple[str | None, ...] | None = None
    audio: "PartAudio | None" = None
    captured_at: datetime | None = None
    received_at: datetime | None = None
    first_seq: int | None = None
    last_seq: int | None = None
    stored_after: int = 0

    @classmethod
    def of_window(
        cls,
        window: Window,
        own: Transcript,
        job: Job,
        message_id: str,
        received_at: datetime | None = None,
    ) -> "Part":
        """``window``, published with the words of ``own``, as ``job`` has them."""
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
            _speakers(words, job, window.start_frame / rate),
            PartAudio.of(window),
            window.captured_at,
            received_at,
        )

    @classmethod
    def of_final(cls, final: Final, message_id: str, stored_after: int) -> "Part":
        """``final``, stored after the message with that sequence; its audio must be fetched."""
        words: tuple[Word, ...] | None = None
        if final.words is not None:
            words = tuple(
                Word(one.word, one.start - final.start, one.end - final.start, _confidence(one.confidence))
                for one in final.words
            )
        final_text = Transcript(final.text, words, final.language, final.avg_logprob, None, 0.0)
        published = tuple(placed_words(final_text, TranscribedRange(final.start, final.start + final.duration)))
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
            None if final.turns is None else tuple(word.speaker for word in final.words or ()),
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
    """Windows to transcribe again, as a rule at least two.

    Attributes:
        parts: adjacent ones; the first and the last are no silences.
        before: words that were published just before it, in seconds of the session.
        known: the voices of its session; live, as they are when it is transcribed.
    """

    parts: tuple[Part, ...]
    before: tuple[PlacedWord, ...] = ()
    known: KnownVoices = ()

    @property
    def goes_on(self) -> bool:
        """Whether its last window may have held back words for the next one."""
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
    """Collects the passages of one channel. Event loop only."""

    def __init__(self, rate: int, *, in_order: bool = False, voices: bool = False) -> None:
        """``rate`` in Hz is the stream's. ``voices``: where the speakers of a window were not found, it alone is a passage.

        ``in_order``: parts are added in order, perhaps not from the session's beginning; else silences and gaps are early, and text
        is late.
        """
        self._rate = rate
        self._in_order, self._voices = in_order, voices
        self._reached = 0
        self._early: dict[int, tuple[int, Part | None]] = {}  # by first frame: the end, and the part, None for a gap
        self._breaks: set[int] = set()  # frames before which something may be missing
        self._parts: list[Part] = []  # of the open passage
        self._before: tuple[PlacedWord, ...] = ()
        self._silent = 0  # frames since its last window

    @property
    def first(self) -> Part | None:
        """The first window of the open passage."""
        return self._parts[0] if self._parts else None

    def add(self, part: Part) -> list[Passage]:
        """Add a window or a silence that was published; returns the passages that are complete now."""
        return self._place(part.start_frame, part.end_frame, part)

    def gap(self, start_frame: int, frames: int) -> list[Passage]:
        """So many frames are missing; 0: an unknown number."""
        if not frames:
            self._breaks.add(start_frame)
        if not frames or self._in_order:  # in order, the next part shows whether a window spans the gap
            return []
        return self._place(start_frame, start_frame + frames, None)

    def end(self) -> list[Passage]:
        """The session has ended; returns the last passages."""
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
        """The open passage is full: it ends where speech did, if that leaves half of it."""
        half = self._parts[0].start_frame + PASSAGE_S * self._rate / 2
        ends = [
            n for n, part in enumerate(self._parts, 1) if part.end_frame >= half and (part.over or not part.message_id)
        ]
        return self._close(ends[-1] if ends else None, full=True)

    def _close(self, count: int | None = None, *, full: bool = False) -> list[Passage]:
        """The first ``count`` parts are a passage; None: all. ``full``: what follows may continue its speech."""
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
        # One window alone would be transcribed in the same piece again.
        unlabelled = self._voices and parts[0].speakers is None and bool(words)
        return [passage] if len(passage.finals) > 1 or unlabelled else []


@dataclass(frozen=True, slots=True)
class PartAudio:
    """The audio of a window or a silence.

    Attributes:
        samples: (n,) float32 in [-1, 1] at 16 kHz: of its range.
        before, after: (m,) float32: audio before and after it, up to ``EDGE_S``.
        speech_s: seconds of speech; None without a detector.
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
    def of(cls, event: Window | Silence) -> "PartAudio":
        """A copy."""
        nothing = np.zeros(0, np.float32)
        if isinstance(event, Silence):
            return cls(event.samples.copy(), nothing, nothing, 0.0, None, ())
        cut, threshold = event.cut, event.policy.speech_threshold
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
    """The audio of a passage for whisper.

    Attributes:
        samples: (n,) float32 in [-1, 1] at 16 kHz.
        lead_s, tail_s: how much of them is before and after the passage.
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
    """The audio of ``passage``, whose parts have these ``pieces``."""
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
    """Where there is speech in all of them together; None if one has no detector's result."""
    found: list[Range] = []
    begin_s = 0.0
    for piece in pieces:
        if piece.speech is None:
            return None
        found += ((begin_s + start_s, begin_s + end_s) for start_s, end_s in piece.speech)
        begin_s += len(piece.samples) / WHISPER_SAMPLE_RATE
    return tuple(found)


def _speakers(words: Sequence[PlacedWord], job: Job, start_s: float) -> tuple[str | None, ...] | None:
    """The label of each word of a message, whose window begins at ``start_s``."""
    turns = turns_of(job.speakers, start_s - job.lead_s)
    times_s = ((parts[0].start_s, parts[-1].end_s) for parts in whole_words(words))
    return None if turns is None else tuple(labels(times_s, turns))


def _language(parts: Iterable[Part]) -> str | None:
    """Of the first words."""
    return next((part.language for part in parts if part.words), None)


def _confidence(confidence: float | None) -> float:
    return 1.0 if confidence is None else confidence
