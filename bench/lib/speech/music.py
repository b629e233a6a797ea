"""Music, made here: chords, a bass, a melody and drums, in another key and tempo each time.

In: a random generator and a number of samples. Out: (n,) float32 at 16 kHz of RMS 1. Nobody sings, so any word heard in it is
invented; it stands for what plays behind speech in shops, cars and programmes, not for songs.
"""

import numpy as np
from numpy.typing import NDArray

from transcriber.engine.job import WHISPER_SAMPLE_RATE

Sound = NDArray[np.float64]

PROGRESSIONS = ((0, 5, 3, 4), (0, 3, 4, 0), (5, 3, 0, 4), (0, 4, 5, 3), (1, 4, 0, 5))
"""Degrees of the scale on which a bar's chord stands."""

MAJOR, MINOR = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)
BEATS = 4
"""In a bar."""


def music(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    """From a bar's start."""
    beat = int(WHISPER_SAMPLE_RATE * 60 / rng.uniform(72, 140))
    scale, tonic_hz = (MAJOR, MINOR)[int(rng.integers(2))], 110.0 * 2 ** (rng.integers(12) / 12)
    bars = -(-n // (BEATS * beat))
    progression = PROGRESSIONS[int(rng.integers(len(PROGRESSIONS)))]
    out = np.zeros(bars * BEATS * beat)
    degree = 7
    for bar in range(bars):
        root = progression[bar % len(progression)]
        for third in (0, 2, 4):
            _add(out, bar * BEATS * beat, _note(_hz(tonic_hz, scale, root + third + 7), BEATS * beat, 1.5, 4), 0.25)
        for half_beat in range(2 * BEATS):
            at = (bar * 2 * BEATS + half_beat) * beat // 2
            if half_beat % 2 == 0:
                _add(out, at, _note(_hz(tonic_hz, scale, root) / 2, beat, 4.0, 3), 0.5)
            if rng.random() < 0.6:
                # A melody goes in small steps, about two octaves above the bass.
                degree = int(np.clip(degree + rng.integers(-2, 3), 5, 18))
                _add(
                    out, at, _note(_hz(tonic_hz, scale, degree + 7), beat * int(rng.integers(1, 3)) // 2, 3.0, 6), 0.35
                )
            _add(out, at, _drum(rng, half_beat), 0.5)
    found = out[:n]
    level = np.sqrt(np.mean(found**2)) + 1e-20
    unit: NDArray[np.float32] = (found / level).astype(np.float32)
    return unit


def _hz(tonic_hz: float, scale: tuple[int, ...], degree: int) -> float:
    octave, step = divmod(degree, len(scale))
    return float(tonic_hz * 2 ** (octave + scale[step] / 12))


def _note(hz: float, n: int, decay_per_s: float, partials: int) -> Sound:
    """A struck string: overtones die away the faster the higher they are."""
    times_s = np.arange(n) / WHISPER_SAMPLE_RATE
    heard = [k for k in range(1, partials + 1) if k * hz < WHISPER_SAMPLE_RATE / 2]
    waves = [np.sin(2 * np.pi * k * hz * times_s) * np.exp(-decay_per_s * k**0.5 * times_s) / k for k in heard]
    attack = np.minimum(1.0, times_s / 0.008)
    return np.sum(waves, axis=0) * attack if waves else np.zeros(n)


def _drum(rng: np.random.Generator, half_beat: int) -> Sound:
    """A kick on one and three, a snare on two and four, and a hat on every half beat."""
    times_s = np.arange(int(0.15 * WHISPER_SAMPLE_RATE)) / WHISPER_SAMPLE_RATE
    noise = rng.standard_normal(len(times_s))
    hat: Sound = 0.25 * np.diff(noise, prepend=0.0) * np.exp(-60 * times_s)
    if half_beat % 4 == 0:
        hat += 1.5 * np.sin(2 * np.pi * (45 * times_s + 3 * (1 - np.exp(-30 * times_s)))) * np.exp(-18 * times_s)
    if half_beat % 4 == 2:
        hat += 0.8 * noise * np.exp(-25 * times_s)
    return hat


def _add(out: Sound, at: int, sound: Sound, gain: float) -> None:
    """What goes beyond the end is cut off."""
    room = out[at : at + len(sound)]
    room += gain * sound[: len(room)]
