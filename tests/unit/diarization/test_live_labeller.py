"""Live labels, with networks that hear levels."""

from itertools import pairwise

import numpy as np
from hypothesis import given, strategies as st

from tests.unit.diarization.test_pieces import RATE, heard
from transcriber.audio.resampler import TARGET_SAMPLE_RATE
from transcriber.diarization.live_labeller import HEARD_S, MOST, LiveLabeller, parts_of
from transcriber.testing.fake_daemon import LevelNetworks


def said(*spans_s):
    """Samples of (voice, seconds); voice 0 is silence."""
    return np.concatenate([np.full(round(seconds * RATE), voice / 10, np.float32) for voice, seconds in spans_s])


def followed(samples, known=(), window_s=5.0):
    """Turns of a session, each window with up to 7.5 s before it, and the voices known at its end."""
    labeller, turns = LiveLabeller(LevelNetworks()), []
    for start in range(0, len(samples), round(window_s * RATE)):
        first = max(0, start - round(7.5 * RATE))
        end = min(len(samples), start + round(window_s * RATE))
        found, known = labeller.follow(samples[first:end], (start - first) / RATE, 0.0, known)
        for turn in found:
            start_s, end_s = max(turn.start_s + first / RATE, start / RATE), turn.end_s + first / RATE
            if start_s < end_s:
                turns.append((turn.voice, start_s, end_s))
    return turns, known


def at(turns, time_s):
    return {voice for voice, start_s, end_s in turns if start_s <= time_s < end_s}


def test_each_voice_keeps_its_number_through_the_session():
    turns, known = followed(said((1, 4), (2, 3), (0, 12), (2, 4), (3, 4), (1, 3)))

    assert [at(turns, time_s) for time_s in (2, 5.5, 12, 20.5, 25, 29)] == [{0}, {1}, set(), {1}, {2}, {0}]
    assert len(known) == 3


def test_known_voices_are_all_that_is_remembered():
    samples = said((1, 4), (2, 4), (1, 7), (2, 5))
    whole, _ = followed(samples)
    first, known = followed(samples[: 10 * RATE])
    labeller = LiveLabeller(LevelNetworks())
    again = labeller.follow(samples[round(2.5 * RATE) : 15 * RATE], 7.5, 0.0, known)

    assert at(whole, 12) == {turn.voice for turn in again.turns if turn.start_s <= 9.5 < turn.end_s}
    assert first
    assert first == whole[: len(first)]


def test_who_says_little_is_no_new_voice_unless_nobody_is_known():
    turns, known = followed(said((1, 4), (0, 0.5), (2, 0.7), (0, 4)))
    alone, first = followed(said((0, 1), (2, 0.7), (0, 3)))

    assert at(turns, 4.8) == {0}
    assert (len(known), len(first)) == (1, 1)
    assert at(alone, 1.3) == {0}


def test_two_that_speak_at_once_are_two_and_both_have_turns():
    networks, samples = heard((0, 0, 3, 1), (1, 2.5, 5.5, 1))

    turns, known = LiveLabeller(networks).follow(samples, 0.0, 0.0, ())

    assert len(known) == 2
    assert {turn.voice for turn in turns if turn.start_s <= 2.7 < turn.end_s} == {0, 1}


def test_words_held_back_before_a_window_have_a_turn_and_teach_nothing():
    samples = said((1, 5), (2, 5))
    _, before = followed(samples[: 5 * RATE])

    turns, after = LiveLabeller(LevelNetworks()).follow(samples, 5.0, 0.0, before)

    assert min(turn.start_s for turn in turns if turn.voice == 0) <= 4.5
    assert after[0] == before[0]


def test_looking_back_adds_no_voice_and_labels_by_those_known_by_then():
    samples = said((1, 12), (2, 8), (1, 4), (3, 4))
    _, known = followed(samples[: 24 * RATE])

    turns = [(turn.voice, turn.start_s, turn.end_s) for turn in LiveLabeller(LevelNetworks()).look_back(samples, known)]

    assert [at(turns, time_s) for time_s in (1, 9, 13, 18, 22)] == [{0}, {0}, {1}, {1}, {0}]
    assert at(turns, 26) <= {0, 1}
    assert LiveLabeller(LevelNetworks()).look_back(samples, ()) == ()


@given(samples=st.integers(1, 60 * TARGET_SAMPLE_RATE))
def test_parts_tile_any_length(samples):
    parts = parts_of(samples)

    assert (parts[0][1], parts[-1][0] + parts[-1][2]) == (0, samples)
    assert all(one[0] + one[2] == other[0] + other[1] for one, other in pairwise(parts))
    assert all(0 <= begin < end <= HEARD_S * TARGET_SAMPLE_RATE for _, begin, end in parts)


def test_there_are_as_many_voices_as_can_be_and_no_more():
    samples = np.concatenate([said((voice, 2), (0, 8)) for voice in range(1, 25)])
    _, known = followed(samples)

    assert len(known) == MOST
