import numpy as np
from hypothesis import given, settings, strategies as st

from tests.unit.diarization.test_live_labeller import at, said
from tests.unit.diarization.test_pieces import RATE, heard
from transcriber.diarization.file_labeller import FileLabeller
from transcriber.testing.fake_daemon import LevelNetworks


def labelled(samples, sizes=(3 * RATE,), hole=None):
    """Turns of a file that comes in pieces of ``sizes`` in turn; ``hole`` is a range of samples that are missing."""
    labeller, begin, number = FileLabeller(LevelNetworks()), 0, 0
    while begin < len(samples):
        end = min(len(samples), begin + sizes[number % len(sizes)])
        if hole and begin < hole[0] < end:
            end = hole[0]
        labeller.push(samples[begin:end], begin)
        begin, number = hole[1] if hole and end == hole[0] else end, number + 1
    return [(turn.voice, turn.start_s, turn.end_s) for turn in labeller.turns()]


def test_voices_are_numbered_as_they_first_speak_and_keep_their_number():
    turns = labelled(said((0, 2), (3, 5), (1, 4), (0, 30), (3, 6), (2, 4), (1, 4)))

    assert [at(turns, time_s) for time_s in (4, 9, 25, 44, 49, 53)] == [{0}, {1}, set(), {0}, {2}, {1}]


@settings(max_examples=25)
@given(sizes=st.lists(st.integers(1, 9 * RATE), min_size=1, max_size=3).filter(lambda sizes: sum(sizes) > RATE))
def test_turns_are_the_same_in_whatever_pieces_the_audio_comes(sizes):
    samples = said((1, 4), (2, 7), (0, 1), (1, 11.3))

    assert labelled(samples, sizes) == labelled(samples, (len(samples),))


def test_a_hole_is_nobodys_and_voices_go_on_after_it():
    samples = said((1, 20), (2, 20), (1, 20))

    turns = labelled(samples, hole=(15 * RATE, 45 * RATE))

    assert [at(turns, time_s) for time_s in (10, 30, 50)] == [{0}, set(), {0}]
    assert all(end_s <= 15.1 or start_s >= 44.9 for _, start_s, end_s in turns)


def test_who_says_too_little_is_no_speaker_of_their_own():
    assert {voice for voice, *_ in labelled(said((1, 12), (0, 1), (2, 1.2), (0, 1), (1, 12)))} == {0}


def test_nothing_said_is_no_turn():
    assert labelled(np.zeros(30 * RATE, np.float32)) == labelled(np.zeros(0, np.float32)) == []


def test_where_two_that_sound_the_same_speak_at_once_no_speech_is_without_a_turn():
    networks, samples = heard((0, 0, 3, 1), (1, 2.5, 5.5, 1), (0, 5.2, 8, 1), (1, 7.7, 10, 1))
    labeller = FileLabeller(networks)
    labeller.push(samples, 0)

    turns = [(turn.voice, turn.start_s, turn.end_s) for turn in labeller.turns()]

    assert [at(turns, time_s) for time_s in (1, 2.7, 4, 5.3, 7, 7.8)] == [{0}] * 6
