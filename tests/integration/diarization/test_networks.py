import hashlib
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from bench.voice_models import NOTICES
from transcriber.diarization.live_labeller import ALIKE
from transcriber.diarization.networks import SIZE, VoiceNetworks
from transcriber.diarization.pieces import FIRST, LOCALS, STEP
from transcriber.testing.speech import load_public_speech

ROOT = Path(__file__).parents[3]
FOLDER = files("transcriber.diarization")
RATE = 16_000
MAX_BYTES = 12_000_000
"""Of all networks of this folder together, so that the package stays small."""


@pytest.fixture(scope="module")
def networks():
    return VoiceNetworks()


@pytest.fixture(scope="module")
def speech():
    """Of each of the two real speakers pieces of 3 s, one behind the other, (n,) float32."""
    pieces: dict[str, list[np.ndarray]] = {}
    for recording in load_public_speech():
        samples = np.frombuffer(recording.pcm, "<i2").astype(np.float32) / 2**15
        pieces.setdefault(recording.name.split("_")[1], []).extend(
            samples[at : at + 3 * RATE] for at in range(RATE, len(samples) - 3 * RATE, 3 * RATE)
        )
    return pieces


def active(frames, first_s, last_s):
    """Of frames of activity those whose middle is between."""
    middles_s = (FIRST + STEP * np.arange(len(frames))) / RATE
    return frames[(middles_s >= first_s) & (middles_s < last_s)]


def test_a_voice_is_more_like_itself_than_like_another(networks, speech):
    heard = [(name, networks.voice(piece)) for name, pieces in speech.items() for piece in pieces[::2]]

    same = [one @ other for (a, one), (b, other) in combinations(heard, 2) if a == b]
    different = [one @ other for (a, one), (b, other) in combinations(heard, 2) if a != b]

    assert {name for name, _ in heard} == {"kennedy", "austen"}
    assert min(same) > ALIKE > max(different)


def test_a_voice_is_a_vector_of_length_1_whatever_its_loudness(networks, speech):
    piece = speech["kennedy"][0]

    quiet, loud = networks.voice(piece * np.float32(0.1)), networks.voice(piece)

    assert (loud.shape, loud.dtype) == ((SIZE,), np.float32)
    assert [np.linalg.norm(quiet), np.linalg.norm(loud)] == pytest.approx([1, 1], abs=1e-6)
    assert quiet @ loud > 0.95


def test_who_speaks_is_known_by_the_frame(networks, speech):
    silence = np.zeros(2 * RATE, np.float32)
    one, other = speech["kennedy"][0], speech["austen"][0]

    frames = networks.activity(np.concatenate([silence, one, other, silence]))

    assert (frames.dtype, frames.shape) == (bool, (1 + (10 * RATE - 991) // 270, LOCALS))
    assert frames.sum(axis=1).max() <= 2
    assert not active(frames, 0, 1.9).any()
    assert not active(frames, 8.3, 10).any()
    first, second = (active(frames, begin_s, begin_s + 2.6).mean(axis=0) for begin_s in (2.2, 5.2))
    assert min(max(first), max(second)) > 0.7  # they breathe
    assert first.argmax() != second.argmax()


@pytest.mark.parametrize("samples", [0, 1, 990, 991, 1599, 1600, 2 * RATE + 1])
def test_of_too_little_nothing_is_said(networks, samples):
    noise = np.random.default_rng(1).normal(0, 0.1, samples).astype(np.float32)

    voice, frames = networks.voice(noise), networks.activity(noise)

    assert np.linalg.norm(voice) == pytest.approx(1.0 if samples >= 1600 else 0.0, abs=1e-6)
    assert len(frames) == max(0, 1 + (samples - 991) // 270)


def test_digital_silence_is_nobody(networks):
    silence = np.zeros(RATE, np.float32)

    assert not networks.voice(silence).any()
    assert not networks.activity(silence).any()


def test_answers_are_the_same_in_several_threads_and_of_networks_that_are_loaded_again(networks, speech):
    pieces = [piece for own in speech.values() for piece in (own[0], own[1][:RATE])]
    alone = [(networks.voice(piece), networks.activity(piece)) for piece in pieces]

    with ThreadPoolExecutor(2) as threads:
        voices, frames = threads.map(networks.voice, pieces), threads.map(networks.activity, pieces)
        together = list(zip(voices, frames, strict=True))

    again = VoiceNetworks()
    for answers in (together, [(again.voice(piece), again.activity(piece)) for piece in pieces]):
        for (voice, activity), (right, who) in zip(answers, alone, strict=True):
            np.testing.assert_array_equal(voice, right)
            np.testing.assert_array_equal(activity, who)


@pytest.mark.parametrize("name", NOTICES)
def test_a_network_says_whose_it_is_and_what_was_changed(networks, name):
    content = (FOLDER / f"{name}.onnx").read_bytes()

    said = getattr(networks, f"_{name}").get_modelmeta().description

    assert said == NOTICES[name]
    (row,) = [
        line for line in (ROOT / "docs/models.md").read_text().splitlines() if line.startswith(f"| `{name}.onnx`")
    ]
    assert hashlib.sha256(content).hexdigest() in row
    assert f"{len(content) / 1e6:.1f} MB" in row
    licence = (FOLDER / f"{name}.LICENSE").read_text()
    assert licence.startswith(f"{name}.onnx is ")
    assert "It was changed: converted from torch to ONNX, and its weights stored in 8 bits." in licence


def test_the_networks_are_small():
    assert sum(len(file.read_bytes()) for file in FOLDER.iterdir() if file.name.endswith(".onnx")) < MAX_BYTES
