"""Words said beside words transcribed: what was changed, lost, invented and doubled, and where.

In: words of both, with times. Out: an alignment with the least number of errors, and counts. Pure: no audio, no daemon.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from transcriber.testing.wer import words

AT_CUT_S = 0.5
"""An error this close to a cut is blamed on it."""

TIE_PER_S, TIE_MAX_S = 1e-7, 10.0
"""Of alignments with as few errors, that whose words lie nearest in time: ten thousand words far apart weigh 0.01 of an error."""

UNKNOWN_S = math.nan
_TINY = 1e-9
_BOTH, _SAID, _HEARD = 0, 1, 2


class Spoken(NamedTuple):
    """A word as errors are counted: lower case, no punctuation. Its times are ``UNKNOWN_S`` where nobody knows."""

    word: str
    start_s: float = UNKNOWN_S
    end_s: float = UNKNOWN_S

    @property
    def middle_s(self) -> float:
        return (self.start_s + self.end_s) / 2


class Pair(NamedTuple):
    """Numbers of a word said and of the one heard for it; None on one side: it was lost, or never said."""

    said: int | None
    heard: int | None


def spoken(text: str, start_s: float = UNKNOWN_S, end_s: float = UNKNOWN_S) -> list[Spoken]:
    """The words of a text, each as long as its share of the characters.

    >>> spoken("Thirty-five,", 1.0, 2.0)
    [Spoken(word='thirty', start_s=1.0, end_s=1.6), Spoken(word='five', start_s=1.6, end_s=2.0)]
    """
    return spread_over(words(text), start_s, end_s)


def spread_over(found: Sequence[str], start_s: float, end_s: float) -> list[Spoken]:
    """Words one after the other, each as long as its share of the characters."""
    places = [0]
    for word in found:
        places.append(places[-1] + len(word))
    times_s = [start_s + (end_s - start_s) * place / max(1, places[-1]) for place in places]
    return [Spoken(*one) for one in zip(found, times_s, times_s[1:], strict=False)]


def align(said: Sequence[Spoken], heard: Sequence[Spoken]) -> list[Pair]:
    """In order, every word of both once; no other alignment has fewer errors."""
    moves = _moves(said, heard)
    pairs: list[Pair] = []
    i, j = len(said), len(heard)
    while i or j:
        move = moves[i, j]
        i, j = i - int(move != _HEARD), j - int(move != _SAID)
        pairs.append(Pair(None if move == _HEARD else i, None if move == _SAID else j))
    return pairs[::-1]


def tally(
    pairs: Sequence[Pair], said: Sequence[Spoken], heard: Sequence[Spoken], cuts_s: Sequence[float]
) -> Counter[str]:
    """Counts of words and errors.

    Returns:
        ``words``, ``changed``, ``lost``, ``invented``, ``doubled``; and of these, named ``words_at_cuts`` and so on,
        those within ``AT_CUT_S`` of one of ``cuts_s``. A word that was said is where it was said, any other where it
        was heard; one without times is not at a cut. ``doubled`` are words heard once more beside themselves.
    """
    doubled = _doubled(pairs, heard)
    counts: Counter[str] = Counter()
    for i, j in pairs:
        near = "_at_cuts" if _at_a_cut(said[i] if i is not None else heard[j or 0], cuts_s) else None
        kinds = [] if i is None else ["words"]
        if i is None:
            kinds.append("doubled" if j in doubled else "invented")
        elif j is None:
            kinds.append("lost")
        elif said[i].word != heard[j].word:
            kinds.append("changed")
        counts.update(kinds)
        if near:
            counts.update(f"{kind}{near}" for kind in kinds)
    return counts


def _moves(said: Sequence[Spoken], heard: Sequence[Spoken]) -> NDArray[np.uint8]:
    """(said + 1, heard + 1): from which side the best alignment of the first i words said and j heard ones comes."""
    numbers: dict[str, int] = {}
    codes = [np.array([numbers.setdefault(one.word, len(numbers)) for one in side], int) for side in (said, heard)]
    said_s, heard_s = (np.array([one.middle_s for one in side], float) for side in (said, heard))
    columns = np.arange(len(heard) + 1, dtype=float)
    moves = np.full((len(said) + 1, len(heard) + 1), _HEARD, np.uint8)
    row = columns
    for i in range(len(said)):
        apart_s = np.minimum(np.nan_to_num(np.abs(heard_s - said_s[i])), TIE_MAX_S)
        both = row[:-1] + (codes[1] != codes[0][i]) + TIE_PER_S * apart_s
        lost = row + 1
        best = np.append(lost[:1], np.minimum(both, lost[1:]))
        # A cell may also come from its left neighbour, at 1 a step: a running minimum.
        row = np.minimum.accumulate(best - columns) + columns
        moves[i + 1, 0] = _SAID
        moves[i + 1, 1:] = np.where(both <= lost[1:], _BOTH, _SAID)
        moves[i + 1][row < best - _TINY] = _HEARD
    return moves


def _doubled(pairs: Sequence[Pair], heard: Sequence[Spoken]) -> set[int]:
    """Numbers of transcribed words that were not said, and repeat those before or after them."""
    said = {j for i, j in pairs if i is not None}
    words_heard = [one.word for one in heard]
    doubled: set[int] = set()
    end = 0
    for first in range(len(heard)):
        if first in said or first < end:
            continue
        end = next((j for j in range(first, len(heard)) if j in said), len(heard))
        if _repeats(words_heard, first, end):
            doubled.update(range(first, end))
        else:
            doubled.update(j for j in range(first, end) if _repeats(words_heard, j, j + 1))
    return doubled


def _repeats(heard: Sequence[str], first: int, end: int) -> bool:
    count, run = end - first, heard[first:end]
    return run in (heard[max(0, first - count) : first], heard[end : end + count])


def _at_a_cut(word: Spoken, cuts_s: Sequence[float]) -> bool:
    return any(abs(word.middle_s - cut_s) <= AT_CUT_S for cut_s in cuts_s)
