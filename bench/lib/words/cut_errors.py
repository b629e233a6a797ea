"""What a cut does to the words beside it: said twice, cut in half, lost; and sentences that end there but do not.

In: words said and words heard, as they are compared, with their alignment; which of those heard are the first of a window; and
texts with their punctuation. Out: counts. Pure.

A cut matters here where words were heard on both sides of it. *Twice* are the words of the least overlap of what was heard
before the cut with what was heard after it, as far as the truth says them once. *Half* is a word beside a cut that is a proper
beginning or end of the one that was said there, or, where no such word was said, begins or ends as it does. Two windows that
each have another end of a word, "climbed the | climb the", have it once right, once half. *Lost* are words within a second of a
cut for which nothing was heard.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from bench.lib.words.alignment import Pair, Spoken, align, spoken

WORD_KINDS = ("twice", "half", "lost_near_cuts")
LOST_S = 1.0
MOST_TWICE = 8
"""Words of an overlap: more than a window repeats."""

NEAR = 2
"""So many words from where it was heard one may have been said, when it is half of it."""

ALIKE = 0.5
"""Share of the shorter of two words that begin or end alike, at least."""

ALIKE_LETTERS = 3
ENDS = re.compile(r"""[.?!]["')\u2019\u201d]*$""")


class Heard(NamedTuple):
    """Words heard: ``firsts`` are the numbers of those with which a window begins, but the first window with words."""

    words: list[Spoken]
    firsts: list[int]


def joined(windows: Sequence[list[Spoken]]) -> Heard:
    """Windows in order, those without words left out."""
    out = Heard([], [])
    for window in windows:
        if window and out.words:
            out.firsts.append(len(out.words))
        out.words.extend(window)
    return out


def word_errors_at_cuts(
    said: Sequence[Spoken], heard: Heard, pairs: Sequence[Pair], cuts_s: Sequence[float]
) -> Counter[str]:
    """``twice`` and ``half``; and ``lost_near_cuts``, which is 0 where the words said have no times."""
    meant = {j: i for i, j in pairs if j is not None}
    counts: Counter[str] = Counter()
    taken: set[int] = set()
    for first in heard.firsts:
        twice, half, numbers = _overlap(first, heard.words, meant)
        counts.update(twice=twice, half=half)
        taken |= numbers
    edges = {j for first in heard.firsts for j in (first - 1, first)} - taken
    counts["half"] += sum(_is_half(j, said, heard.words, meant) for j in edges)
    lost = [said[i] for i, j in pairs if j is None and i is not None]
    counts["lost_near_cuts"] += sum(any(abs(word.middle_s - cut_s) <= LOST_S for cut_s in cuts_s) for word in lost)
    return counts


def false_ends(said_sentences: Sequence[str], texts: Sequence[str]) -> Counter[str]:
    """Of windows one after the other, where a sentence ends that continues in truth.

    Args:
        said_sentences: the truth.
        texts: of the windows with words, with their punctuation.

    Returns:
        ``cuts_in_sentences``; at how many of these the text ends with a mark, ``false_ends``; and at how many of the latter
        the next begins with a capital, ``false_sentences``.
    """
    said = [(number, word) for number, text in enumerate(said_sentences) for word in spoken(text)]
    windows = [(text, spoken(text)) for text in texts]
    heard = joined([found for _, found in windows])
    pairs = align([word for _, word in said], heard.words)
    meant = {j: i for i, j in pairs if i is not None and j is not None}
    with_words = [text.strip() for text, found in windows if found]
    counts: Counter[str] = Counter()
    for first, before, after in zip(heard.firsts, with_words, with_words[1:], strict=False):
        last_said = next((meant[j] for j in range(first - 1, -1, -1) if j in meant), None)
        next_said = next((meant[j] for j in range(first, len(heard.words)) if j in meant), None)
        if last_said is None or next_said is None or said[last_said][0] != said[next_said][0]:
            continue
        counts["cuts_in_sentences"] += 1
        if ENDS.search(before):
            counts["false_ends"] += 1
            counts["false_sentences"] += after.lstrip("\"'(").lstrip()[:1].isupper()
    return counts


def alike(one: str, other: str) -> bool:
    """Whether two different words begin or end alike, for half of the shorter one and three letters at least.

    >>> alike("everything", "anything"), alike("climb", "climbed"), alike("small", "wall"), alike("the", "them")
    (True, True, True, True)
    >>> alike("boil", "coil"), alike("to", "two"), alike("yes", "yes")
    (True, False, False)
    """
    shared = max(_common(one, other), _common(one[::-1], other[::-1]))
    return one != other and shared >= max(ALIKE_LETTERS, ALIKE * min(len(one), len(other)))


def _overlap(first: int, heard: Sequence[Spoken], meant: dict[int, int | None]) -> tuple[int, int, set[int]]:
    """Words said twice, halves, and the numbers of both copies, of the shortest overlap that the truth does not have."""
    for size in range(1, min(MOST_TWICE, first, len(heard) - first) + 1):
        numbers = set(range(first - size, first + size))
        pairs = [(heard[j].word, heard[j + size].word) for j in range(first - size, first)]
        same = sum(a == b for a, b in pairs)
        if same + sum(alike(a, b) for a, b in pairs) < size:
            continue
        # The truth has one copy: as many of both are heard for nothing.
        if sum(meant.get(j) is None for j in numbers) >= size:
            return same, size - same, numbers
    return 0, 0, set()


def _is_half(j: int, said: Sequence[Spoken], heard: Sequence[Spoken], meant: dict[int, int | None]) -> bool:
    """Whether the word heard at an edge is a part of one that was said about there, or for another one like it."""
    word, i = heard[j].word, meant.get(j)
    if i is not None and said[i].word == word:
        return False
    before = next((i for k in range(j, -1, -1) if (i := meant.get(k)) is not None), 0)
    about = [one.word for one in said[max(0, before - NEAR) : before + NEAR + 1]]
    if word in about:
        return False
    return any(_is_part(word, one) or alike(word, one) for one in about)


def _is_part(word: str, of: str) -> bool:
    return 1 < len(word) < len(of) and (of.startswith(word) or of.endswith(word))


def _common(one: str, other: str) -> int:
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
