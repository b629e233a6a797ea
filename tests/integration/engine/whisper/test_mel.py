import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from transcriber.config import Settings
from transcriber.engine.warm_up import self_test_speech
from transcriber.engine.whisper.library import library
from transcriber.engine.whisper.mel import HOP, N_FFT, LogMel, frames_with, frames_within
from transcriber.engine.whisper.model import load_model
from transcriber.models.catalog import DEMO_MODEL
from transcriber.models.ggml import check_model_file, read_mel_filters
from transcriber.testing.speech import SPEECH_FORMAT, load_speech

FILTERS = read_mel_filters(DEMO_MODEL, check_model_file(DEMO_MODEL))
MEL = LogMel(FILTERS)
SPEECH = self_test_speech()


def by_the_book(samples, frames):
    """OpenAI's definition, term by term, in double precision."""
    padded = np.concatenate([samples[N_FFT // 2 : 0 : -1], samples, np.zeros(frames * HOP + N_FFT)]).astype(np.float64)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)
    dft = np.exp(-2j * np.pi * np.outer(np.arange(N_FFT // 2 + 1), np.arange(N_FFT)) / N_FFT)
    power = np.abs(dft @ np.array([padded[at * HOP :][:N_FFT] * hann for at in range(frames)]).T) ** 2
    levels = np.log10(np.maximum(FILTERS.astype(np.float64) @ power, 1e-10))
    return (np.maximum(levels, levels.max() - 8) + 4) / 4


@settings(max_examples=50)
@given(
    length=st.integers(201, 9_000),
    frames=st.integers(1, 60),
    level=st.sampled_from([0.0, 1e-4, 0.03, 1.0]),
    seed=st.integers(0, 99),
)
def test_spectrogram_is_the_definition(length, frames, level, seed):
    samples = (level * np.random.default_rng(seed).uniform(-1, 1, length)).astype(np.float32)

    spectrogram = MEL(samples, frames)

    assert spectrogram.shape == (80, frames)
    assert spectrogram.dtype == np.float32
    assert spectrogram.flags.c_contiguous
    np.testing.assert_allclose(spectrogram, by_the_book(samples, frames), atol=2e-4)


def test_what_follows_the_audio_is_silence_and_no_zero():
    spectrogram = MEL(SPEECH, 1024)

    after = spectrogram[:, frames_with(len(SPEECH)) :]

    assert after.size
    assert np.all(after == spectrogram.min())
    assert spectrogram.min() == pytest.approx(spectrogram.max() - 2)


def test_a_filter_without_weights_is_silence():
    filters = FILTERS.copy()
    filters[3] = 0

    spectrogram = LogMel(filters)(SPEECH, 500)

    assert np.all(spectrogram[3] == spectrogram.min())
    np.testing.assert_array_equal(spectrogram[4:], MEL(SPEECH, 500)[4:])


@given(samples=st.integers(201, 480_000))
def test_frames_within_the_audio_are_whispers_own_count(samples):
    assert frames_within(samples) == 1 + (samples + 200 - 400) // 160
    assert frames_within(samples) <= frames_with(samples)


@pytest.mark.parametrize("wide", [False, True])
def test_text_is_that_of_whispers_own_spectrogram(wide):
    speech = np.concatenate([np.frombuffer(r.pcm, "<i2") for r in load_speech()]).astype(np.float32) / np.float32(2**15)
    at_16_khz = speech[:: SPEECH_FORMAT.rate // 16_000].copy()
    windows = [at_16_khz[at : at + 80_000].copy() for at in range(0, 5 * 80_000, 80_000)]
    model = load_model(DEMO_MODEL, Settings(whisper_threads=1))

    ours = [model.transcribe(window, "en", lambda: False, wide=wide) for window in windows]

    theirs = []
    model._params.duration_ms = 0
    for window in windows:
        state, params = model._state, model._params
        run = library().computing.whisper_full_with_state
        assert run(state._context, state._state, params, window.ctypes.data, len(window)) == 0
        tokens = list(model._tokens())
        theirs.append((b"".join(t.raw for t in tokens).decode().strip(), [t.logprob for t in tokens if not t.time_s]))
    model.close()
    assert [t.text for t in ours] == [text for text, _ in theirs]
    assert any(text for text, _ in theirs)
    for transcript, (_, logprobs) in zip(ours, theirs, strict=True):
        assert transcript.avg_logprob == pytest.approx(np.mean(logprobs), abs=5e-3)
