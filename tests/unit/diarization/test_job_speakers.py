"""What is found of who speaks in a job, and what a session remembers of it."""

from itertools import count

import numpy as np
import pytest

from transcriber.diarization.job_speakers import ChannelVoices, passage_speakers, window_speakers
from transcriber.diarization.live_labeller import LiveLabeller
from transcriber.errors import EngineError
from transcriber.testing.fake_daemon import LevelNetworks

RATE = 16_000


def said(*levels, each_s=2.0):
    return np.concatenate([np.full(round(each_s * RATE), level / 1000, np.float32) for level in levels])


def test_windows_teach_in_their_order_and_each_knows_the_voices_after_it():
    labeller, voices = LiveLabeller(LevelNetworks()), ChannelVoices()
    first, second = (
        window_speakers(labeller, said(*levels), 0.0, 0.0, voices, number)
        for number, levels in enumerate([(101,), (201, 101)])
    )

    first.find(busy=False)
    second.find(busy=False)

    assert first.known is not None
    assert second.known is not None
    assert (len(first.known), len(second.known)) == (1, 2)
    assert voices.known == second.known
    assert second.turns is not None
    assert [turn.voice for turn in second.turns] == [1, 0]


def test_a_window_that_is_left_out_teaches_nothing_and_says_why():
    voices = ChannelVoices()
    speakers = window_speakers(LiveLabeller(LevelNetworks()), said(101), 0.0, 0.0, voices, 0)

    speakers.find(busy=True)

    assert (speakers.turns, speakers.known, speakers.left_out) == (None, None, "busy")
    assert voices.known == ()


def test_an_error_of_the_networks_is_noted_and_not_raised():
    class Broken(LevelNetworks):
        def voice(self, samples):
            raise RuntimeError("no voice today")

    voices = ChannelVoices()
    speakers = window_speakers(LiveLabeller(Broken()), said(101), 0.0, 0.0, voices, 0)

    speakers.find(busy=False)

    assert (speakers.turns, speakers.left_out) == (None, "failed")
    assert speakers.error == "RuntimeError: no voice today"
    assert voices.known == ()


def test_a_passage_is_labelled_by_the_voices_that_are_known_and_adds_none():
    labeller, voices = LiveLabeller(LevelNetworks()), ChannelVoices()
    window_speakers(labeller, said(101, 201), 0.0, 0.0, voices, 0).find(busy=False)
    before = voices.known

    passage = passage_speakers(labeller, said(201, 101, 201), before)
    assert passage is not None
    passage.find(busy=False)

    assert passage.turns is not None
    assert [turn.voice for turn in passage.turns] == [1, 0, 1]
    assert voices.known == before


def test_a_window_longer_than_what_is_heard_at_once_is_labelled_from_its_beginning():
    voices = ChannelVoices()
    samples = said(101, 201, 101, 301, 201, 101, each_s=4.0)

    speakers = window_speakers(LiveLabeller(LevelNetworks()), samples, 2.0, 1.0, voices, 0)
    speakers.find(busy=False)

    assert speakers.turns is not None
    # Some of what is before and after the window may be labelled with it.
    cut = [(turn.voice, max(turn.start_s, 2.0), min(turn.end_s, 23.0)) for turn in speakers.turns]
    spoken = [(voice, start_s, end_s) for voice, start_s, end_s in cut if end_s - start_s > 0.1]
    spans = [(round(start_s), round(end_s)) for _, start_s, end_s in spoken]
    assert spans == [(2, 4), (4, 8), (8, 12), (12, 16), (16, 20), (20, 23)]
    first, second, again, third, second_again, last = (voice for voice, _, _ in spoken)
    assert first == again == last
    assert second == second_again
    assert len({first, second, third}) == len(voices.known) == 3


def test_a_voice_that_a_passage_alone_has_is_given_no_other_label():
    labeller, voices = LiveLabeller(LevelNetworks()), ChannelVoices()
    window_speakers(labeller, said(101), 0.0, 0.0, voices, 0).find(busy=False)

    passage = passage_speakers(labeller, said(201, 101), voices.known)
    assert passage is not None
    passage.find(busy=False)

    assert passage.turns is not None
    assert [(turn.voice, round(turn.start_s)) for turn in passage.turns] == [(0, 2)]
    assert passage_speakers(labeller, said(201, 101), ()) is None, "without voices there is nothing to label by"


def test_a_passage_is_given_up_between_its_parts():
    labeller, voices, asked = LiveLabeller(LevelNetworks()), ChannelVoices(), count(1)
    window_speakers(labeller, said(101), 0.0, 0.0, voices, 0).find(busy=False)
    passage = passage_speakers(labeller, said(*[101] * 10), voices.known)
    assert passage is not None

    with pytest.raises(EngineError, match="given up"):
        passage.find(busy=False, should_abort=lambda: next(asked) == 3)

    assert (passage.turns, passage.left_out) == (None, "")


def test_a_window_that_is_labelled_after_a_later_one_teaches_nothing():
    """In durable mode whisper failed at it, and it was tried again: what is stored with it must not hold what the later one taught."""
    labeller, voices = LiveLabeller(LevelNetworks()), ChannelVoices()
    first, second = (
        window_speakers(labeller, said(*levels), 0.0, 0.0, voices, number)
        for number, levels in enumerate([(201, 101), (201,)])
    )

    second.find(busy=False)
    first.find(busy=False)

    assert first.known is None
    assert first.turns is not None
    assert [turn.voice for turn in first.turns] == [0]
    assert voices.known == second.known


def test_turns_reach_back_as_far_as_words_are_held_back():
    samples = said(101, 201, each_s=5.0)

    for hold_back_s, begins_s in ((0.5, 4.0), (3.0, 1.5)):
        speakers = window_speakers(LiveLabeller(LevelNetworks(), hold_back_s), samples, 5.0, 0.0, ChannelVoices(), 0)
        speakers.find(busy=False)
        assert speakers.turns is not None
        assert abs(speakers.turns[0].start_s - begins_s) < 0.1
