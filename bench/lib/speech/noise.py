"""Sounds without speech, and speech in them.

In: a random generator and a number of samples. Out: (n,) float32 at 16 kHz of RMS 1, to be given any level; and speech mixed
with such a sound. Babble needs the synthesisers (Debian's espeak-ng and flite): it is other voices than the held-out ones.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from bench.demo_model.corpus import Espeak, Flite, Grammar, Utterance, written
from bench.lib.speech.music import music
from bench.lib.speech.people import applause, breath, dialled, laughter, unit
from transcriber.engine.job import WHISPER_SAMPLE_RATE

Samples = NDArray[np.float32]
Noise = Callable[[np.random.Generator, int], Samples]

BABBLE_VOICES = 8
POOL_VOICES, POOL_S = 24, 12.0
"""Voices that babble draws from, and seconds of each."""

ESPEAK_VARIANTS = ("m1", "m2", "m3", "m4", "m5", "m7", "f1", "f2", "f4", "f5")
LEVEL_FRAME = 320
ACTIVE_DB = 30.0
"""Frames of 20 ms this close to the loudest one count as speech when its level is taken."""


def white(rng: np.random.Generator, n: int) -> Samples:
    """The same power at all frequencies."""
    return unit(rng.standard_normal(n))


def pink(rng: np.random.Generator, n: int) -> Samples:
    """Power falls by 3 dB an octave, from 20 Hz."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    spectrum /= np.sqrt(np.maximum(np.fft.rfftfreq(n, 1 / WHISPER_SAMPLE_RATE), 20.0))
    spectrum[0] = 0
    return unit(np.fft.irfft(spectrum, n))


def hum(rng: np.random.Generator, n: int) -> Samples:
    """Mains at 50 or 60 Hz with up to nine overtones."""
    base_hz = float(rng.choice([50.0, 60.0]))
    return _sines(rng, n, [base_hz * number for number in range(1, int(rng.integers(3, 11)))])


def tones(rng: np.random.Generator, n: int) -> Samples:
    """One to three steady tones of 80 to 4000 Hz."""
    return _sines(rng, n, list(np.exp(rng.uniform(np.log(80), np.log(4000), int(rng.integers(1, 4))))))


def beeps(rng: np.random.Generator, n: int) -> Samples:
    """A tone of 200 to 2000 Hz, on for 0.1 to 0.5 s and off for as long."""
    half_s = rng.uniform(0.1, 0.5)
    times_s = np.arange(n) / WHISPER_SAMPLE_RATE
    return unit(_sines(rng, n, [float(rng.uniform(200, 2000))]) * (times_s % (2 * half_s) < half_s))


def clicks(rng: np.random.Generator, n: int) -> Samples:
    """Some three bursts a second of up to 50 ms that die away; each may be much louder than RMS 1."""
    audio = np.zeros(n)
    for _ in range(max(1, rng.poisson(3 * n / WHISPER_SAMPLE_RATE))):
        size = min(int(rng.integers(5, 800)), n)
        at = int(rng.integers(n - size + 1))
        audio[at : at + size] += rng.standard_normal(size) * np.exp(-np.linspace(0, 5, size))
    return unit(audio)


def babble(rng: np.random.Generator, n: int, voices: int = BABBLE_VOICES) -> Samples:
    """``voices`` people who speak at once, equally loud.

    Raises:
        OSError: a synthesiser is not installed.
    """
    pool = _voices()
    said = rng.choice(len(pool), voices, replace=False)
    turned = [np.resize(np.roll(pool[voice], -int(rng.integers(len(pool[voice])))), n) for voice in said]
    return unit(np.sum(turned, axis=0))


def mixed(speech: Samples, noise: Samples, snr_db: float) -> Samples:
    """``speech`` in ``noise`` of as many samples and RMS 1; its level is that of its words, not of its pauses."""
    return speech + noise * np.float32(speech_rms(speech) * 10 ** (-snr_db / 20))


def speech_rms(speech: Samples) -> float:
    """RMS of the parts of ``speech`` (n,) that are not pauses; 0 of silence."""
    frames = speech[: len(speech) // LEVEL_FRAME * LEVEL_FRAME].reshape(-1, LEVEL_FRAME)
    power = np.mean(frames.astype(np.float64) ** 2, axis=1)
    if not power.any():
        return 0.0
    return float(np.sqrt(power[power >= power.max() * 10 ** (-ACTIVE_DB / 10)].mean()))


def at_level(sound: Samples, level_db: float) -> Samples:
    """A sound of RMS 1 at ``level_db`` dBFS, clipped and in 16 bits as a sound card would have it."""
    clipped = np.clip(sound * np.float32(10 ** (level_db / 20)), -1, 1 - 1 / 32768)
    out: Samples = (np.round(clipped * 32768) / 32768).astype(np.float32)
    return out


@cache
def _voices() -> list[Samples]:
    """Voices that the held-out ones are not, each at RMS 1."""
    rng = np.random.default_rng(11)
    grammar, espeak, flite = Grammar(rng), Espeak(), Flite()

    def say(number: int) -> Utterance | None:
        words = written(grammar.sentence())
        if number < len(Flite.VOICES):
            return flite.speak(list(Flite.VOICES)[number], words, 1.0)
        accent = Espeak.ACCENTS[number % len(Espeak.ACCENTS)]
        variant = ESPEAK_VARIANTS[number % len(ESPEAK_VARIANTS)]
        return espeak.speak(f"{accent}+{variant}", words, 130 + 2 * number, 30 + 2 * number, 50)

    pool = []
    for number in range(POOL_VOICES):
        pieces: list[Samples] = []
        while sum(map(len, pieces)) < POOL_S * WHISPER_SAMPLE_RATE:
            said = say(number)
            if said is not None:
                pieces.append(said.audio.astype(np.float32))
        pool.append(unit(np.concatenate(pieces)))
    return pool


def _sines(rng: np.random.Generator, n: int, frequencies_hz: list[float]) -> Samples:
    angles = 2 * np.pi * np.outer(frequencies_hz, np.arange(n) / WHISPER_SAMPLE_RATE)
    waves = np.sin(angles + rng.uniform(0, 2 * np.pi, (len(frequencies_hz), 1)))
    return unit(rng.uniform(0.2, 1.0, len(frequencies_hz)) @ waves)


KINDS: dict[str, Noise] = {
    "white": white, "pink": pink, "hum": hum, "tones": tones, "beeps": beeps, "clicks": clicks,
}  # fmt: skip
"""Those that need no synthesiser, by name."""

WITHOUT_SPEECH: dict[str, Noise] = {
    "music": music, "applause": applause, "laughter": laughter, "breath": breath, "dialled": dialled,
}  # fmt: skip
"""More of them, which others make."""

ALL_KINDS = KINDS | WITHOUT_SPEECH | {"babble": babble}
