"""Word error rates of recordings that were played, and where their errors lie.

In: recordings, what came of them, or the text that another way to hear them gave. Out: figures, each with its 95 % interval
over recordings. Pure.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from bench.alignment import Spoken, align, spoken, tally
from bench.playing import Played
from bench.recordings import Recording
from bench.report import Results, interval
from transcriber.demo.wer import word_errors, words
from transcriber.messages import Final, Partial

KINDS = ("changed", "lost", "invented", "doubled")


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


def said_in(recording: Recording) -> list[Spoken]:
    """What is said; without times where they are not known."""
    if recording.words is None:
        return spoken(recording.text)
    return [one for word in recording.words for one in spoken(word.text, word.start_s, word.end_s)]


def spoken_in(message: Final | Partial) -> list[Spoken]:
    """What was heard; a text whose words have no times is spread over its window."""
    if message.words is None:
        return spoken(message.text, message.start, message.start + message.duration)
    return [one for word in message.words for one in spoken(word.word, word.start, word.end)]


def heard_in(played: Played) -> list[Spoken]:
    return [word for _, final in played.finals for word in spoken_in(final)]


def text_errors(recordings: Sequence[Recording], texts: Sequence[str]) -> Errors:
    """Of one text a recording."""
    return Errors(
        np.array([len(words(one.text)) for one in recordings]),
        np.array([word_errors(one.text, text) for one, text in zip(recordings, texts, strict=True)]),
    )


def score(played: Sequence[Played], reference: Errors | None) -> Results:
    """Errors of all; where the words have times, also how many lie at the cuts and how true the times heard are."""
    said, wrong, counts, cuts = [], [], Counter[str](), 0
    start_errors_s: list[float] = []
    end_errors_s: list[float] = []
    for one in played:
        true, heard = said_in(one.recording), heard_in(one)
        pairs = align(true, heard)
        said.append(len(true))
        found = tally(pairs, true, heard, one.cuts_s)
        counts += found
        wrong.append(sum(found[kind] for kind in KINDS))
        cuts += len(one.cuts_s)
        same = [
            (true[i], heard[j]) for i, j in pairs if i is not None and j is not None and true[i].word == heard[j].word
        ]
        start_errors_s += [abs(a.start_s - b.start_s) for a, b in same]
        end_errors_s += [abs(a.end_s - b.end_s) for a, b in same]
    out = Errors(np.array(said), np.array(wrong)).figures(reference)
    out |= {kind: counts[kind] for kind in KINDS} | {"cuts": cuts}
    if all(one.recording.words is not None for one in played):
        out["at_cuts"] = _part(counts, "_at_cuts")
        elsewhere = Counter({kind: counts[kind] - counts[f"{kind}_at_cuts"] for kind in ("words", *KINDS)})
        out["elsewhere"] = _part(elsewhere, "")
        out["median_start_error_s"], out["median_end_error_s"] = _median(start_errors_s), _median(end_errors_s)
    return out


def percent(part: float, whole: float) -> float | None:
    return round(100 * float(part) / float(whole), 2) if whole else None


def _part(counts: Counter[str], suffix: str) -> Results:
    found = {kind: counts[f"{kind}{suffix}"] for kind in ("words", *KINDS)}
    return found | {"wer_percent": percent(sum(found[kind] for kind in KINDS), found["words"])}


def _median(values: Iterable[float]) -> float | None:
    known = [value for value in values if not math.isnan(value)]
    return round(median(known), 3) if known else None
