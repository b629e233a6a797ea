"""Windows transcribed with left context: each word is published once.

In: transcripts of one speaker's windows, in order; whisper transcribed each together with the seconds before it, whose words an
earlier window has already, and perhaps with some after it, whose words a later one will have. Out: the words that are new.

The words of earlier windows are found in a transcript by their text: of all its beginnings the one at the smallest edit distance,
in words changed, lost and inserted, is the earlier windows', and what follows is new. Two passes give one word different times, so
time only rules out what is too far away to be the same, and decides where the text does not.

Words near the end of the audio are the least reliable: half a word, a word whose end may follow, a full stop because nothing
follows. Where the audio continues they are held back, and the next window has them, as it transcribes them.

Text without times is placed by its characters, as if spoken evenly.
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
"""Two passes never put the same word so far apart."""

SLIPS_S, FAR_COST = 1.0, 0.3
"""Up to so far apart the same word costs nothing: beside silence times are a second off. Each further second costs so much."""

MISHEARD_S = 1.2
"""Words that are spelt differently are one, transcribed in two ways, only if they are nearer."""

MISHEARD_COST, ALIKE_GAIN = 1.0, 0.5
"""What that costs at the same time, and by how much less if they begin or end alike."""

LOST_COST, CHANGED_COST = 1.2, 2.2
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


class Written(NamedTuple):
    """State at the end of a window; small, and plain enough for JSON.

    Attributes:
        until_s: where the last published word ends; negative if what follows does not continue it. The window may have ended
            later: what it missed, the next may find.
        words: published ones, as far back as the next window's left context: each with its start and end.
        held: words after ``until_s`` that are held back for the next window: also with their confidence.
        language: of them; None before the first.
        from_s: words before are published, or published as missing.
    """

    until_s: float = 0.0
    words: tuple[tuple[str, float, float], ...] = ()
    held: tuple[tuple[str, float, float, float], ...] = ()
    language: str | None = None
    from_s: float = 0.0

    @property
    def sure(self) -> bool:
        """Whether the next window continues text that was not suppressed."""
        return self.until_s >= 0


class TranscribedRange(NamedTuple):
    """The audio that whisper got for a window, in seconds of the session.

    Attributes:
        start_s, end_s: of the window.
        lead_s, tail_s: how much context it got before and after.
        goes_on: whether speech continues right after it: neither the end of speech, nor a gap, nor the end of the session.
        pauses: silence between speech, for the times that are published. Words are compared by the times that the model gives.
    """

    start_s: float
    end_s: float
    lead_s: float = 0.0
    tail_s: float = 0.0
    goes_on: bool = False
    pauses: Pauses = Pauses()


class LeftContext:
    """The windows of one speaker. Event loop only; its output depends on the transcripts alone.

    Attributes:
        before: state after the last window that closed.
    """

    def __init__(self, reach_s: float, hold_back_s: float, before: Written | None = None) -> None:
        """Left context is up to ``reach_s`` seconds; words within ``hold_back_s`` of the end are held back."""
        self.before = before or Written()
        self._reach_s, self._hold_back_s = reach_s, hold_back_s

    def new_text(self, transcript: Transcript, audio_range: TranscribedRange) -> Transcript:
        """The new text of an open window; nothing is held back."""
        return self._restricted_to(transcript, self._new_words(transcript, audio_range), audio_range)

    def close_window(self, transcript: Transcript, audio_range: TranscribedRange, *, again: bool = False) -> Transcript:
        """The new text of a window that has closed; what is held back is the next one's.

        ``again``: all after it is published already, with what was held back before it.
        """
        if transcript.suppressed:
            # What was held back for it was reliable in its own window.
            held = [] if again else self._held_back
            self.before = Written(-1.0, (), (), self.before.language)
            return self._restricted_to(transcript, held, audio_range)
        if again:
            words = (*self.before.words, *(word[:3] for word in self.before.held))
            self.before = self.before._replace(words=words, held=())
        if transcript.text and self.before.language not in {None, transcript.language}:
            self.interrupted()
        new = self._new_words(transcript, audio_range)
        # Words beyond the end are the next window's, if that is sure to get their audio.
        end_s = audio_range.end_s if audio_range.tail_s and (audio_range.goes_on or again) else math.inf
        holds = bool(self._hold_back_s) and audio_range.goes_on and not again
        sure_s = audio_range.end_s + audio_range.tail_s - self._hold_back_s if holds else math.inf
        last = next((i for i, word in enumerate(new) if word.middle_s >= end_s or word.end_s > sure_s), len(new))
        out, held = new[:last], [word for word in new[last:] if word.middle_s < end_s]
        own = self._restricted_to(transcript, out, audio_range)
        self.before = self._after(transcript, out, held, audio_range)
        return own

    def interrupted(self) -> None:
        """What follows does not continue the text so far: something is missing, or in another language."""
        self.before = self.before._replace(until_s=-1.0, words=())

    @property
    def _held_back(self) -> list[PlacedWord]:
        """Words held back for the next window."""
        return [PlacedWord(*one, of=-n) for n, one in enumerate(self.before.held, 1)]

    def _new_words(self, transcript: Transcript, audio_range: TranscribedRange) -> list[PlacedWord]:
        """The words that are not published yet."""
        words, begin_s, held = (
            placed_words(transcript, audio_range),
            audio_range.start_s - audio_range.lead_s,
            self._held_back,
        )
        if not words or not audio_range.lead_s:
            # Without left context it says nothing about what was held back.
            return held + words
        if not self.before.sure:
            return held + words[first_index_from(audio_range.start_s, words) :]
        # Words held back from before its audio are published now, as they were transcribed then.
        before_audio = held[: first_index_from(begin_s, held)]
        before = [word for word in starmap(PlacedWord, self.before.words) if word.end_s > begin_s - SLACK_S]
        words = words[first_index_from(self.before.from_s, words) :]
        return before_audio + words[count_written(before + before_audio, words, self.before.until_s, begin_s) :]

    def _after(
        self,
        transcript: Transcript,
        out: Sequence[PlacedWord],
        held: Sequence[PlacedWord],
        audio_range: TranscribedRange,
    ) -> Written:
        before = self.before
        from_s = before.from_s if before.sure else audio_range.start_s
        until_s = out[-1].end_s if out else before.until_s if before.sure else audio_range.start_s
        words = (*before.words, *((word.word.strip(), word.start_s, word.end_s) for word in out))
        return Written(
            until_s=until_s,
            words=tuple(word for word in words if word[2] > audio_range.end_s - self._reach_s),
            held=tuple(word[:4] for word in held),
            language=transcript.language if transcript.text else before.language,
            from_s=from_s,
        )

    def _restricted_to(
        self, transcript: Transcript, found: Sequence[PlacedWord], audio_range: TranscribedRange
    ) -> Transcript:
        """``transcript`` with these words only.

        Their times count from the window's start, and lie within it or by the hold-back before it; but words that another
        window held back keep their times.
        """
        return keep_words(
            transcript,
            found,
            audio_range,
            max(audio_range.start_s - self._hold_back_s, min(self.before.until_s, audio_range.start_s)),
        )


def keep_words(
    transcript: Transcript, found: Sequence[PlacedWord], audio_range: TranscribedRange, first_s: float
) -> Transcript:
    """``transcript`` with these words only, moved out of pauses, between ``first_s`` and the window's end.

    Words that another window held back keep their times.
    """
    words: list[Word] = []
    groups = [list(group) for _, group in groupby(found, lambda word: word.of)]
    own_s = [(parts[0].start_s, parts[-1].end_s) for parts in groups if parts[0].of >= 0]
    published_s = iter(audio_range.pauses.place(own_s, first_s))
    least_s = first_s
    for parts in groups:
        start_s, end_s = parts[0].start_s, parts[-1].end_s
        if parts[0].of >= 0:
            start_s, end_s = next(published_s)
            start_s = max(start_s, least_s)
            end_s = least_s = max(end_s, start_s)
        start_s, end_s = (min(time_s, audio_range.end_s) - audio_range.start_s for time_s in (start_s, end_s))
        words.append(Word("".join(part.word for part in parts).strip(), start_s, end_s, parts[0].confidence))
    timed = transcript.words is not None and (bool(transcript.words) or not transcript.text)
    text = "".join(word.word for word in found).strip()
    return transcript.with_words(text, tuple(words) if timed else transcript.words)


def first_index_from(time_s: float, words: Sequence[PlacedWord]) -> int:
    """Index of the first word whose middle is at or after a time."""
    return next((i for i, word in enumerate(words) if word.middle_s >= time_s), len(words))


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
    """In [0, 1]: how much of two words their common beginning or end is."""
    shared = max(_common(one, other), _common(one[::-1], other[::-1]))
    return 2 * shared / (len(one) + len(other))


def _common(one: str, other: str) -> int:
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _late(by_s: float) -> float:
    return min(MOST_LATE_COST, LATE_COST * max(0.0, by_s - LATE_S))


@lru_cache(1024)
def normalised(word: str) -> str:
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", word))).casefold() or word


def placed_words(transcript: Transcript, audio_range: TranscribedRange) -> list[PlacedWord]:
    """The words of a transcript, or its characters in languages without spaces, in seconds of the session."""
    begin_s = audio_range.start_s - audio_range.lead_s
    words: Sequence[Word] = transcript.words or ()
    if not words:
        words = _spread(transcript, audio_range.end_s + audio_range.tail_s - begin_s)
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
    """What precedes each word in ``text``: a space or nothing; ``default`` where the word is not found."""
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
    """Each with the punctuation that follows it: two passes group the same characters differently."""
    groups: list[str] = []
    for char in word.word:
        if groups and not char.isalnum():
            groups[-1] += char
        else:
            groups.append(char)
    step_s = (word.end_s - word.start_s) / max(1, len(groups))
    return [(group, word.start_s + n * step_s, word.start_s + (n + 1) * step_s) for n, group in enumerate(groups)]


def _spread(transcript: Transcript, duration_s: float) -> list[Word]:
    """Words of a text without times, spread evenly over ``duration_s``."""
    texts = list(transcript.text) if transcript.language in WITHOUT_SPACES else transcript.text.split()
    total, done = sum(map(len, texts)), 0
    words: list[Word] = []
    for text in texts:
        start_s, done = duration_s * done / total, done + len(text)
        words.append(Word(text, start_s, duration_s * done / total, 1.0))
    return words
