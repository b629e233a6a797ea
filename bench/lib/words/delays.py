"""How long after it was said a word is read, and how often what was read is taken back.

In: recordings that were played in real time, whose words have times. Out: seconds, and counts of words. Pure: what came is
only looked at. A delay runs from the publishing of the payload that holds the word's true end.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from bench.lib.playing import Played
from bench.lib.report import Results, quantiles
from bench.lib.words.alignment import Pair, Spoken, align
from bench.lib.words.scoring import percent, said_in, spoken_in
from transcriber.schema.messages import Final, Partial

PAUSE_S = 0.5
"""So long a pause ends an utterance."""

SURE_PAUSE_S = 0.8
"""In so long a pause the detector surely hears ``ENDPOINT_SILENCE_SECS`` without speech; in a shorter one the window may go on."""

EARLY_S = 0.5
"""Words that begin so much before a partial may be meant by it: its own times are rough."""


@dataclass(slots=True)
class Delays:
    """Of some recordings.

    Attributes:
        to_final_s: of each word that a final has, right or wrong.
        of_utterances_s: the same of the last words before a pause.
        of_surely_ended_s: the same of those before a pause of ``SURE_PAUSE_S``.
        to_partial_s: until a word was first shown in a partial, where one showed it.
        shown: words of which ``to_partial_s`` are known, among ``said``.
        counts: ``agreed`` words that two partials running had alike, and of these ``taken_back`` by a later one of the
            segment; ``guessed`` words of all partials, and of these ``changed`` by the final.
    """

    to_final_s: list[float] = field(default_factory=list)
    of_utterances_s: list[float] = field(default_factory=list)
    of_surely_ended_s: list[float] = field(default_factory=list)
    to_partial_s: list[float] = field(default_factory=list)
    said: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, played: Played) -> None:
        """One more recording."""
        said = said_in(played.recording)
        heard = [(at_s, word) for at_s, final in played.finals for word in spoken_in(final)]
        pairs = align(said, [word for _, word in heard])
        to_final_s = {
            i: heard[j][0] - played.published_at_s(said[i].end_s) for i, j in pairs if i is not None and j is not None
        }
        ends, surely = (utterance_ends(said, played.recording.duration_s, pause) for pause in (PAUSE_S, SURE_PAUSE_S))
        self.said += len(said)
        self.to_final_s += to_final_s.values()
        self.of_utterances_s += [to_final_s[i] for i in ends if i in to_final_s]
        self.of_surely_ended_s += [to_final_s[i] for i in surely if i in to_final_s]
        shown_s = first_shown_s(said, played.partials)
        self.to_partial_s += [at_s - played.published_at_s(said[i].end_s) for i, at_s in shown_s.items()]
        by_segment: defaultdict[int, list[list[Spoken]]] = defaultdict(list)
        for _, partial in sorted(played.partials, key=lambda came: came[1].rev):
            by_segment[partial.segment].append(spoken_in(partial))
        finals = {final.segment: final for _, final in played.finals}
        for segment, guesses in by_segment.items():
            self.counts += flicker([[word.word for word in guess] for guess in guesses])
            if segment in finals:
                self.counts += changed_by_final(guesses, finals[segment])


def delay_figures(played: list[Played]) -> Results:
    """In milliseconds, and percent of words."""
    delays = Delays()
    for one in played:
        delays.add(one)
    counts = delays.counts
    return {
        "words": delays.said,
        "word_to_final_ms": _spread_ms(delays.to_final_s),
        "utterances": len(delays.of_utterances_s),
        "utterance_to_final_ms": _spread_ms(delays.of_utterances_s),
        "surely_ended": len(delays.of_surely_ended_s),
        "surely_ended_to_final_ms": _spread_ms(delays.of_surely_ended_s),
        "word_to_partial_ms": _spread_ms(delays.to_partial_s),
        "in_partials_percent": percent(len(delays.to_partial_s), delays.said),
        "agreed_words": counts["agreed"],
        "agreed_words_taken_back": counts["taken_back"],
        "partial_words": counts["guessed"],
        "partial_words_changed_percent": percent(counts["changed"], counts["guessed"]),
    }


def _spread_ms(delays_s: list[float]) -> dict[str, float | None]:
    return quantiles([1000 * delay_s for delay_s in delays_s], p50=0.5, p95=0.95)


def utterance_ends(said: Sequence[Spoken], duration_s: float, pause_s: float = PAUSE_S) -> list[int]:
    """Numbers of the words that a pause of ``pause_s`` follows.

    >>> utterance_ends([Spoken("a", 0.0, 0.4), Spoken("b", 0.5, 0.9), Spoken("c", 1.5, 1.9)], 2.0)
    [1]
    """
    starts_s = [*(word.start_s for word in said), duration_s]
    return [i for i, word in enumerate(said) if starts_s[i + 1] - word.end_s >= pause_s]


def first_shown_s(said: Sequence[Spoken], partials: Iterable[tuple[float, Partial]]) -> dict[int, float]:
    """By number of the word said: when the first partial came that has it."""
    shown_s: dict[int, float] = {}
    for at_s, partial in partials:
        end_s = partial.start + partial.duration
        meant = [i for i, word in enumerate(said) if partial.start - EARLY_S <= word.start_s <= end_s]
        guess = spoken_in(partial)
        for i, j in align([said[i] for i in meant], guess):
            if i is not None and j is not None and said[meant[i]].word == guess[j].word:
                shown_s.setdefault(meant[i], at_s)
    return shown_s


def flicker(guesses: Sequence[Sequence[str]]) -> Counter[str]:
    """Of the partials of one segment in their order: how many words two running agree on from the start, and how many
    of these a later one has not in the same place.

    >>> dict(flicker([["gale"], ["gale", "warning"], ["gale", "warning", "four"], ["gale", "morning"]]))
    {'agreed': 2, 'taken_back': 1}
    """
    agreed: list[str] = []
    counts: Counter[str] = Counter()
    for before, after in pairwise(guesses):
        common = _common_start(before, after)
        kept = _common_start(agreed, after)
        counts["taken_back"] += len(agreed) - len(kept)
        counts["agreed"] += max(0, len(common) - len(kept))
        agreed = max(kept, common, key=len)
    return counts


def changed_by_final(guesses: Iterable[Sequence[Spoken]], final: Final) -> Counter[str]:
    """Words of a segment's partials that end within its final, and how many of them the final does not have."""
    heard, end_s = spoken_in(final), final.start + final.duration
    counts: Counter[str] = Counter()
    for guess in guesses:
        # A cut may leave the end of what a partial had to the next segment.
        inside = [word for word in guess if word.end_s <= end_s]
        pairs: list[Pair] = align(inside, heard)
        kept = sum(i is not None and j is not None and inside[i].word == heard[j].word for i, j in pairs)
        counts.update(guessed=len(inside), changed=len(inside) - kept)
    return counts


def _common_start(some: Sequence[str], others: Sequence[str]) -> list[str]:
    same = 0
    while same < min(len(some), len(others)) and some[same] == others[same]:
        same += 1
    return list(some[:same])
