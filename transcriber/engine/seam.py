"""Where two windows heard the same half second: each word is written once.

In: the words of one window after the other. Out: those that are its own. Where no quiet place was found to cut, both windows
heard the place whole; the earlier one writes what lies before the cut, and the later one goes on after the last word that was
written, which it knows by its text and time, since two passes put one word at slightly different times.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from transcriber.engine.job import Transcript, Word
from transcriber.engine.languages import WITHOUT_SPACES

SAME_WORD_S = 0.5
"""Two passes put the same word at most so far apart; the next word that is spelt alike is mostly further away."""


class _Heard(NamedTuple):
    """What window ``number`` made of the place where it ends: words and their middles, in seconds from the cut."""

    number: int
    written: list[tuple[str, float]]
    left: list[tuple[str, float]]


class Seam:
    """The windows of one speaker. Event loop only."""

    def __init__(self) -> None:
        self._before: _Heard | None = None

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
        from_cut = [(word.word, _middle_s(word) - duration_s) for word in own.words]
        self._before = _Heard(number, from_cut[:last], from_cut[last:])
        return _of(own, own.words[:last], duration_s)

    def _first(self, words: Sequence[Word], number: int) -> int:
        """Index of the first word that the window before did not write."""
        before = self._before
        if before is not None and before.number == number - 1:
            if before.written and (found := _find(words, *before.written[-1])) is not None:
                return found + 1
            if before.left and (found := _find(words, *before.left[0])) is not None:
                return found
        return _first_after(words, 0.0)


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


def _find(words: Sequence[Word], text: str, middle_s: float) -> int | None:
    """The word of that text nearest to that time."""
    apart = {i: abs(_middle_s(word) - middle_s) for i, word in enumerate(words) if same(word.word, text)}
    nearest = min(apart, key=apart.__getitem__, default=None)
    return nearest if nearest is not None and apart[nearest] <= SAME_WORD_S else None


def _first_after(words: Sequence[Word], time_s: float) -> int:
    """Index of the first word whose middle is not before ``time_s``."""
    return next((i for i, word in enumerate(words) if _middle_s(word) >= time_s), len(words))


def _middle_s(word: Word) -> float:
    return (word.start_s + word.end_s) / 2
