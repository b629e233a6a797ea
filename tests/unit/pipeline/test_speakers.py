"""Who said which word: turns of voices, matched to words."""

from hypothesis import given, strategies as st

from transcriber.diarization.job_speakers import JobSpeakers
from transcriber.diarization.live_labeller import Labelled
from transcriber.diarization.voices import VoiceTurn
from transcriber.pipeline.speakers import NEAR_S, clipped, labels, speaker_of_most, turns_of
from transcriber.schema.messages import Turn


def turn(speaker, start, end):
    return Turn(speaker=speaker, start=start, end=end)


def found(*turns):
    """Speakers of a job in which the worker has found these turns: voice, start, end."""
    speakers = JobSpeakers(lambda _: Labelled(tuple(VoiceTurn(*one) for one in turns), ()))
    speakers.find(busy=False)
    return speakers


TIMES = st.integers(0, 200).map(lambda number: number / 10)
RANGES = st.tuples(TIMES, TIMES).map(lambda both: (min(both), max(both)))
TURNS = st.lists(st.builds(lambda who, times: turn(who, *times), st.sampled_from("ABC"), RANGES), max_size=8).map(
    lambda turns: sorted(turns, key=lambda one: one.start)
)


def test_turns_of_a_job_are_placed_on_the_clock_of_the_session_and_named():
    assert turns_of(found((1, 0.0, 2.25), (0, 2.0, 4.0)), 10.5) == (turn("B", 10.5, 12.75), turn("A", 12.5, 14.5))


def test_where_voices_were_not_looked_for_or_not_found_there_are_none():
    busy = JobSpeakers(lambda _: Labelled((), ()))
    busy.find(busy=True)

    assert turns_of(None, 0.0) is None
    assert turns_of(busy, 0.0) is None
    assert turns_of(found(), 0.0) == ()


def test_a_word_is_said_by_whose_turn_covers_most_of_it_else_by_the_nearest_nearby():
    turns = [turn("A", 0.0, 2.0), turn("B", 2.0, 3.0), turn("C", 9.0, 10.0)]

    words = [(1.0, 1.5), (1.8, 2.4), (1.5, 2.2), (3.2, 3.4), (8.4, 8.6), (5.0, 5.5), (2.5, 2.5)]

    assert labels(words, turns) == ["A", "B", "A", "B", "C", None, "B"]


def test_where_two_speak_at_once_the_one_who_was_speaking_goes_on():
    turns = [turn("A", 0.0, 5.0), turn("B", 3.0, 8.0)]

    assert labels([(1.0, 1.5), (3.5, 4.0), (6.0, 6.5), (4.0, 4.5)], turns) == ["A", "A", "B", "B"]
    assert labels([(3.5, 4.0)], turns) == ["A"]


@given(st.lists(RANGES, max_size=10), TURNS)
def test_every_label_is_the_best_there_is(words, turns):
    given = labels(words, turns)

    assert len(given) == len(words)
    for (start_s, end_s), label in zip(words, given, strict=True):
        covered_s = {one: max(0.0, min(end_s, one.end) - max(start_s, one.start)) for one in turns}
        apart_s = {one: max(0.0, one.start - end_s, start_s - one.end) for one in turns}
        if most_s := max(covered_s.values(), default=0.0):
            assert any(one.speaker == label and covered_s[one] == most_s for one in turns)
        elif (nearest_s := min(apart_s.values(), default=NEAR_S + 1)) <= NEAR_S:
            assert any(one.speaker == label and apart_s[one] == nearest_s for one in turns)
        else:
            assert label is None


@given(TURNS, RANGES)
def test_turns_are_cut_to_a_range_and_nothing_within_it_is_lost(turns, place):
    start_s, end_s = place

    cut = clipped(turns, start_s, end_s)

    assert all(start_s <= one.start < one.end <= end_s for one in cut)
    assert [one.start for one in cut] == sorted(one.start for one in cut)
    for speaker in "ABC":
        for at_s in (number / 20 + 0.025 for number in range(400)):
            before = start_s < at_s < end_s and any(t.speaker == speaker and t.start < at_s < t.end for t in turns)
            assert any(t.speaker == speaker and t.start < at_s < t.end for t in cut) == before


@given(st.lists(st.sampled_from(["A", "B", "C", None]), max_size=12))
def test_the_speaker_of_a_text_has_most_of_its_words(given):
    speaker = speaker_of_most(given)

    named = [one for one in given if one]
    assert (speaker is None) == (not named)
    assert all(named.count(speaker) >= named.count(one) for one in named)
