"""The model's output for one window: text, words with times, and how sure it is. Plain data."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from transcriber.engine.hallucination import Doubt, is_hurried
from transcriber.engine.language_evidence import LanguageEvidence
from transcriber.schema.languages import WITHOUT_SPACES
from transcriber.schema.messages import Suppressed

LEAST_PROBABILITY = 1e-6
"""Of a word: one rounded to 0 has a logarithm all the same."""


class Phrase(NamedTuple):
    """The text between two of the model's time stamps.

    Attributes:
        start_s, end_s: the stamps.
        letters: how long it takes to say, more than 0 (see ``hallucination.letters``).
    """

    start_s: float
    end_s: float
    letters: float


@dataclass(frozen=True, slots=True)
class Word:
    """One word, in seconds from the first sample of its job; ``confidence`` is in [0, 1]."""

    word: str
    start_s: float
    end_s: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Transcript:
    """The model's output for one job.

    Attributes:
        text: stripped; empty when nothing was said, or when it is held back.
        words: in order, times monotone and inside the job; None when the model gives no times.
        phrases: between its time stamps, in order, in seconds as those of its words; empty where they are not known.
        language: ISO 639-1 code that was used or detected.
        avg_logprob: mean log-probability of the text tokens, at most 0; None without tokens.
        no_speech_prob: in [0, 1]; None where it is not known: whisper.cpp 1.8.5 takes it from the logits of the first token it was
            given, which only a call with a single one has.
        processing_s: seconds inside whisper calls only.
        doubt: why it may be wrong; None if nothing indicates that.
        redone: whether the window was transcribed more than once.
        wide: whether it was made at a wide context, perhaps as the window fits no other.
        suppressed: why whisper's text is held back; None if it is not, or if there was none.
        trimmed: whether its last phrases are left out, as there was no time to say them.
        lead_s: seconds of left context that are transcribed in it.
        spoken: the evidence of the language so far; None where the language was given.
    """

    text: str
    words: tuple[Word, ...] | None
    language: str | None
    avg_logprob: float | None
    no_speech_prob: float | None
    processing_s: float
    doubt: Doubt | None = None
    redone: bool = False
    wide: bool = False
    suppressed: Suppressed | None = None
    trimmed: bool = False
    lead_s: float = 0.0
    spoken: LanguageEvidence | None = None
    phrases: tuple[Phrase, ...] = ()

    def without_lead(self) -> "Transcript":
        """The words of its window alone, by their times, and their mean log-probability."""
        if not self.lead_s or self.words is None:
            return self
        own = tuple(word for word in self.words if word.start_s + word.end_s >= 2 * self.lead_s)
        return replace(self.with_words(text_of(own, self.language), own), avg_logprob=_mean_logprob(own))

    @property
    def ends_hurried(self) -> bool:
        """Whether there was no time to say its last phrase."""
        return bool(self.words and self.phrases) and _is_hurried(self.phrases[-1])

    def without_hurried_end(self) -> "Transcript":
        """The same transcript without the last phrases that there was no time to say."""
        if not self.ends_hurried:
            return self
        *phrases, last = self.phrases
        while phrases and (_is_hurried(phrases[-1]) or phrases[-1].start_s >= last.start_s):
            last = phrases.pop()
        words = tuple(word for word in self.words or () if word.start_s + word.end_s < 2 * last.start_s)
        kept = self.with_words(self._text_to(words), words)
        return replace(kept, phrases=tuple(phrases), avg_logprob=_mean_logprob(words), trimmed=True)

    def _text_to(self, words: Sequence[Word]) -> str:
        """Its text as far as these, its first words."""
        end = 0
        for word in words:
            if (begin := self.text.find(word.word, end)) < 0:
                return text_of(words, self.language)
            end = begin + len(word.word)
        return self.text[:end]

    def phrases_from(self, start_s: float) -> tuple[Phrase, ...]:
        """Its phrases on the clock on which its window starts at ``start_s``."""
        begin_s = start_s - self.lead_s
        return tuple(Phrase(begin_s + one.start_s, begin_s + one.end_s, one.letters) for one in self.phrases)

    def with_words(self, text: str, words: tuple[Word, ...] | None) -> "Transcript":
        """The same transcript with other words."""
        return replace(self, text=text, words=words)


def _is_hurried(phrase: Phrase) -> bool:
    return is_hurried(phrase.letters, phrase.end_s - phrase.start_s)


def _mean_logprob(words: Sequence[Word]) -> float | None:
    """None without words."""
    logprobs = [math.log(max(word.confidence, LEAST_PROBABILITY)) for word in words]
    return min(0.0, sum(logprobs) / len(logprobs)) if logprobs else None


def text_of(words: Sequence[Word], language: str | None) -> str:
    """The words as text."""
    return ("" if language in WITHOUT_SPACES else " ").join(word.word for word in words)
