"""Windows that were heard with what came before them: each word is written once.

In: the answers to one speaker's windows, in order; whisper heard each together with the seconds before it, which an earlier
window has written already, and perhaps with some after it, which a later one will write. Out: the words that are new.

What was written is found again in the answer by its text: among all beginnings of the answer the one that is nearest to it, in
words changed, lost and invented, is what was written, and what follows is new. Two passes put one word at different times, so
time only says what is too far away to be the same, and decides where the text does not.

Words near the end of what was heard are the least sure: half a word, a word of which the end may still come, a full stop because
nothing follows. Where the audio goes on they are held back, and the next window writes them, as it hears them then.

Text without times is placed by its characters, as if it had been spoken evenly.
"""

import math
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby, starmap
from typing import NamedTuple

from transcriber.engine.transcript import Transcript, Word
from transcriber.pipeline.pauses import Pauses
from transcriber.schema.languages import WITHOUT_SPACES

MAX_APART_S = 3.0
"""Two passes put the same word never so far apart."""

SLIPS_S, FAR_COST = 1.0, 0.3
"""Up to so far apart the same word costs nothing: times slip by a second beside silence. Each further second costs so much."""

MISHEARD_S = 1.2
"""Words that are not spelt alike are one, heard in two ways, only if they are nearer."""

MISHEARD_COST, ALIKE_GAIN = 1.0, 0.5
"""At the same time it costs so much; less by up to this if they begin or end alike."""

LOST_COST, CHANGED_COST = 1.2, 2.2
"""Of a word that is written and not heard again, where one that is heard and not written costs 1: the pass that wrote it heard it
best. And of a word for another one further away: one is lost and one invented.
"""

MOST_JOINED, JOIN_COST = 5, 0.1
"""So many words for one that is spelt like all of them: "KL 550 812" for "KL-550-812"."""

LATE_S, LATE_COST, MOST_LATE_COST = 0.15, 0.6, 0.9
"""A word so far on the wrong side of the last one that is written costs this for each further second. It stays below what a word
that nobody wrote costs among those that are: times say little where whisper writes "1,500" or spells a name.
"""

SLACK_S, SLACK_COST = 0.5, 0.1
"""Times slip: what was written so shortly before where the audio begins may be heard all the same; that it is not costs this."""

EDGE_S, EDGE_COST = 0.3, 0.4
"""What was written so near to where the audio begins may be missing in the answer at this cost: its beginning was not heard."""


class PlacedWord(NamedTuple):
    """A word, or a character where words are not told apart; in seconds of the session.

    It begins with a space if there is one before it in the text. ``of``: the word it is part of.
    """

    word: str
    start_s: float
    end_s: float
    confidence: float = 1.0
    of: int = -1

    @property
    def middle_s(self) -> float:
        return (self.start_s + self.end_s) / 2


class Written(NamedTuple):
    """What is known at the end of a window; small, and plain enough for JSON.

    Attributes:
        until_s: where the last word that is written ends; negative if what comes does not follow upon what was written. A window
            may have ended later: what it missed, the next may hear.
        words: that were written, as far back as the next window may hear: each with its start and end.
        held: what was heard after ``until_s`` and is the next window's to write: also with its confidence.
        language: of them; None where none was heard yet.
        from_s: what was said before is nobody's any more: it was written, or is told as missing.
    """

    until_s: float = 0.0
    words: tuple[tuple[str, float, float], ...] = ()
    held: tuple[tuple[str, float, float, float], ...] = ()
    language: str | None = None
    from_s: float = 0.0

    @property
    def sure(self) -> bool:
        """Whether the next window follows upon text that is believed."""
        return self.until_s >= 0


class TranscribedRange(NamedTuple):
    """What whisper heard for a window, in seconds of the session.

    Attributes:
        start_s, end_s: of the window.
        lead_s, tail_s: how much it heard before and after.
        goes_on: whether the audio goes on right after it, in the same breath: neither the end of speech, nor a gap, nor
            the end of the session.
        pauses: where nobody speaks, for the times that are told. Words are found again by the times that the model gives.
    """

    start_s: float
    end_s: float
    lead_s: float = 0.0
    tail_s: float = 0.0
    goes_on: bool = False
    pauses: Pauses = Pauses()


class LeftContext:
    """The windows of one speaker. Event loop only; what it says depends on the answers alone.

    Attributes:
        before: what was written.
    """

    def __init__(self, reach_s: float, hold_back_s: float, before: Written | None = None) -> None:
        """Windows hear up to ``reach_s`` seconds before them; words within ``hold_back_s`` of where they end are not sure."""
        self.before = before or Written()
        self._reach_s, self._hold_back_s = reach_s, hold_back_s

    def new_text(self, transcript: Transcript, heard: TranscribedRange) -> Transcript:
        """The text of an open window without what is written; nothing is held back."""
        return self._restricted_to(transcript, self._new_words(transcript, heard), heard)

    def close_window(self, transcript: Transcript, heard: TranscribedRange, *, again: bool = False) -> Transcript:
        """The text of a window that has ended; what is held back of it comes with the next one.

        ``again``: all that comes after it is told, with what was held back before it.
        """
        if transcript.suppressed:
            # What was left to it was believed when it was heard.
            held = [] if again else self._held_back
            self.before = Written(-1.0, (), (), self.before.language)
            return self._restricted_to(transcript, held, heard)
        if again:
            words = (*self.before.words, *(word[:3] for word in self.before.held))
            self.before = self.before._replace(words=words, held=())
        if transcript.text and self.before.language not in {None, transcript.language}:
            self.interrupted()
        new = self._new_words(transcript, heard)
        # What lies beyond the end is the next one's, if that is sure to hear it.
        end_s = heard.end_s if heard.tail_s and (heard.goes_on or again) else math.inf
        holds = bool(self._hold_back_s) and heard.goes_on and not again
        sure_s = heard.end_s + heard.tail_s - self._hold_back_s if holds else math.inf
        last = next((i for i, word in enumerate(new) if word.middle_s >= end_s or word.end_s > sure_s), len(new))
        out, held = new[:last], [word for word in new[last:] if word.middle_s < end_s]
        own = self._restricted_to(transcript, out, heard)
        self.before = self._after(transcript, out, held, heard)
        return own

    def interrupted(self) -> None:
        """What comes does not follow upon what was written: something is missing, or another language is spoken."""
        self.before = self.before._replace(until_s=-1.0, words=())

    @property
    def _held_back(self) -> list[PlacedWord]:
        """What was left to the next window."""
        return [PlacedWord(*one, of=-n) for n, one in enumerate(self.before.held, 1)]

    def _new_words(self, transcript: Transcript, heard: TranscribedRange) -> list[PlacedWord]:
        """What is not written."""
        words, begin_s, held = placed_words(transcript, heard), heard.start_s - heard.lead_s, self._held_back
        if not words or not heard.lead_s:
            # It did not hear what is written either: it says nothing about what was held back.
            return held + words
        if not self.before.sure:
            return held + words[first_index_from(heard.start_s, words) :]
        # What was held back further ago than it heard is written now, as it was heard then.
        unheard = held[: first_index_from(begin_s, held)]
        before = [word for word in starmap(PlacedWord, self.before.words) if word.end_s > begin_s - SLACK_S]
        words = words[first_index_from(self.before.from_s, words) :]
        return unheard + words[count_written(before + unheard, words, self.before.until_s, begin_s) :]

    def _after(
        self, transcript: Transcript, out: Sequence[PlacedWord], held: Sequence[PlacedWord], heard: TranscribedRange
    ) -> Written:
        before = self.before
        from_s = before.from_s if before.sure else heard.start_s
        until_s = out[-1].end_s if out else before.until_s if before.sure else heard.start_s
        words = (*before.words, *((word.word.strip(), word.start_s, word.end_s) for word in out))
        return Written(
            until_s=until_s,
            words=tuple(word for word in words if word[2] > heard.end_s - self._reach_s),
            held=tuple(word[:4] for word in held),
            language=transcript.language if transcript.text else before.language,
            from_s=from_s,
        )

    def _restricted_to(
        self, transcript: Transcript, found: Sequence[PlacedWord], heard: TranscribedRange
    ) -> Transcript:
        """The same answer of these words only.

        Their times count from the window's start, and lie within it or by the hold-back before it; but what was held back by
        another window stays where it was heard.
        """
        return keep_words(
            transcript, found, heard, max(heard.start_s - self._hold_back_s, min(self.before.until_s, heard.start_s))
        )


def keep_words(
    transcript: Transcript, found: Sequence[PlacedWord], heard: TranscribedRange, first_s: float
) -> Transcript:
    """The same answer of these words only, out of the pauses, between ``first_s`` and the window's end.

    What another window held back stays where it was.
    """
    words: list[Word] = []
    groups = [list(group) for _, group in groupby(found, lambda word: word.of)]
    own_s = [(parts[0].start_s, parts[-1].end_s) for parts in groups if parts[0].of >= 0]
    told_s = iter(heard.pauses.place(own_s, first_s))
    least_s = first_s
    for parts in groups:
        start_s, end_s = parts[0].start_s, parts[-1].end_s
        if parts[0].of >= 0:
            start_s, end_s = next(told_s)
            start_s = max(start_s, least_s)
            end_s = least_s = max(end_s, start_s)
        start_s, end_s = (min(time_s, heard.end_s) - heard.start_s for time_s in (start_s, end_s))
        words.append(Word("".join(part.word for part in parts).strip(), start_s, end_s, parts[0].confidence))
    timed = transcript.words is not None and (bool(transcript.words) or not transcript.text)
    text = "".join(word.word for word in found).strip()
    return transcript.with_words(text, tuple(words) if timed else transcript.words)


def first_index_from(time_s: float, words: Sequence[PlacedWord]) -> int:
    """Index of the first word that is said from a time on."""
    return next((i for i, word in enumerate(words) if word.middle_s >= time_s), len(words))


def same_word(one: str, other: str) -> bool:
    """Whether two words are the same, but for case and punctuation.

    >>> same_word("Harbour,", "harbour"), same_word("nine", "five")
    (True, False)
    """
    return normalised(one) == normalised(other)


def count_written(before: Sequence[PlacedWord], words: Sequence[PlacedWord], until_s: float, begin_s: float) -> int:
    """How many of ``words`` are what was written."""
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
    """What it costs to make each beginning of ``words`` of ``before``: (len(words) + 1,)."""
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
            if apart_s < MAX_APART_S:  # else to change one costs as much as to lose it and to invent the other
                cost = min(cost, above[j - 1] + _change(their, other, apart_s))
            # Several words for one: as the end of what was written, or of what was heard.
            if (many := joins.get(other)) and abs(before[i - many].middle_s - middles_s[j - 1]) < MAX_APART_S:
                cost = min(cost, rows[i - many][j - 1] + JOIN_COST)
            if (many := our_joins[j - 1].get(their)) and abs(middles_s[j - many] - middle_s) < MAX_APART_S:
                cost = min(cost, above[j - many] + JOIN_COST)
            row.append(cost)
        rows.append(row)
    return rows[-1]


def _joins(words: Sequence[str]) -> list[dict[str, int]]:
    """For each word what the last ones up to it are if they are written as one, and how many they are."""
    return [
        {"".join(words[i - many : i]): many for many in range(2, min(MOST_JOINED, i) + 1)}
        for i in range(1, len(words) + 1)
    ]


def _lost(word: PlacedWord, begin_s: float) -> float:
    """What it costs that a written word is not heard by who hears from ``begin_s`` on."""
    if word.end_s <= begin_s:
        return SLACK_COST
    return EDGE_COST if word.middle_s < begin_s + EDGE_S else LOST_COST


def _change(one: str, other: str, apart_s: float) -> float:
    """What it costs to take two words for one; they are less than ``FAR_S`` apart."""
    if one == other:
        return FAR_COST * max(0.0, apart_s - SLIPS_S)
    near = 1 - apart_s / MISHEARD_S
    if near <= 0:
        return CHANGED_COST
    return CHANGED_COST - near * (CHANGED_COST - MISHEARD_COST + ALIKE_GAIN * _alike(one, other))


@lru_cache(4096)
def _alike(one: str, other: str) -> float:
    """In [0, 1]: how much of two words they begin or end with in common."""
    shared = max(_common(one, other), _common(one[::-1], other[::-1]))
    return 2 * shared / (len(one) + len(other))


def _common(one: str, other: str) -> int:
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _late(by_s: float) -> float:
    return min(MOST_LATE_COST, LATE_COST * max(0.0, by_s - LATE_S))


@lru_cache(1024)
def normalised(word: str) -> str:
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", word))).casefold() or word


def placed_words(transcript: Transcript, heard: TranscribedRange) -> list[PlacedWord]:
    """What the answer is compared by."""
    begin_s = heard.start_s - heard.lead_s
    words: Sequence[Word] = transcript.words or ()
    if not words:
        words = _spread(transcript, heard.end_s + heard.tail_s - begin_s)
    parts = _characters if transcript.language in WITHOUT_SPACES else _whole
    spaces = _spaces(transcript.text, words, default="" if transcript.language in WITHOUT_SPACES else " ")
    return [
        PlacedWord(
            (space if n == 0 else "") + part,
            round(begin_s + start_s, 3),
            round(begin_s + end_s, 3),
            word.confidence,
            number,
        )
        for number, (word, space) in enumerate(zip(words, spaces, strict=True))
        for n, (part, start_s, end_s) in enumerate(parts(word))
    ]


def _spaces(text: str, words: Sequence[Word], *, default: str) -> Iterator[str]:
    """What stands before each word in ``text``: a space or nothing; ``default`` where it is not found."""
    place = 0
    for word in words:
        begin = text.find(word.word, place)
        if begin < 0 or text[place:begin].strip():
            yield default
        else:
            yield " " if begin > place or (not begin and default) else ""
            place = begin + len(word.word)


def _whole(word: Word) -> list[tuple[str, float, float]]:
    return [(word.word, word.start_s, word.end_s)]


def _characters(word: Word) -> list[tuple[str, float, float]]:
    """Each with the marks that follow it: two passes put the same characters together in different ways."""
    groups: list[str] = []
    for char in word.word:
        if groups and not char.isalnum():
            groups[-1] += char
        else:
            groups.append(char)
    step_s = (word.end_s - word.start_s) / max(1, len(groups))
    return [(group, word.start_s + n * step_s, word.start_s + (n + 1) * step_s) for n, group in enumerate(groups)]


def _spread(transcript: Transcript, duration_s: float) -> list[Word]:
    """Words of a text without times."""
    texts = list(transcript.text) if transcript.language in WITHOUT_SPACES else transcript.text.split()
    total, done = sum(map(len, texts)), 0
    words: list[Word] = []
    for text in texts:
        start_s, done = duration_s * done / total, done + len(text)
        words.append(Word(text, start_s, duration_s * done / total, 1.0))
    return words
