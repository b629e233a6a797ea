"""Against ggml itself: the library that whisper.cpp is linked to has the reference functions."""

import ctypes
import hashlib
from pathlib import Path

import _pywhispercpp as binding
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from transcriber.config import Settings
from transcriber.engine.warm_up import self_test_speech
from transcriber.engine.whisper.model import load_model
from transcriber.models.catalog import DEMO_MODEL
from transcriber.models.conversion.convert import convert
from transcriber.models.conversion.layout import published_bytes
from transcriber.models.conversion.mel_filters import mel_filters
from transcriber.models.conversion.quantize import KIND_Q5_1, KIND_Q8_0, q5_1, q8_0

ENCODERS = {"q8_0": (q8_0, 34), "q5_1": (q5_1, 24)}


@pytest.fixture(scope="module")
def ggml():
    assert binding
    mapped = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "libggml-base" in line}
    return ctypes.CDLL(mapped.pop())


def reference(ggml, kind, numbers):
    """The bytes that ggml makes of float32 numbers."""
    out = ctypes.create_string_buffer(len(numbers) // 32 * ENCODERS[kind][1])
    quantize = getattr(ggml, f"quantize_row_{kind}_ref")
    quantize(numbers.ctypes.data_as(ctypes.c_void_p), out, ctypes.c_int64(len(numbers)))
    return out.raw


@pytest.mark.parametrize("kind", ENCODERS)
@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([1e-6, 0.02, 1.0, 300.0]), half=st.booleans())
def test_blocks_are_ggmls_bit_for_bit(ggml, kind, seed, scale, half):
    numbers = (scale * np.random.default_rng(seed).standard_normal(32 * 200)).astype(np.float32)
    numbers = numbers.astype(np.float16).astype(np.float32) if half else numbers

    assert ENCODERS[kind][0](numbers) == reference(ggml, kind, numbers)


@pytest.mark.parametrize("kind", ENCODERS)
def test_blocks_of_zeros_of_one_number_and_of_halves_are_ggmls(ggml, kind):
    blocks = [
        np.zeros(32),
        np.full(32, 0.25),
        np.full(32, -3.0),
        np.eye(1, 32)[0],
        np.arange(32) / 2 - 8,
        -np.arange(32.0),
    ]
    blocks.append(np.array([127.0, *(0.5 + np.arange(31))]))  # halves, which C and NumPy round differently
    numbers = np.concatenate(blocks).astype(np.float32)

    assert ENCODERS[kind][0](numbers) == reference(ggml, kind, numbers)


@pytest.mark.parametrize("kind", [KIND_Q8_0, KIND_Q5_1], ids=lambda kind: kind.name)
def test_quantised_model_says_the_same(tmp_path, kind):
    path = tmp_path / f"ggml-demo-{kind.name}.bin"
    convert(DEMO_MODEL, path)
    as_set = Settings(whisper_threads=1)
    models = [load_model(which, as_set) for which in (DEMO_MODEL, path)]

    answers = [model.transcribe(self_test_speech(), "en", lambda: False) for model in models]

    for model in models:
        model.close()
    assert answers[0].text == answers[1].text
    assert answers[0].avg_logprob == pytest.approx(answers[1].avg_logprob, abs=0.05)


@pytest.mark.parametrize(
    ("bands", "sha256"),
    [
        (80, "4f2701b1d287d74a0dc9871026e9519d98cb76426615f2539b0d151a0ae4ec2e"),
        (128, "2a5f9822897750e047c85dea37cc268d3be0ecfd23c28a5f10da129d99d05afe"),
    ],
)
def test_mel_filters_are_those_that_openai_publishes(bands, sha256):
    # Sums of the arrays mel_80 and mel_128 of openai-whisper's mel_filters.npz.
    assert hashlib.sha256(mel_filters(bands).astype("<f4").tobytes()).hexdigest() == sha256


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("tiny", 77_691_713), ("tiny.en", 77_704_715), ("base.en", 147_964_211), ("small", 487_601_967),
        ("medium", 1_533_763_059), ("large-v3", 3_095_033_483), ("large-v3-turbo", 1_624_555_275),
        ("large-v3-turbo-q5_0", 574_041_195),
    ],
)  # fmt: skip
def test_sizes_are_those_of_the_published_files(name, size):
    assert published_bytes(name) == size
