"""Where two windows heard the same half second: each word is written once.

In: the words of one window after the other. Out: those that are its own. Where no quiet place was found to cut, both windows
heard the place whole; the earlier one writes what lies before the cut, and the later one goes on after the last word that was
written. Two passes put one word at slightly different times, so what both heard is laid side by side, by text and time.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from transcriber.engine.job import Transcript, Word
from transcriber.engine.languages import WITHOUT_SPACES

SAME_WORD_S = 0.75
"""Two passes put the same word at most so far apart."""

SLIPS_S = 0.4
"""Words that are spelt alike and so far apart are hardly the same; where none is nearer they may be all the same."""

MISHEARD_S = 0.25
"""Two words that are not spelt alike, and no further apart, are one that was heard in two ways."""

LEAST = 0.05
"""What the same word counts at least; a misheard one counts less, however near it is."""


_Placed = tuple[str, float]


class Heard(NamedTuple):
    """What window ``number`` made of the place where it ends: words and their middles, in seconds from the cut."""

    number: int
    words: list[_Placed]
    written: int  # how many of them are before the cut


class Seam:
    """The windows of one speaker. Event loop only.

    Attributes:
        before: what was heard of the latest place where two windows overlap.
    """

    def __init__(self, before: Heard | None = None) -> None:
        self.before = before

    def own(self, transcript: Transcript, number: int, *, lead_s: float) -> Transcript:
        """The text of window ``number``, still open, without the words of the one before it.

        Times count from the window's own start; ``lead_s`` is what it heard before that. Text without times stays as it is.
        """
        if transcript.words is None or not lead_s:
            return transcript
        words = _shifted(transcript.words, -lead_s)
        return _of(transcript, words[self._first(words, number) :])

    def close(
        self, transcript: Transcript, number: int, *, lead_s: float, tail_s: float, duration_s: float
    ) -> Transcript:
        """As ``own``, and without the words of the window after it: this one ends ``duration_s`` seconds after its start."""
        own = self.own(transcript, number, lead_s=lead_s)
        if own.words is None or not tail_s:
            return own
        last = _first_after(own.words, duration_s)
        self.before = Heard(number, _placed(own.words, duration_s), last)
        return _of(own, own.words[:last], duration_s)

    def _first(self, words: Sequence[Word], number: int) -> int:
        """Index of the first word that the window before did not write."""
        before, by_time = self.before, _first_after(words, 0.0)
        if before is None or before.number != number - 1:
            return by_time
        pairs = _side_by_side(before.words, _placed(words, 0.0))
        theirs = [own for other, own in pairs if other < before.written]
        mine = [own for other, own in pairs if other >= before.written]
        return theirs[-1] + 1 if theirs else min([by_time, *mine[:1]])


def written(words: Sequence[Word], language: str | None) -> str:
    """The words as text."""
    return ("" if language in WITHOUT_SPACES else " ").join(word.word for word in words)


def same(one: str, other: str) -> bool:
    """Whether two words are the same, but for case and punctuation.

    >>> same("Harbour,", "harbour"), same("nine", "five")
    (True, False)
    """
    return _bare(one) == _bare(other)


def _shifted(words: Sequence[Word], by_s: float) -> list[Word]:
    return [replace(word, start_s=word.start_s + by_s, end_s=word.end_s + by_s) for word in words]


def _of(transcript: Transcript, words: Sequence[Word], end_s: float = math.inf) -> Transcript:
    """The same answer of these words only, their times within the window."""
    inside = tuple(
        replace(word, start_s=min(max(word.start_s, 0.0), end_s), end_s=min(max(word.end_s, 0.0), end_s))
        for word in words
    )
    return transcript.with_words(written(inside, transcript.language), inside)


def _bare(word: str) -> str:
    return "".join(filter(str.isalnum, word)).casefold() or word


def _placed(words: Sequence[Word], cut_s: float) -> list[_Placed]:
    """Words and their middles, in seconds from the cut."""
    return [(word.word, _middle_s(word) - cut_s) for word in words]


def _side_by_side(before: Sequence[_Placed], after: Sequence[_Placed]) -> list[tuple[int, int]]:
    """Which word of the one pass is which of the other: pairs of indices in order, those that fit best together."""
    # fit[i][j]: how well the words from before[i] and after[j] on fit, as in a longest common subsequence.
    fit = [[0.0] * (len(after) + 1) for _ in range(len(before) + 1)]
    for i in reversed(range(len(before))):
        for j in reversed(range(len(after))):
            fit[i][j] = max(fit[i + 1][j], fit[i][j + 1], fit[i + 1][j + 1] + _fits(before[i], after[j]))
    pairs: list[tuple[int, int]] = []
    i = j = 0
    while i < len(before) and j < len(after):
        alike = _fits(before[i], after[j])
        if alike and fit[i][j] == fit[i + 1][j + 1] + alike:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif fit[i][j] == fit[i + 1][j]:
            i += 1
        else:
            j += 1
    return pairs


def _fits(one: _Placed, other: _Placed) -> float:
    """How likely two words are one, in [0, 1]; 0: they are not."""
    apart_s = abs(one[1] - other[1])
    if same(one[0], other[0]):
        return max(LEAST, 1 - apart_s / SLIPS_S) if apart_s <= SAME_WORD_S else 0.0
    return LEAST * (1 - apart_s / MISHEARD_S) / 2 if apart_s < MISHEARD_S else 0.0


def _first_after(words: Sequence[Word], time_s: float) -> int:
    """Index of the first word whose middle is not before ``time_s``."""
    return next((i for i, word in enumerate(words) if _middle_s(word) >= time_s), len(words))


def _middle_s(word: Word) -> float:
    return (word.start_s + word.end_s) / 2
