import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from bench.lib.recordings import BUNDLED, read_folder
from bench.lib.speech.noise import KINDS, at_level, mixed, pink
from transcriber.audio.vad import THRESHOLD
from transcriber.audio.vad.detector import (
    CONTEXT_SAMPLES,
    FIRST_FRAMES,
    FRAME_SAMPLES,
    HANG_OVER_FRAMES,
    MIN_SPEECH_FRAMES,
    PRE_ROLL_FRAMES,
    SpeechDetector,
    has_speech,
)
from transcriber.audio.vad.silero import Silero

RATE = 16_000
ROW_SAMPLES = CONTEXT_SAMPLES + FRAME_SAMPLES
WINDOW = 5 * RATE // FRAME_SAMPLES
SILERO = Silero()
RECORDINGS = read_folder(BUNDLED)
WORDS = [
    [(word["start"], word["end"]) for sentence in entry["sentences"] for word in sentence["words"]]
    for entry in json.loads((BUNDLED / "transcripts.json").read_bytes())
]


class WatchedNetwork:
    """The network; ``heard`` are the rows of each call, ``began`` says in which calls a state was new."""

    def __init__(self):
        self.heard, self.began, self._new = [], [], False

    def new_state(self):
        self._new = True
        return SILERO.new_state()

    def __call__(self, rows, state):
        self.heard.append(rows.copy())
        self.began.append(self._new)
        self._new = False
        return SILERO(rows, state)

    @property
    def frames(self):
        return sum(len(rows) for rows in self.heard)


def frames(samples, sizes=(), network=SILERO):
    """Of one run, in pieces of ``sizes`` and the rest at once."""
    detector = SpeechDetector(network)
    pieces = np.split(samples, np.cumsum(np.array(sizes, int)))
    done = [detector.push(piece) for piece in pieces] + [detector.flush()]
    return np.concatenate([one.power for one in done]), np.concatenate([one.speech for one in done])


def noise(kind, duration_s, level_db=-30.0, seed=1):
    return at_level(KINDS[kind](np.random.default_rng(seed), int(duration_s * RATE)), level_db)


def silence(duration_s):
    return np.zeros(int(duration_s * RATE), np.float32)


@pytest.mark.parametrize("count", [0, 1, 511, 512, 513, 1600, 5120])
def test_every_sample_is_in_one_frame_the_last_one_filled_up_with_silence(count):
    samples = RECORDINGS[0].samples[RATE : RATE + count]

    power, speech = frames(samples)

    filled = np.zeros(-(-count // FRAME_SAMPLES) * FRAME_SAMPLES, np.float32)
    filled[:count] = samples
    assert power == pytest.approx((filled.reshape(-1, FRAME_SAMPLES) ** 2).mean(axis=1), rel=1e-5)
    assert speech.shape == power.shape
    assert (speech.dtype, power.dtype) == (np.float32, np.float32)


@settings(deadline=None, max_examples=50)
@given(sizes=st.lists(st.integers(0, 5000) | st.integers(0, 600), max_size=60))
def test_frames_do_not_depend_on_how_the_run_was_sliced(sizes):
    power, speech = frames(MIXTURE, sizes)

    np.testing.assert_array_equal(power, WHOLE[0])
    np.testing.assert_array_equal(speech > 0, WHOLE[1] > 0)
    np.testing.assert_allclose(speech, WHOLE[1], atol=1e-5)


def test_the_network_never_gets_digital_silence():
    network = WatchedNetwork()

    _, speech = frames(silence(10), network=network)

    assert not network.heard
    assert not speech.any()


@pytest.mark.parametrize("level_db", [-60, -30, -6])
@pytest.mark.parametrize("kind", ["white", "pink", "hum", "tones"])
def test_of_steady_noise_the_network_gets_only_the_beginning(kind, level_db):
    network = WatchedNetwork()

    _, speech = frames(noise(kind, 20, level_db), network=network)

    assert FIRST_FRAMES <= network.frames <= FIRST_FRAMES + HANG_OVER_FRAMES
    assert not has_speech(speech, THRESHOLD)


def test_noise_that_becomes_louder_goes_to_the_network_until_it_is_the_usual():
    network = WatchedNetwork()
    samples = np.concatenate([noise("pink", 10, -60), noise("pink", 20, -20)])

    _, speech = frames(samples, network=network)

    heard = np.flatnonzero(speech) * FRAME_SAMPLES / RATE
    assert ((heard > 10) & (heard < 11)).any()
    assert heard[-1] < 15
    assert network.began.count(True) == 2


def test_a_constant_offset_hides_no_speech():
    samples = 0.3 * RECORDINGS[0].samples + np.float32(0.5)

    assert has_speech(frames(samples)[1], THRESHOLD)


@pytest.mark.parametrize("kind", ["silence", *KINDS])
def test_windows_without_speech_have_none(kind):
    samples = silence(20) if kind == "silence" else noise(kind, 20)

    _, speech = frames(samples)

    assert not any(has_speech(speech[at : at + WINDOW], THRESHOLD) for at in range(0, len(speech), WINDOW))


@pytest.mark.parametrize("peak_db", [-60, -40, 0])
@pytest.mark.parametrize("kind", [None, "white", "pink"])
def test_windows_with_speech_have_it_loud_and_quiet_alone_and_in_noise(kind, peak_db):
    for recording in RECORDINGS:
        samples = recording.samples
        if kind:
            samples = mixed(samples, noise(kind, len(samples) / RATE, 0), snr_db=10)
        samples = at_level(samples / np.abs(samples).max(), peak_db)

        _, speech = frames(samples)

        whole = range(0, len(speech) - WINDOW, WINDOW)
        assert all(has_speech(speech[at : at + WINDOW], THRESHOLD) for at in whole), recording.name


def test_the_first_syllable_after_a_long_silence_is_not_missed():
    said = RECORDINGS[0].samples[int(WORDS[0][0][0] * RATE) :]

    _, speech = frames(np.concatenate([noise("pink", 10, -70), said]))

    start = 10 * RATE // FRAME_SAMPLES
    assert speech[start : start + 6].max() > THRESHOLD


def test_pauses_of_speech_are_detected_and_end_where_it_ends():
    for recording, words in zip(RECORDINGS, WORDS, strict=True):
        samples = np.concatenate([recording.samples[: int(words[-1][1] * RATE)], silence(3)])

        _, speech = frames(samples)

        first, end = (int(at_s * RATE / FRAME_SAMPLES) for at_s in (words[0][0], words[-1][1]))
        assert (speech[first + 3 : end] > 0).all()
        assert (speech[end + 10 :] < THRESHOLD).all()
        for before, after in pairwise(words):
            if after[0] - before[1] > 0.35:
                pause = speech[int(before[1] * RATE / FRAME_SAMPLES) : int(after[0] * RATE / FRAME_SAMPLES)]
                assert pause.min() < THRESHOLD


def test_after_a_rest_the_network_starts_again_with_the_audio_before():
    network = WatchedNetwork()
    said = RECORDINGS[0].samples[: 2 * RATE]
    samples = np.concatenate([silence(1), said, silence(6), said, silence(6)])

    frames(samples, [1600] * (len(samples) // 1600), network)

    begun = [rows for rows, began in zip(network.heard, network.began, strict=True) if began]
    assert len(begun) == 2
    for rows in begun:
        assert rows.shape[1] == ROW_SAMPLES
        assert len(rows) > PRE_ROLL_FRAMES
        assert not rows[: PRE_ROLL_FRAMES - 1].any()
        assert rows[PRE_ROLL_FRAMES:].any()
        np.testing.assert_allclose(rows[1:, :64], rows[:-1, -64:], rtol=0.1, atol=1e-6)  # gains change little


def test_quiet_speech_is_as_sure_as_loud_speech():
    said = RECORDINGS[0].samples / np.abs(RECORDINGS[0].samples).max()

    _, loud = frames(at_level(said, -10))
    _, quiet = frames(at_level(said, -45))

    assert np.quantile(np.abs(loud - quiet), 0.9) < 0.1


def test_the_input_of_the_network_is_never_louder_than_full_scale():
    network = WatchedNetwork()

    for level_db in (-70, -40, -20, -6, 0):
        frames(at_level(RECORDINGS[1].samples, level_db), network=network)

    assert max(np.abs(rows).max() for rows in network.heard) <= 1


def test_streams_share_a_network_and_do_not_hear_each_other():
    one, other = MIXTURE, RECORDINGS[1].samples
    detectors = SpeechDetector(SILERO), SpeechDetector(SILERO)
    heard: tuple[list[Any], list[Any]] = [], []

    for at in range(0, max(len(one), len(other)), 1600):
        for samples, detector, speech in zip((one, other), detectors, heard, strict=True):
            speech.append(detector.push(samples[at : at + 1600]).speech)

    for samples, detector, speech in zip((one, other), detectors, heard, strict=True):
        together = np.concatenate([*speech, detector.flush().speech])
        np.testing.assert_allclose(together, frames(samples)[1], atol=1e-5)


def test_rows_at_once_are_as_rows_one_by_one():
    rows = np.lib.stride_tricks.sliding_window_view(MIXTURE, ROW_SAMPLES)[::FRAME_SAMPLES]
    state, singly = SILERO.new_state(), []

    for row in rows:
        speech, state = SILERO(row[np.newaxis], state)
        singly.append(speech)

    together, _ = SILERO(rows, SILERO.new_state())
    np.testing.assert_allclose(np.concatenate(singly), together, atol=1e-5)
    assert ((together >= 0) & (together <= 1)).all()


@pytest.mark.parametrize(
    ("speech", "passes"),
    [
        ([], False),
        ([0.0] * 200, False),
        ([0.0] * 100 + [0.9] * (MIN_SPEECH_FRAMES - 1), False),
        ([0.0] * 100 + [0.9] * MIN_SPEECH_FRAMES, True),
        ([0.5, 0.0] * MIN_SPEECH_FRAMES, True),
        ([0.49] * 200, False),
    ],
)
def test_a_window_passes_with_enough_frames_of_speech(speech, passes):
    assert has_speech(np.array(speech, np.float32), threshold=0.5) is passes


MIXTURE = np.concatenate([
    silence(0.5), mixed(RECORDINGS[0].samples[: 3 * RATE], pink(np.random.default_rng(3), 3 * RATE), 15),
    noise("pink", 4, -40), 0.1 * RECORDINGS[1].samples[: 2 * RATE + 123],
])  # fmt: skip
"""Silence, speech in noise, noise long enough for the network to rest, quiet speech."""
WHOLE = frames(MIXTURE)
