"""Word times kept out of pauses.

In: the phrases of one transcript, each with the model's time stamps, and the ranges in which the detector found speech. Out: a map
from the times that follow from the stamps to those at which the words are spoken.

Beside silence the stamps are often wrong: a phrase begins with the audio, spans a pause, or lies in silence. So the words of a phrase
share its speech, in proportion to their characters, instead of its time. A phrase with less speech than it takes to say it gets speech
beside it, or shares its neighbour's. Where all of a phrase is speech nothing moves.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from transcriber.audio.resampler import TARGET_SAMPLE_RATE
from transcriber.audio.vad.detector import FRAME_SAMPLES
from transcriber.engine.transcript import Phrase

FRAME_S = FRAME_SAMPLES / TARGET_SAMPLE_RATE

BREATH_S = 0.3
"""A shorter pause does not count: it may be the closure of a stop, or a soft consonant that the detector missed."""

EDGE_S = 0.06
"""The detector reports speech a little late, and misses where it fades: so much more is speech at either end."""

LEAST_S = 0.2
"""Shorter speech between pauses is a click or a breath, unless there is no other."""

FASTEST = 40.0
"""Letters a second, a little more than people say (see ``hallucination.MAX_LETTERS_PER_SECOND``)."""

Range = tuple[float, float]
"""From and to, in seconds."""


class _Group:
    """Adjacent phrases that share the same speech."""

    def __init__(self, phrases: list[Phrase], speech: list[Range]) -> None:
        self.phrases, self.speech = phrases, speech

    @property
    def start_s(self) -> float:
        return min(self.phrases[0].start_s, self.speech[0][0] if self.speech else math.inf)

    @property
    def end_s(self) -> float:
        return max(self.phrases[-1].end_s, self.speech[-1][1] if self.speech else -math.inf)

    @property
    def letters(self) -> float:
        return sum(phrase.letters for phrase in self.phrases)

    @property
    def lacks_speech(self) -> bool:
        """Whether its speech is too short to say it."""
        return _length(self.speech) < self.letters / FASTEST

    def place(self, start_s: float, end_s: float) -> Range:
        """Where in its speech a word lies, in proportion to letters."""
        begun_s, over_s = (self._spoken_s(at_s) for at_s in (start_s, end_s))
        best, most_s, past_s = (start_s, end_s), -math.inf, 0.0
        for begin, end in self.speech:
            here = [min(max(begin + spoken_s - past_s, begin), end) for spoken_s in (begun_s, over_s)]
            past_s += end - begin
            within_s = min(over_s, past_s) - max(begun_s, past_s - (end - begin))
            if within_s > most_s:
                best, most_s = (here[0], here[1]), within_s
        return best

    def _spoken_s(self, time_s: float) -> float:
        """Seconds of its speech before a time by the stamps."""
        said = 0.0
        for phrase in self.phrases:
            share = (time_s - phrase.start_s) / (phrase.end_s - phrase.start_s)
            said += phrase.letters * min(1.0, max(0.0, share))
        return _length(self.speech) * said / self.letters


class Pauses:
    """Pauses of one transcript. Immutable."""

    def __init__(self, phrases: Sequence[Phrase] = (), speech: Iterable[Range] = (), known: Range = (0.0, 0.0)) -> None:
        """``phrases`` and ``speech`` are in order, in seconds of the same clock. Everything after ``known`` counts as speech.

        Without phrases, or without speech, no time is changed.
        """
        self._phrases = tuple(phrases)
        self._known_s = known[0]
        self._speech = [*_utterances(speech, known), (known[1], math.inf)] if phrases else []

    def place(self, words: Sequence[Range], first_s: float = -math.inf) -> list[Range]:
        """Times of words that lie at ``words`` by the stamps, in order: each before a pause or after it, wherever more of it is.

        None is before ``first_s``. Words of the transcript before the first of these get none of their speech.
        """
        if not words or not self._speech[:-1]:  # no speech, as far as known
            return list(words)
        speech = _within(self._speech, max(first_s, self._known_s), math.inf)
        groups = _grouped([cut for phrase in self._phrases if (cut := _rest_of(phrase, words[0][0]))], speech)
        return [_place_word(groups, *word) for word in words]


def _rest_of(phrase: Phrase, time_s: float) -> Phrase | None:
    """The part of a phrase after a time, by its letters."""
    if phrase.end_s <= max(phrase.start_s, time_s):
        return None
    start_s = max(phrase.start_s, time_s)
    share = (phrase.end_s - start_s) / (phrase.end_s - phrase.start_s)
    return Phrase(start_s, phrase.end_s, phrase.letters * share)


def _place_word(groups: Sequence[_Group], start_s: float, end_s: float) -> Range:
    middle_s = (start_s + end_s) / 2
    for group in groups:
        if group.phrases[0].start_s <= middle_s <= group.phrases[-1].end_s:
            return group.place(start_s, end_s)
    return start_s, end_s


def spoken_ranges(speech: NDArray[np.float32], threshold: float, start_s: float) -> tuple[Range, ...]:
    """Ranges of speech: frames of 32 ms, (n,) float32 in [0, 1], the first at ``start_s``, that reach ``threshold``."""
    edges = np.flatnonzero(np.diff(speech >= threshold, prepend=False, append=False)) * FRAME_S + start_s
    return tuple((float(begin), float(end)) for begin, end in edges.reshape(-1, 2))


def _utterances(speech: Iterable[Range], known: Range) -> list[Range]:
    """Speech between pauses, within ``known``."""
    found: list[Range] = []
    for begin, end in speech:
        if found and begin - found[-1][1] < BREATH_S:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((begin, end))
    long = [(begin, end) for begin, end in found if end - begin >= LEAST_S]
    return [(max(begin - EDGE_S, known[0]), min(end + EDGE_S, known[1])) for begin, end in long or found]


def _grouped(phrases: Sequence[Phrase], speech: Sequence[Range]) -> list[_Group]:
    """Phrases with their speech; groups without any are left out."""
    groups = [_Group([phrase], _within(speech, phrase.start_s, phrase.end_s)) for phrase in phrases]
    for number, group in enumerate(groups):
        if group.lacks_speech:
            before_s = groups[number - 1].end_s if number else -math.inf
            after_s = groups[number + 1].start_s if number + 1 < len(groups) else math.inf
            _take_beside(group, _within(speech[:-1], before_s, after_s))
    while (
        len(groups) > 1
        and (lacking := next((n for n, group in enumerate(groups) if group.lacks_speech), None)) is not None
    ):
        first = lacking - 1 if lacking and _nearer_before(groups, lacking) else lacking
        first = min(first, len(groups) - 2)
        one, other = groups[first : first + 2]
        groups[first : first + 2] = [_Group(one.phrases + other.phrases, one.speech + other.speech)]
    return [group for group in groups if group.speech]


def _take_beside(group: _Group, free: Sequence[Range]) -> None:
    """Give ``group`` speech of ``free``, the nearest first, until it has enough."""
    start_s, end_s = group.phrases[0].start_s, group.phrases[-1].end_s
    for one in sorted(free, key=lambda one: max(one[0] - end_s, start_s - one[1], 0.0)):
        if not group.lacks_speech:
            return
        group.speech = _merged([*group.speech, one])


def _nearer_before(groups: Sequence[_Group], number: int) -> bool:
    """Whether the speech before a phrase is nearer than that after it."""
    if number + 1 == len(groups):
        return True
    phrases, before, after = groups[number].phrases, groups[number - 1].speech, groups[number + 1].speech
    since_s = phrases[0].start_s - before[-1][1] if before else math.inf
    until_s = after[0][0] - phrases[-1].end_s if after else math.inf
    return since_s < until_s


def _within(ranges: Iterable[Range], start_s: float, end_s: float) -> list[Range]:
    """The parts of ``ranges`` between two times, but no short remains of longer ones: stamps are imprecise."""
    found: list[Range] = []
    for begin, end in ranges:
        cut = max(begin, start_s), min(end, end_s)
        if cut[1] - cut[0] >= min(LEAST_S, end - begin, end_s - start_s) > 0:
            found.append(cut)
    return found


def _merged(ranges: Iterable[Range]) -> list[Range]:
    """The ranges in order, those that overlap or touch merged."""
    found: list[Range] = []
    for begin, end in sorted(ranges):
        if found and begin <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((begin, end))
    return found


def _length(ranges: Iterable[Range]) -> float:
    return sum(end - begin for begin, end in ranges)
