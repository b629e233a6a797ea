"""Pauses in recordings: put in where somebody thinks and where a sentence ends, and found by the detector.

In: recordings with the times of their sentences, and for pauses within these of their words. Out: the same with other pauses;
and for each pause that is heard whether a sentence ends there. Pure.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.lib.recordings import Recording, Samples, Sentence, Word
from transcriber.audio.vad.detector import FRAME_SAMPLES
from transcriber.engine.job import WHISPER_SAMPLE_RATE

PAUSES_S = (0.3, 1.5)
"""Shortest and longest, within sentences and between them."""

THOUGHTFUL, LEAST_WORDS = 0.5, 6
"""Share of the sentences of so many words or more in which the speaker stops to think."""

AFTER_S = 3.0
"""Silence at the end of a recording: longer than any window is held open."""

FADE_SAMPLES = 80
"""5 ms: where a word is cut off there is no click."""

SLACK_S = 0.2
"""A sentence ends in a pause if it does so shortly before or after it."""

COMPLETE_MARKS = (".", "?", "!")


class Pause(NamedTuple):
    """The first frame of 32 ms without speech, the first one with speech again, and whether a sentence ends between them."""

    first: int
    last: int
    complete: bool


def with_pauses(recording: Recording, rng: np.random.Generator) -> Recording:
    """The sentences of a recording whose words have times, each with another pause before it, and some with one inside."""
    pieces: list[Samples] = []
    sentences: list[Sentence] = []
    at = 0
    for sentence in recording.sentences:
        moved: list[Word] = []
        for words, begin, end in _parts(sentence, rng):
            pause = int(rng.uniform(*PAUSES_S) * WHISPER_SAMPLE_RATE)
            pieces += [np.zeros(pause, np.float32), _faded(recording.samples[begin:end])]
            by_s = (at + pause - begin) / WHISPER_SAMPLE_RATE
            moved += [Word(word.text, word.start_s + by_s, word.end_s + by_s) for word in words]
            at += pause + end - begin
        sentences.append(Sentence(sentence.text, moved[0].start_s, moved[-1].end_s, tuple(moved)))
    whole = np.concatenate([*pieces, np.zeros(int(AFTER_S * WHISPER_SAMPLE_RATE), np.float32)])
    words_of_all = tuple(word for sentence in sentences for word in sentence.words or ())
    return replace(recording, samples=whole, sentences=tuple(sentences), words=words_of_all)


def with_silence_after(recording: Recording) -> Recording:
    """The same, and ``AFTER_S`` of silence."""
    silence = np.zeros(int(AFTER_S * WHISPER_SAMPLE_RATE), np.float32)
    return replace(recording, samples=np.concatenate((recording.samples, silence)))


def sentence_ends_s(recording: Recording) -> list[float]:
    """Where sentences truly end; a clause that is told apart, but goes on, does not."""
    return [
        sentence.words[-1].end_s if sentence.words else sentence.end_s
        for sentence in recording.sentences
        if sentence.text.rstrip("\"')").endswith(COMPLETE_MARKS)
    ]


def pauses(recording: Recording, speech: NDArray[np.float32], threshold: float, least: int) -> Iterator[Pause]:
    """Those after speech of at least ``least`` frames, by the probabilities (n,) float32 of the recording's frames.

    One of which the recording's sentences do not tell, since it is in none and at the end of none, is left out.
    """
    ends_s = sentence_ends_s(recording)
    spoken = np.flatnonzero(speech >= threshold)
    for before, after in zip(spoken, [*spoken[1:], len(speech)], strict=True):
        if after - before > least:
            first, last = int(before) + 1, int(after)
            begin_s, end_s = (frame * FRAME_SAMPLES / WHISPER_SAMPLE_RATE for frame in (first, last))
            complete = any(begin_s - SLACK_S <= at_s <= end_s + SLACK_S for at_s in ends_s)
            if complete or any(one.start_s <= begin_s <= one.end_s + SLACK_S for one in recording.sentences):
                yield Pause(first, last, complete)


def _parts(sentence: Sentence, rng: np.random.Generator) -> Iterator[tuple[tuple[Word, ...], int, int]]:
    """The words of a sentence between its pauses, and their samples in the recording."""
    words = sentence.words or ()
    places = [0, len(words)]
    if len(words) >= LEAST_WORDS and rng.random() < THOUGHTFUL:
        places.insert(1, int(rng.integers(2, len(words) - 1)))
    for first, last in pairwise(places):
        begin_s = sentence.start_s if first == 0 else words[first - 1].end_s
        end_s = sentence.end_s if last == len(words) else words[last - 1].end_s
        yield words[first:last], int(begin_s * WHISPER_SAMPLE_RATE), int(end_s * WHISPER_SAMPLE_RATE)


def _faded(samples: Samples) -> Samples:
    """Without a click at either end."""
    faded, ramp = samples.copy(), np.linspace(0, 1, FADE_SAMPLES, dtype=np.float32)
    faded[:FADE_SAMPLES] *= ramp[: len(faded)]
    faded[-FADE_SAMPLES:] *= ramp[::-1][-len(faded) :]
    return faded
