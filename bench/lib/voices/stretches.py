"""What is said between two pauses.

In: (n,) float32 at 16 kHz, without noise. Out: where somebody speaks, by the level of frames of 10 ms; and pieces of it with their
words, which may be cut between two of these.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import soxr

from bench.lib.recordings import Samples, Word
from transcriber.engine.job import WHISPER_SAMPLE_RATE

FRAME = WHISPER_SAMPLE_RATE // 100
ACTIVE_DB, SURELY_DB, ABOVE_DB = 32.0, 18.0, 8.0
"""A frame is speech if it is no further than the first below the loudest 5 %, and by the last above the softest, which are the noise of the
recording; but no further than the second below the loudest it always is."""

BRIDGED_S = 0.3
"""A pause this short belongs to what is said, as annotators of dialogues have it."""

LEAST_S = 0.05
"""A shorter sound alone is a click."""

FADE = WHISPER_SAMPLE_RATE // 200
"""Samples over which what is cut fades, so that it does not click."""

Span = tuple[int, int]
"""First sample, and the one after the last."""


class Stretch(NamedTuple):
    """(n,) float32 at 16 kHz of one voice, without silence before and after it; words from its start, none where they are not known."""

    samples: Samples
    words: tuple[Word, ...] = ()

    @property
    def duration_s(self) -> float:
        return len(self.samples) / WHISPER_SAMPLE_RATE


def spoken(samples: Samples, bridged_s: float = BRIDGED_S) -> list[Span]:
    """Where somebody speaks; shorter pauses than ``bridged_s`` are part of it."""
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME).astype(np.float64)
    powers = np.convolve(np.mean(frames**2, axis=1), np.ones(3) / 3, "same")
    if not powers.any():
        return []
    levels_db = 10 * np.log10(powers + 1e-12)
    softest_db, loudest_db = np.quantile(levels_db, (0.03, 0.95))
    loud = levels_db > max(loudest_db - ACTIVE_DB, min(softest_db + ABOVE_DB, loudest_db - SURELY_DB))
    edges = np.flatnonzero(np.diff(np.concatenate([[0], loud.astype(np.int8), [0]]))) * FRAME
    spans: list[Span] = []
    for start, end in edges.reshape(-1, 2).tolist():
        if spans and start - spans[-1][1] < bridged_s * WHISPER_SAMPLE_RATE:
            spans[-1] = spans[-1][0], end
        else:
            spans.append((start, end))
    return [(start, end) for start, end in spans if end - start >= LEAST_S * WHISPER_SAMPLE_RATE]


def phrases(samples: Samples, pause_s: float, least_s: float) -> list[Stretch]:
    """``samples`` cut at pauses of at least ``pause_s``; after a phrase shorter than ``least_s`` only at longer ones."""
    spans: list[Span] = []
    for start, end in spoken(samples, pause_s):
        short = spans and spans[-1][1] - spans[-1][0] < least_s * WHISPER_SAMPLE_RATE
        if short and start - spans[-1][1] < BRIDGED_S * WHISPER_SAMPLE_RATE:
            spans[-1] = spans[-1][0], end
        else:
            spans.append((start, end))
    return [Stretch(faded(samples[start:end])) for start, end in spans]


def cut(stretch: Stretch, at_most_s: float) -> tuple[Stretch, Stretch | None]:
    """``stretch`` up to the last word that ends by then, and the rest of it; whole if it cannot be cut there."""
    words, limit = stretch.words, at_most_s
    if stretch.duration_s <= limit or len(words) < 2:
        return stretch, None
    number = max((index for index, word in enumerate(words) if word.end_s <= limit), default=0) + 1
    if number == len(words):
        return stretch, None
    at_s = (words[number - 1].end_s + words[number].start_s) / 2
    at = round(at_s * WHISPER_SAMPLE_RATE)
    return (
        Stretch(faded(stretch.samples[:at]), words[:number]),
        Stretch(faded(stretch.samples[at:]), tuple(moved(words[number:], -at / WHISPER_SAMPLE_RATE))),
    )


def joined(stretches: Sequence[Stretch], pauses_s: Iterable[float]) -> Stretch:
    """One after the other, with pauses between."""
    pieces, words = [stretches[0].samples], list(stretches[0].words)
    at = len(pieces[0])
    for stretch, pause_s in zip(stretches[1:], pauses_s, strict=False):
        pause = round(pause_s * WHISPER_SAMPLE_RATE)
        at += pause
        words += moved(stretch.words, at / WHISPER_SAMPLE_RATE)
        pieces += [np.zeros(pause, np.float32), stretch.samples]
        at += len(stretch.samples)
    return Stretch(np.concatenate(pieces), tuple(words))


def resampled(stretch: Stretch, factor: float) -> Stretch:
    """Spoken that much higher and faster: pitch and formants move, as if somebody else spoke."""
    samples = soxr.resample(stretch.samples, WHISPER_SAMPLE_RATE * factor, WHISPER_SAMPLE_RATE)
    words = (Word(word.text, word.start_s / factor, word.end_s / factor) for word in stretch.words)
    return Stretch(samples.astype(np.float32), tuple(words))


def moved(words: Iterable[Word], by_s: float) -> Iterator[Word]:
    return (Word(word.text, word.start_s + by_s, word.end_s + by_s) for word in words)


def faded(samples: Samples) -> Samples:
    """A copy that starts and ends softly."""
    out = samples.astype(np.float32)
    fade = min(FADE, len(out))
    ramp = np.linspace(0, 1, fade, dtype=np.float32)
    out[:fade] *= ramp
    out[len(out) - fade :] *= ramp[::-1]
    return out


def overlapped_s(spans: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """Seconds in which anybody speaks, and in which more than one does.

    >>> overlapped_s([(0, 2), (1, 3)])
    (3.0, 1.0)
    """
    edges = sorted(edge for start_s, end_s in spans for edge in ((start_s, 1), (end_s, -1)))
    speaking, any_s, many_s = 0, 0.0, 0.0
    for (at_s, step), (next_s, _) in pairwise(edges):
        speaking += step
        any_s += (next_s - at_s) * (speaking > 0)
        many_s += (next_s - at_s) * (speaking > 1)
    return any_s, many_s
