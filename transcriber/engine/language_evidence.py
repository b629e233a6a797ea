"""Which language a speaker speaks, by the evidence of the windows so far.

In: the probability of each language, by window. Out: the language to transcribe the next window in, and whether that is sure.
Detection on a few seconds is often wrong, so the evidence is added up until one language is far ahead of all others; from then on
nothing is detected, unless the text becomes unlikely, and another language must be likelier by a margin to take over.

Everything here depends on the audio and on settings alone, and is small: another daemon resumes with the same.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

WHOLE_S = 5.0
"""Seconds of speech whose evidence counts in full; less counts in proportion. On 2 s base is hardly more often right than wrong."""

LEAST_S = 1.0
"""Less speech, such as a cough or a yes, says nothing of its language."""

ENOUGH_S = 3.0
"""Seconds of speech before a language is sure."""

MOST_S = 60.0
"""Seconds of speech, counted like their evidence, after which the likeliest language is taken as sure, so that detection ends; it may
be doubted like any other."""

FLOOR = 0.01
"""Least probability that counts, of any language: other windows can outweigh one wrong detection."""

MARGIN = 3.0
"""By so much, in natural logarithms of odds, the likeliest language is ahead of the next one when it is sure: 20 to 1."""

CHANGE_MARGIN, MOST_OF_A_WINDOW = 2.5, 3.0
"""By so much another language must be ahead of the sure one to take over; and what one window adds to that at most."""

KEPT = 12
"""Languages with a score of their own; the others count as least likely."""

DIGITS = 3


class LanguageProbabilities(NamedTuple):
    """What the model detected in one window.

    Attributes:
        probabilities: by ISO 639-1 code, of all languages that it may be, 1 in all; empty where nothing is to be detected.
        processing_s: seconds inside whisper.
    """

    probabilities: Mapping[str, float]
    processing_s: float

    @property
    def likeliest(self) -> str | None:
        return max(self.probabilities, key=self.probabilities.__getitem__, default=None)


class LanguageEvidence(NamedTuple):
    """The evidence at the end of a window; plain enough for JSON.

    Attributes:
        language: to transcribe the next window in; None: no evidence yet.
        sure: whether it need not be detected again.
        scores: the likeliest languages with natural logarithms. Not sure: of their probabilities, added up. Sure: of the odds
            against ``language``, from doubted text; at least 0.
        speech_s: seconds of speech behind the scores; while not sure.
    """

    language: str | None = None
    sure: bool = False
    scores: tuple[tuple[str, float], ...] = ()
    speech_s: float = 0.0

    def with_window(self, odds: Mapping[str, float], speech_s: float) -> "LanguageEvidence":
        """After one more window with ``speech_s`` seconds of speech, while the language is not sure."""
        if speech_s < LEAST_S or not odds:
            return self
        counted_s = min(speech_s, WHOLE_S)
        before = dict(self.scores)
        unlisted = self.speech_s / WHOLE_S * math.log(FLOOR)
        ranked = _ranked(
            {
                language: before.get(language, unlisted) + counted_s / WHOLE_S * _log(odds.get(language, 0.0))
                for language in before.keys() | {one for one, probability in odds.items() if probability >= FLOOR}
            }
        )
        if not ranked:
            return self
        total_s = self.speech_s + counted_s
        (language, best), *others = ranked
        second = others[0][1] if others else total_s / WHOLE_S * math.log(FLOOR)
        if (best - second >= MARGIN and total_s >= ENOUGH_S) or total_s >= MOST_S:
            return LanguageEvidence(language, sure=True)
        return LanguageEvidence(language, False, ranked, round(total_s, DIGITS))

    def with_doubtful_window(self, odds: Mapping[str, float], speech_s: float) -> "LanguageEvidence":
        """After one more window whose text is unlikely, once the language was sure; another one may have taken over."""
        if speech_s < LEAST_S or not odds:
            return self
        before, share = dict(self.scores), min(speech_s, WHOLE_S) / WHOLE_S
        own = _log(odds.get(self.language or "", 0.0))
        ranked = _ranked(
            {
                language: score
                for language in (before.keys() | odds.keys()) - {self.language}
                if (
                    score := before.get(language, 0.0)
                    + share * min(_log(odds.get(language, 0.0)) - own, MOST_OF_A_WINDOW)
                )
                > 0
            }
        )
        if ranked and ranked[0][1] >= CHANGE_MARGIN:
            return LanguageEvidence(ranked[0][0], sure=True)
        return self._replace(scores=ranked)

    def with_likely_window(self) -> "LanguageEvidence":
        """After one more window whose text is likely, once the language was sure: the evidence against it is halved."""
        return self._replace(
            scores=_ranked({language: score / 2 for language, score in self.scores if score >= MARGIN / 10})
        )


def _log(probability: float) -> float:
    return math.log(max(probability, FLOOR))


def _ranked(scores: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
    """The best first; equal ones by name."""
    best = sorted(scores.items(), key=lambda one: (-one[1], one[0]))[:KEPT]
    return tuple((language, round(score, DIGITS)) for language, score in best)
