"""Which words of a transcript were published before: found by their text, with the help of their times.

In: the words before, and a transcript of audio in which some of them are. Out: how many of the transcript's words they are.

Of all beginnings of the transcript the one at the smallest edit distance, in words changed, lost and inserted, is the words before,
and what follows is new. Two passes give one word different times, so time only rules out what is too far away to be the same, and
decides where the text does not.
"""

import math
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

MAX_APART_S = 3.0
"""Two passes never put the same word so far apart."""

SLIPS_S, FAR_COST = 1.0, 0.3
"""Up to so far apart the same word costs nothing: beside silence times are a second off. Each further second costs so much."""

MISHEARD_S = 1.2
"""Words that are spelt differently are one, transcribed in two ways, only if they are nearer."""

MISHEARD_COST, ALIKE_GAIN = 1.0, 0.5
"""What that costs at the same time, and by how much less if they begin or end alike, or one is in figures: "2" for "two"."""

LOST_COST, CHANGED_COST = 1.8, 2.8
"""Cost of an earlier window's word that is missing now, where an inserted one costs 1: the earlier pass had all its audio. And of one
word for another further away: one is lost and one inserted.
"""

MOST_JOINED, JOIN_COST = 5, 0.1
"""How many words may stand for one that is spelt like all of them, and the cost: "KL 550 812" for "KL-550-812"."""

LATE_S, LATE_COST, MOST_LATE_COST = 0.15, 0.6, 0.9
"""A word further than this on the wrong side of the last earlier one costs so much a second, at most the third. That is below the
cost of an inserted word: times say little where whisper writes "1,500" or spells a name.
"""

SLACK_S, SLACK_COST = 0.5, 0.1
"""Times are imprecise: a word that ended so shortly before the audio begins may be in it; if it is not, that costs this."""

EDGE_S, EDGE_COST = 0.3, 0.4
"""A word so near to where the audio begins may be missing at this cost: its beginning is not in the audio."""


class PlacedWord(NamedTuple):
    """A word, or a character in languages written without spaces; times in seconds of the session.

    It begins with a space if there is one before it in the text. ``of``: index of the word it is part of.
    """

    word: str
    start_s: float
    end_s: float
    confidence: float = 1.0
    of: int = -1

    @property
    def middle_s(self) -> float:
        return (self.start_s + self.end_s) / 2


def whole_words(words: Iterable[PlacedWord]) -> list[list[PlacedWord]]:
    """The parts of each word, one unless it is written without spaces."""
    return [list(parts) for _, parts in groupby(words, attrgetter("of"))]


def same_word(one: str, other: str) -> bool:
    """Whether two words are the same except for case and punctuation.

    >>> same_word("Harbour,", "harbour"), same_word("nine", "five")
    (True, False)
    """
    return normalised(one) == normalised(other)


def count_written(before: Sequence[PlacedWord], words: Sequence[PlacedWord], until_s: float, begin_s: float) -> int:
    """How many of ``words`` are those of earlier windows, ``before``."""
    costs = _alignment_costs(before, words, begin_s)
    wrong_side = sum(_late(until_s - word.middle_s) for word in words)  # all are new
    best, best_cost = 0, math.inf
    for count, cost in enumerate(costs):
        if count:
            middle_s = words[count - 1].middle_s
            wrong_side += _late(middle_s - until_s) - _late(until_s - middle_s)
        if cost + wrong_side < best_cost - 1e-9:
            best, best_cost = count, cost + wrong_side
    return best


def _alignment_costs(before: Sequence[PlacedWord], words: Sequence[PlacedWord], begin_s: float) -> list[float]:
    """Edit distance from ``before`` to each beginning of ``words``: (len(words) + 1,)."""
    theirs, ours = [normalised(word.word) for word in before], [normalised(word.word) for word in words]
    their_joins, our_joins = _joins(theirs), _joins(ours)
    middles_s = [word.middle_s for word in words]
    rows = [[float(j) for j in range(len(words) + 1)]]
    for i, one in enumerate(before, 1):
        above, lost, their, middle_s = rows[-1], _lost(one, begin_s), theirs[i - 1], one.middle_s
        joins = their_joins[i - 1]
        cost = above[0] + lost
        row = [cost]
        for j, other in enumerate(ours, 1):
            cost = min(above[j] + lost, cost + 1)
            apart_s = abs(middle_s - middles_s[j - 1])
            if apart_s < MAX_APART_S:  # else a change costs as much as a loss and an insertion
                cost = min(cost, above[j - 1] + _change(their, other, apart_s))
            # Several words for one, on either side.
            if (many := joins.get(other)) and abs(before[i - many].middle_s - middles_s[j - 1]) < MAX_APART_S:
                cost = min(cost, rows[i - many][j - 1] + JOIN_COST)
            if (many := our_joins[j - 1].get(their)) and abs(middles_s[j - many] - middle_s) < MAX_APART_S:
                cost = min(cost, above[j - many] + JOIN_COST)
            row.append(cost)
        rows.append(row)
    return rows[-1]


def _joins(words: Sequence[str]) -> list[dict[str, int]]:
    """For each word: the last ones up to it written as one, and how many they are."""
    return [
        {"".join(words[i - many : i]): many for many in range(2, min(MOST_JOINED, i) + 1)}
        for i in range(1, len(words) + 1)
    ]


def _lost(word: PlacedWord, begin_s: float) -> float:
    """Cost of an earlier word that is missing in audio from ``begin_s`` on."""
    if word.end_s <= begin_s:
        return SLACK_COST
    return EDGE_COST if word.middle_s < begin_s + EDGE_S else LOST_COST


def _change(one: str, other: str, apart_s: float) -> float:
    """Cost of one word for the other; they are less than ``MAX_APART_S`` apart."""
    if one == other:
        return FAR_COST * max(0.0, apart_s - SLIPS_S)
    near = 1 - apart_s / MISHEARD_S
    if near <= 0:
        return CHANGED_COST
    return CHANGED_COST - near * (CHANGED_COST - MISHEARD_COST + ALIKE_GAIN * _alike(one, other))


@lru_cache(4096)
def _alike(one: str, other: str) -> float:
    """In [0, 1]: how much of two words their common beginning or end is. Figures and words for them have no letter in common: 1."""
    if one.isdigit() != other.isdigit():
        return 1.0
    shared = max(_common(one, other), _common(one[::-1], other[::-1]))
    return 2 * shared / (len(one) + len(other))


def _common(one: str, other: str) -> int:
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _late(by_s: float) -> float:
    return min(MOST_LATE_COST, LATE_COST * max(0.0, by_s - LATE_S))


@lru_cache(1024)
def normalised(word: str) -> str:
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", word))).casefold() or word
