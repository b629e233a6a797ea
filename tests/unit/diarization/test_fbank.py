import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from transcriber.diarization.fbank import BANDS, FRAME, fbank


def by_the_book(samples):
    """Kaldi's definition, frame by frame and band by band, in double precision; from each band its mean taken away."""
    mel = lambda hz: 1127 * np.log(1 + hz / 700)  # noqa: E731
    width = (mel(8000) - mel(20)) / 81
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399)) ** 0.85
    dft = np.exp(-2j * np.pi * np.outer(np.arange(256), np.arange(400)) / 512)
    levels = []
    for start in range(0, len(samples) - 399, 160):
        frame = samples[start : start + 400].astype(np.float64)
        frame -= frame.mean()
        emphasised = frame - 0.97 * np.array([frame[0], *frame[:-1]])
        power = np.abs(dft @ (emphasised * window)) ** 2
        away = np.abs(mel(np.arange(256) * 16_000 / 512) - mel(20) - width * np.arange(1, 81)[:, np.newaxis]) / width
        levels.append(np.log(np.maximum(np.maximum(0, 1 - away) @ power, np.finfo(np.float32).eps)))
    return np.array(levels) - np.mean(levels, axis=0)


def sweep(duration_s):
    """A rising tone in noise, the same on every machine: (n,) float32."""
    number = np.arange(round(duration_s * 16_000))
    tone = np.sin(2 * np.pi * (200 * number / 16_000 + 1500 * (number / 16_000) ** 2))
    return (0.3 * tone + 0.2 * (number * number % 10_007 / 10_007 - 0.5)).astype(np.float32)


def test_bands_are_those_of_kaldi():
    bands = fbank(sweep(1))

    assert bands.shape == (98, 80)
    # As kaldi-native-fbank 1.23.0 has them, without dither, with snip_edges and 80 bins; the mean over the frames taken away.
    assert bands[np.ix_([0, 49, 97], [0, 1, 20, 40, 60, 79])] == pytest.approx(
        np.array(
            [
                [1.7350, 0.8374, 3.0762, -0.4366, -0.7742, -0.8597],
                [-1.8405, -1.5037, -1.7373, 1.2357, 0.7127, -0.2966],
                [0.3580, 0.2660, -0.0954, 0.3616, 0.4618, 0.4005],
            ]
        ),
        abs=1e-3,
    )


@settings(max_examples=15, deadline=None)
@given(length=st.integers(FRAME, 2500), level=st.sampled_from([0.0, 1e-4, 0.03, 1.0]), seed=st.integers(0, 99))
def test_bands_are_their_definition_for_any_length_and_loudness(length, level, seed):
    samples = (level * np.random.default_rng(seed).uniform(-1, 1, length)).astype(np.float32)

    bands = fbank(samples)

    assert bands.shape == (1 + (length - 400) // 160, BANDS)
    assert bands.dtype == np.float32
    np.testing.assert_allclose(bands, by_the_book(samples), atol=2e-3)
    assert bands.mean(axis=0) == pytest.approx(np.zeros(BANDS), abs=1e-4)


def test_loudness_does_not_count():
    quiet, loud = (fbank(sweep(0.5) * np.float32(gain)) for gain in (0.5, 5.0))

    np.testing.assert_allclose(quiet, loud, atol=2e-3)


def test_digital_silence_has_no_bands_that_stand_out():
    assert fbank(np.zeros(16_000, np.float32)) == pytest.approx(np.zeros((98, BANDS)), abs=1e-5)
