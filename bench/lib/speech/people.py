"""Sounds of people who say nothing, and of telephones: applause, laughter, breath, dialled digits.

In: a random generator and a number of samples. Out: (n,) float32 at 16 kHz of RMS 1. All of it is made here, since no package
carries recordings of them: they are like the real ones in spectrum and rhythm, and miss what makes some of these sound like
speech, such as coughs, shouts from a crowd, or a laugh that ends in a word.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from transcriber.engine.job import WHISPER_SAMPLE_RATE

Sound = NDArray[np.float64]

CLAPPERS = (5, 40)
CLAPS_PER_S = (2.5, 5.0)
LOW_HZ, HIGH_HZ = (697, 770, 852, 941), (1209, 1336, 1477, 1633)
"""A digit on a telephone is one of each."""


def applause(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    """Some tens of people, each at an own pace, loudness and pitch of the hands."""
    out = np.zeros(n)
    for _ in range(int(rng.integers(*CLAPPERS))):
        every = WHISPER_SAMPLE_RATE / rng.uniform(*CLAPS_PER_S)
        clap = _band(rng.standard_normal(480) * np.exp(-np.linspace(0, 6, 480)), rng.uniform(700, 1500), 1.2)
        gain, at = rng.uniform(0.2, 1.0), rng.uniform(0, every)
        while at < n:
            _add(out, int(at), gain * rng.uniform(0.7, 1.3) * clap)
            at += every * rng.uniform(0.85, 1.15)
    return unit(out)


def laughter(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    """Somebody laughs for a second or two, in bursts of a voice with an open vowel, and rests as long."""
    out = np.zeros(n)
    at = 0
    while at < n:
        pitch_hz, every_s = rng.uniform(140, 350), rng.uniform(0.17, 0.25)
        for number in range(int(rng.integers(4, 10))):
            size = int(every_s * rng.uniform(0.45, 0.6) * WHISPER_SAMPLE_RATE)
            voice = np.cumsum(np.full(size, pitch_hz * 0.97**number / WHISPER_SAMPLE_RATE)) % 1.0 - 0.5
            voice = _band(voice, 750, 0.4) + 0.6 * _band(voice, 1200, 0.3) + 0.2 * rng.standard_normal(size)
            _add(out, at, voice * np.hanning(size) * 0.93**number)
            at += int(every_s * WHISPER_SAMPLE_RATE)
        at += int(rng.uniform(0.5, 2.0) * WHISPER_SAMPLE_RATE)
    return unit(out)


def breath(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    """In and out, three to five seconds a time, close to a microphone."""
    out = np.zeros(n)
    at = 0
    while at < n:
        size = int(rng.uniform(3.0, 5.0) * WHISPER_SAMPLE_RATE)
        for start, share, centre_hz, gain in ((0.0, 0.35, 1600, 1.0), (0.45, 0.4, 900, 0.7)):
            length = int(share * size)
            swell = np.sin(np.pi * np.linspace(0, 1, length)) ** 1.5
            noise = _band(rng.standard_normal(length), centre_hz * rng.uniform(0.8, 1.2), 1.0)
            _add(out, at + int(start * size), gain * swell * noise)
        at += size
    return unit(out)


def dialled(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    """Digits in two tones each (DTMF), 70 to 150 ms with as long pauses, some ten and then a rest."""
    out = np.zeros(n)
    at = 0
    while at < n:
        for _ in range(int(rng.integers(6, 13))):
            size = int(rng.uniform(0.07, 0.15) * WHISPER_SAMPLE_RATE)
            times_s = np.arange(size) / WHISPER_SAMPLE_RATE
            pair = (float(rng.choice(LOW_HZ)), float(rng.choice(HIGH_HZ)))
            _add(out, at, np.sum([np.sin(2 * np.pi * hz * times_s) for hz in pair], axis=0))
            at += 2 * size
        at += int(rng.uniform(0.5, 2.0) * WHISPER_SAMPLE_RATE)
    return unit(out)


def _band(sound: Sound, centre_hz: float, octaves: float) -> Sound:
    """What is about ``octaves`` around a frequency, at RMS 1."""
    spectrum = np.fft.rfft(sound)
    away = np.log2(np.maximum(np.fft.rfftfreq(len(sound), 1 / WHISPER_SAMPLE_RATE), 20.0) / centre_hz)
    found: Sound = np.fft.irfft(spectrum * np.exp(-((away / octaves) ** 2)), len(sound))
    found /= np.sqrt(np.mean(found**2)) + 1e-20
    return found


def _add(out: Sound, at: int, sound: Sound) -> None:
    """What goes beyond the end is cut off."""
    room = out[at : at + len(sound)]
    room += sound[: len(room)]


def unit(sound: NDArray[Any]) -> NDArray[np.float32]:
    """At RMS 1; silence stays silent."""
    out = sound.astype(np.float64)
    out /= np.sqrt(np.mean(out**2)) + 1e-20
    return out.astype(np.float32)
