"""The bench of turn ends: pauses lie where it says, and windows end where the network finds a turn complete, or else later."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, strategies as st

from bench.lib.recordings import Recording, Sentence, Word
from bench.lib.turn_ends.cutter import TurnEnds, cut_by
from bench.lib.turn_ends.pauses import AFTER_S, PAUSES_S, pauses, sentence_ends_s, with_pauses
from bench.lib.turn_ends.smart_turn import HEARD_S, SmartTurn, prepared
from bench.lib.windows import windows_of
from bench.turn_ends import Cuts, area_under_curve, figures, measure
from tests.support.synthetic_speech import LoudnessDetector, joined, silence, speech
from transcriber.audio.vad.detector import FRAME_SAMPLES
from transcriber.config import load_settings

RATE = 16_000
BEAT_S = FRAME_SAMPLES / RATE


def recording(sentences, words=8):
    """Sentences of a word every half second, as loud as the number of the word."""
    samples = np.repeat(np.arange(1, sentences * words + 1, dtype=np.float32), RATE // 2)
    said = []
    for first in range(0, sentences * words, words):
        own = tuple(Word(f"w{n}", n / 2, n / 2 + 0.5) for n in range(first, first + words))
        said.append(Sentence(" ".join(word.text for word in own) + ".", own[0].start_s, own[-1].end_s, own))
    every = tuple(word for sentence in said for word in sentence.words or ())
    return Recording("r", " ".join(one.text for one in said), samples, tuple(said), every)


@given(st.integers(1, 6), st.integers(1, 12), st.integers(0, 1000))
def test_words_lie_where_they_are_said_after_pauses_are_put_in(sentences, words, seed):
    said = recording(sentences, words)

    found = with_pauses(said, np.random.default_rng(seed))

    words_found = found.words or ()
    assert [word.text for word in words_found] == [word.text for word in said.words or ()]
    for number, word in enumerate(words_found, 1):
        assert found.samples[round((word.start_s + 0.1) * RATE)] == number
        assert found.samples[round((word.end_s - 0.1) * RATE)] == number
    quiet_s = [b.start_s - a.end_s for a, b in pairwise(words_found)]
    assert all(abs(gap_s) < 0.001 or PAUSES_S[0] - 0.001 < gap_s < PAUSES_S[1] + 0.001 for gap_s in quiet_s)
    assert sum(gap_s > 0.1 for gap_s in quiet_s) >= sentences - 1
    assert found.duration_s - words_found[-1].end_s == pytest.approx(AFTER_S, abs=0.001)


def test_a_sentence_ends_in_a_pause_unless_it_goes_on_after_it_and_what_is_not_known_is_left_out():
    told = (Sentence("It is,", 0.0, 1.0), Sentence("I think, so.", 2.0, 3.0))
    said = Recording("r", "", np.zeros(0, np.float32), told)
    heard = np.array([1.0] * 31 + [0.0] * 31 + [1.0] * 31 + [0.0] * 20 + [1.0] * 31 + [0.0] * 20, np.float32)

    found = list(pauses(said, heard, 0.5, least=8))

    assert sentence_ends_s(said) == [3.0]
    assert [(one.first, one.last, one.complete) for one in found] == [(31, 62, False), (93, 113, True)]


def test_the_network_hears_the_last_seconds_behind_zeros_at_mean_zero_and_variance_one():
    long, short = np.arange(10 * RATE, dtype=np.float32), np.ones(RATE, np.float32)

    heard, filled = prepared(long), prepared(short)

    assert np.argmax(heard) == HEARD_S * RATE - 1
    assert heard[: HEARD_S * RATE].mean() == pytest.approx(0, abs=1e-3)
    assert heard[: HEARD_S * RATE].std() == pytest.approx(1, abs=1e-3)
    assert heard[HEARD_S * RATE] == heard[HEARD_S * RATE - 2]
    assert len(set(filled[: (HEARD_S - 1) * RATE].tolist())) == 1
    assert filled[(HEARD_S - 1) * RATE] > filled[(HEARD_S - 1) * RATE - 1]


def test_a_network_that_is_none_is_said_in_one_line(tmp_path):
    (tmp_path / "turn.onnx").write_bytes(b"nothing of the kind")

    with pytest.raises(SystemExit, match=r"turn\.onnx"):
        SmartTurn(tmp_path / "turn.onnx")


def test_a_way_that_is_none_is_said_in_one_line(tmp_path):
    with pytest.raises(SystemExit, match=r"^--ways: guess: none of silence_0\.5, "):
        measure(True, tmp_path / "turn.onnx", "tiny.en", None, 0.0, "silence_0.5,guess", False, 1, None)


class Answers:
    """Says in turn what it is told to; keeps what it was asked."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def __call__(self, samples):
        self.asked.append(samples)
        return self.answers.pop(0)


def cut(samples, network, hold_frames=40):
    """Where windows end, in beats, and when that was known."""
    settings = load_settings(left_context_secs=0)
    ends = TurnEnds(network, 0.5, ask_frames=8, hold_frames=hold_frames)
    with cut_by(ends):
        found = list(windows_of(Recording("r", "", samples), settings, LoudnessDetector()))
    return [
        (round((window.start_frame + window.frames) / FRAME_SAMPLES), known_s / BEAT_S) for window, known_s in found
    ]


def test_a_complete_turn_ends_its_window_at_once_and_half_of_the_silence_is_in_it():
    network = Answers(0.9)

    (end, known), *_ = cut(joined(speech(40), silence(100)), network)

    assert 40 <= end <= 45
    assert 48 <= known <= 48 + 2 * 0.1 / BEAT_S
    assert len(network.asked) == 1
    assert len(network.asked[0]) == pytest.approx(48 * FRAME_SAMPLES, abs=3 * FRAME_SAMPLES)


def test_a_turn_that_is_not_complete_is_held_open_and_asked_about_once_a_pause():
    network = Answers(0.1, 0.2)

    (end, known), *_ = cut(joined(speech(30), silence(20), speech(30), silence(100)), network)

    assert len(network.asked) == 2
    assert end >= 80
    assert 120 <= known <= 120 + 2 * 0.1 / BEAT_S


def test_a_window_is_never_held_beyond_its_length():
    cuts = cut(joined(speech(130), silence(300)), Answers(*[0.0] * 9), hold_frames=200)

    assert cuts[0][0] <= 5.0 / BEAT_S


def test_outside_of_it_windows_are_cut_as_ever():
    samples, network = joined(speech(40), silence(100)), Answers(0.9)
    cut(samples, network)

    (_, known_s), *_ = windows_of(Recording("r", "", samples), load_settings(), LoudnessDetector())

    assert 40 + 16 <= known_s / BEAT_S <= 60
    assert len(network.asked) == 1


SAID = Recording("r", "", joined(speech(40), silence(100)), (Sentence("Yes.", 0.0, 40 * BEAT_S),))


def delays(ends, call_s=0.0):
    """From the end of the sentence to its window, and to its final by whisper's time."""
    cuts = Cuts(load_settings(), ends)
    with cut_by(ends):
        cuts.add(SAID, list(windows_of(SAID, load_settings(), LoudnessDetector())))
    out = cuts.figures(SAID.duration_s, call_s)
    assert (out["sentences"], out["windows_ending_in_sentences_percent"]) == (1, 0.0)
    return out["sentence_to_window_s"]["p50"], {name: one["p50"] for name, one in out["sentence_to_final_s"].items()}


def test_whisper_has_half_of_the_silence_that_ends_a_window():
    closed_s, finals_s = delays(None)

    assert 0.5 <= closed_s <= 0.75
    assert finals_s == pytest.approx({"0.05": closed_s, "0.15": closed_s, "0.4": closed_s + 0.15}, abs=0.002)


def test_whisper_waits_for_the_network_where_that_ends_a_window():
    closed_s, finals_s = delays(TurnEnds(Answers(0.9), 0.5, 8, 40), call_s=0.1)

    assert 8 * BEAT_S <= closed_s <= 8 * BEAT_S + 0.2
    assert finals_s == pytest.approx(
        {"0.05": closed_s + 0.15, "0.15": closed_s + 0.25, "0.4": closed_s + 0.5}, abs=0.002
    )


@pytest.mark.parametrize("hold_frames", [16, 40])
def test_whisper_has_a_window_that_is_held_open_from_the_answer_on(hold_frames):
    ahead_s = (hold_frames - 8) * BEAT_S - 0.1

    closed_s, finals_s = delays(TurnEnds(Answers(0.1), 0.5, 8, hold_frames), call_s=0.1)

    assert hold_frames * BEAT_S <= closed_s <= hold_frames * BEAT_S + 0.2
    expected_s = {str(whisper_s): closed_s + max(0, whisper_s - ahead_s) for whisper_s in (0.05, 0.15, 0.4)}
    assert finals_s == pytest.approx(expected_s, abs=0.002)


def test_what_the_network_says_is_told_apart_by_whether_a_sentence_ends():
    out = figures([(True, 0.9), (True, 0.6), (False, 0.7), (False, 0.1)])

    assert (out["ends"], out["insides"], out["area_under_curve"]) == (2, 2, 0.75)
    assert out["called_complete_percent"]["0.5"] == {"ends": 100.0, "insides": 50.0}
    assert area_under_curve([], [0.5]) is None
