"""Word error rates of recordings that were played, and where their errors lie.

In: recordings, what came of them, or the text that another way to transcribe them gave. Out: figures, each with its 95 % interval
over recordings. Pure.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

import numpy as np
from numpy.typing import NDArray

from bench.lib.playing import Played
from bench.lib.recordings import Recording
from bench.lib.report import Results, interval
from bench.lib.words.alignment import UNKNOWN_S, Spoken, align, spread_over, tally
from bench.lib.words.cut_errors import WORD_KINDS as AT_CUTS, Heard, false_ends, word_errors_at_cuts
from bench.lib.words.normal import Split, timed, word_errors
from transcriber.schema.messages import Final, Partial
from transcriber.testing.wer import words

KINDS = ("changed", "lost", "invented", "doubled")
NONE_SEEN = 3.69
"""Of what is expected so often, one does not see any in 2.5 % of all cases."""


@dataclass(frozen=True, slots=True)
class Errors:
    """By recording, in the same order for whatever is compared.

    Attributes:
        said: (recordings,) words.
        wrong: (recordings,) words to change, insert or leave out.
    """

    said: NDArray[np.int64]
    wrong: NDArray[np.int64]

    def figures(self, reference: "Errors | None" = None) -> Results:
        """In percent of the words; ``minus_reference`` in points."""
        out: Results = {
            "words": int(self.said.sum()),
            "wer_percent": percent(self.wrong.sum(), self.said.sum()),
            "interval_95": interval(self.wrong, self.said),
        }
        if reference is not None:
            out["minus_reference_points"] = percent((self.wrong - reference.wrong).sum(), self.said.sum())
            out["minus_reference_interval_95"] = interval(self.wrong - reference.wrong, self.said)
        return out


def said_in(recording: Recording, split: Split = words) -> list[Spoken]:
    """What is said; without times where they are not known."""
    if recording.words is None:
        return [Spoken(word) for word in split(recording.text)]
    return timed(split, [Spoken(word.text, word.start_s, word.end_s) for word in recording.words])


def spoken_in(message: Final | Partial) -> list[Spoken]:
    """The transcribed words; a text whose words have no times is spread over its window."""
    return timed(words, raw_words(message))


def raw_words(message: Final | Partial) -> list[Spoken]:
    """As written, with punctuation."""
    if message.words is None:
        return spread_over(message.text.split(), message.start, message.start + message.duration)
    return [Spoken(word.word.strip(), word.start, word.end) for word in message.words]


def heard_in(played: Played, split: Split = words) -> Heard:
    """The transcribed words, and which are the first of a window; a number over a cut is of the window where it begins."""
    windows = [raw_words(final) for _, final in played.finals]
    raw = [word for window in windows for word in window]
    window_of = [number for number, window in enumerate(windows) for _ in window]
    # Numbers of raw words instead of times tell both the times and the window.
    placed = timed(split, [Spoken(word.word, number, number + 1) for number, word in enumerate(raw)])
    heard = [Spoken(one.word, _time_s(raw, one.start_s), _time_s(raw, one.end_s, end=True)) for one in placed]
    of = [window_of[min(int(one.start_s), len(raw) - 1)] for one in placed]
    return Heard(heard, [number for number, (a, b) in enumerate(pairwise(of), 1) if a != b])


def text_errors(recordings: Sequence[Recording], texts: Sequence[str], split: Split = words) -> Errors:
    """Of one text a recording."""
    return Errors(
        np.array([len(split(one.text)) for one in recordings]),
        np.array([word_errors(split, one.text, text) for one, text in zip(recordings, texts, strict=True)]),
    )


def score(played: Sequence[Played], reference: Errors | None, split: Split = words) -> Results:
    """Errors of all; where the words have times, also how many lie at the cuts and how true the times heard are."""
    said, wrong, counts, cuts = [], [], Counter[str](), 0
    start_errors_s: list[float] = []
    end_errors_s: list[float] = []
    found_in: list[Counter[str]] = []
    for one in played:
        true, heard = said_in(one.recording, split), heard_in(one, split)
        pairs = align(true, heard.words)
        said.append(len(true))
        found = tally(pairs, true, heard.words, one.cuts_s)
        counts += found
        wrong.append(sum(found[kind] for kind in KINDS))
        cuts += len(one.cuts_s)
        found_in.append(found | word_errors_at_cuts(true, heard, pairs, one.cuts_s))
        same = [
            (true[i], heard.words[j])
            for i, j in pairs
            if i is not None and j is not None and true[i].word == heard.words[j].word
        ]
        start_errors_s += [abs(a.start_s - b.start_s) for a, b in same]
        end_errors_s += [abs(a.end_s - b.end_s) for a, b in same]
    out = Errors(np.array(said), np.array(wrong)).figures(reference)
    out |= {kind: counts[kind] for kind in KINDS} | {"cuts": cuts}
    rates = {kind: per_thousand([one[kind] for one in found_in], said) for kind in (*KINDS, *AT_CUTS)}
    ends = [Counter(false_ends(sentences_of(one.recording), [final.text for _, final in one.finals])) for one in played]
    out["per_1000_words"], out["false_ends"] = rates, false_end_figures(ends)
    if all(one.recording.words is not None for one in played):
        out["at_cuts"] = _part(counts, "_at_cuts")
        elsewhere = Counter({kind: counts[kind] - counts[f"{kind}_at_cuts"] for kind in ("words", *KINDS)})
        out["elsewhere"] = _part(elsewhere, "")
        out["median_start_error_s"], out["median_end_error_s"] = _median(start_errors_s), _median(end_errors_s)
    return out


def per_thousand(counts: Sequence[int], said: Sequence[int]) -> Results:
    """So many in all, and in a thousand words; where there is none, up to how many are compatible with that (Poisson)."""
    words_said = max(1, sum(said))
    low, high = (round(10 * points, 2) for points in interval(np.array(counts), np.maximum(1, said)))
    if not any(counts):
        high = round(1000 * NONE_SEEN / words_said, 2)
    return {"count": sum(counts), "rate": round(1000 * sum(counts) / words_said, 2), "interval_95": [low, high]}


def false_end_figures(ends: Sequence[Counter[str]]) -> Results:
    """In percent of the cuts that fall into a sentence."""
    cuts = np.array([one["cuts_in_sentences"] for one in ends])
    wrong = np.array([one["false_ends"] for one in ends])
    inside = cuts > 0
    return {
        "cuts_in_sentences": int(cuts.sum()),
        "false_ends": int(wrong.sum()),
        "false_sentences": sum(one["false_sentences"] for one in ends),
        "percent": percent(wrong.sum(), cuts.sum()),
        "interval_95": interval(wrong[inside], cuts[inside]) if inside.any() else None,
    }


def sentences_of(recording: Recording) -> list[str]:
    """As they are known, or as the text has them."""
    if recording.sentences:
        return [sentence.text for sentence in recording.sentences]
    return re.split(r"(?<=[.?!])\s+", recording.text.strip())


def percent(part: float, whole: float) -> float | None:
    return round(100 * float(part) / float(whole), 2) if whole else None


def _time_s(raw: Sequence[Spoken], place: float, *, end: bool = False) -> float:
    """Of a place among raw words: 2.5 is the middle of the third one, 2 its start, or the end of the second one."""
    if not raw:
        return UNKNOWN_S
    number = min(max(0, math.ceil(place) - 1 if end else int(place)), len(raw) - 1)
    word = raw[number]
    return word.start_s + (word.end_s - word.start_s) * (place - number)


def _part(counts: Counter[str], suffix: str) -> Results:
    found = {kind: counts[f"{kind}{suffix}"] for kind in ("words", *KINDS)}
    return found | {"wer_percent": percent(sum(found[kind] for kind in KINDS), found["words"])}


def _median(values: Iterable[float]) -> float | None:
    known = [value for value in values if not math.isnan(value)]
    return round(median(known), 3) if known else None
