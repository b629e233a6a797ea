"""The times of words, kept out of pauses."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, strategies as st

from transcriber.engine.transcript import Phrase
from transcriber.pipeline.pauses import EDGE_S, FRAME_S, LEAST_S, Pauses, spoken_ranges

ALL = (-100.0, 100.0)


def start(pauses, time_s):
    """Where a short word begins that does so at a time by the stamps."""
    return place(pauses, time_s, time_s + 0.001)[0]


def end(pauses, time_s):
    return place(pauses, time_s - 0.001, time_s)[1]


def place(pauses, start_s, end_s):
    """Of a word that is not the first of its answer."""
    return pauses.place([(-50.0, -50.0), (start_s, end_s)])[1]


def letters_of(phrases):
    """Each letter of the phrases as a word of its own: (begin, end)."""
    found: list[tuple[float, float]] = []
    for phrase in phrases:
        step_s = (phrase.end_s - phrase.start_s) / phrase.letters
        stamps_s = [phrase.start_s + n * step_s for n in range(phrase.letters + 1)]
        found += pairwise(stamps_s)
    return found


def test_nothing_moves_where_all_is_speech_or_nothing_is_known():
    phrases = [Phrase(0.0, 2.0, 20), Phrase(2.5, 5.0, 30)]
    times_s = [0.0, 0.7, 2.0, 2.2, 2.5, 4.9, 5.0, 7.0]

    for pauses in (Pauses(), Pauses(phrases), Pauses(phrases, [(-1.0, 6.0)], ALL), Pauses((), [(3.0, 4.0)], ALL)):
        assert [start(pauses, at_s) for at_s in times_s] == pytest.approx(times_s)
        assert [end(pauses, at_s) for at_s in times_s] == pytest.approx(times_s)


def test_where_nobody_speaks_at_all_the_stamps_stand():
    pauses = Pauses([Phrase(0.0, 4.0, 20)], [], ALL)

    assert (start(pauses, 0.0), start(pauses, 2.0), end(pauses, 4.0)) == (0.0, 2.0, 4.0)


def test_a_phrase_that_begins_in_the_silence_before_speech_is_said_where_speech_is():
    pauses = Pauses([Phrase(0.0, 25.0, 40)], [(20.0, 25.0)], ALL)

    assert start(pauses, 0.0) == pytest.approx(20.0 - EDGE_S)
    assert start(pauses, 12.5) == pytest.approx(22.5, abs=0.1)
    assert end(pauses, 25.0) == pytest.approx(25.0)


def test_words_share_the_speech_on_both_sides_of_a_pause():
    pauses = Pauses([Phrase(0.0, 16.0, 40)], [(0.0, 2.0), (14.0, 16.0)], ALL)

    # Half of the letters are said before the pause: there one word ends and the next begins.
    assert end(pauses, 8.0) == pytest.approx(2.0, abs=0.1)
    assert start(pauses, 8.0) == pytest.approx(14.0, abs=0.1)


def test_stamps_that_the_speech_agrees_with_keep_words_on_their_side_of_a_pause():
    phrases = [Phrase(0.0, 2.0, 10), Phrase(2.0, 16.0, 60)]
    pauses = Pauses(phrases, [(0.0, 2.0), (14.0, 16.0)], ALL)

    assert start(pauses, 1.0) == pytest.approx(1.0)
    assert start(pauses, 2.0) == pytest.approx(14.0, abs=0.1)


def test_a_phrase_without_speech_takes_the_speech_beside_it_that_is_nobodys():
    before, after = [(5.0, 6.0)], [(12.0, 13.0)]

    assert start(Pauses([Phrase(0.0, 2.0, 10)], after, ALL), 0.0) == pytest.approx(12.0 - EDGE_S)
    assert end(Pauses([Phrase(8.0, 9.0, 10)], before, ALL), 9.0) == pytest.approx(6.0 + EDGE_S)
    assert start(Pauses([Phrase(8.0, 9.0, 10)], [*before, *after], ALL), 8.0) == pytest.approx(5.0 - EDGE_S)


def test_a_phrase_that_is_too_long_for_its_speech_shares_that_of_its_neighbour_by_letters():
    # As if the silence before were not there: the first sentence lies in it.
    phrases = [Phrase(0.0, 5.0, 30), Phrase(5.0, 25.0, 60)]
    pauses = Pauses(phrases, [(19.0, 25.0)], ALL)

    assert start(pauses, 0.0) == pytest.approx(19.0 - EDGE_S)
    assert end(pauses, 5.0) == pytest.approx(21.0, abs=0.1)
    assert start(pauses, 5.0) == pytest.approx(21.0, abs=0.1)
    assert end(pauses, 25.0) == pytest.approx(25.0, abs=0.1)


def test_a_phrase_in_the_silence_after_speech_joins_what_was_said_before_it():
    phrases = [Phrase(0.0, 3.0, 40), Phrase(3.0, 8.0, 20), Phrase(20.0, 22.0, 20)]
    pauses = Pauses(phrases, [(0.0, 3.0), (20.0, 22.0)], ALL)

    assert start(pauses, 3.0) == pytest.approx(2.0, abs=0.1)
    assert end(pauses, 8.0) == pytest.approx(3.0, abs=0.1)
    assert start(pauses, 20.0) == pytest.approx(20.0, abs=0.1)


def test_a_click_holds_no_word_unless_there_is_nothing_else():
    click = (3.0, 3.0 + LEAST_S / 2)
    phrase = Phrase(0.0, 25.0, 40)

    assert start(Pauses([phrase], [click, (20.0, 25.0)], ALL), 0.0) == pytest.approx(20.0 - EDGE_S)
    assert start(Pauses([phrase], [click], ALL), 0.0) == pytest.approx(click[0] - EDGE_S)


def test_a_word_across_a_pause_is_said_on_the_side_where_more_of_it_is():
    pauses = Pauses([Phrase(0.0, 16.0, 40)], [(0.0, 2.0), (14.0, 16.0)], ALL)

    assert place(pauses, 7.0, 8.5) == pytest.approx((1.8, 2.06), abs=0.05)
    assert place(pauses, 7.9, 9.0) == pytest.approx((13.94, 14.2), abs=0.05)


def test_times_that_were_rounded_are_those_of_the_stamps():
    pauses = Pauses([Phrase(0.0004, 25.0004, 40)], [(20.0, 25.0)], ALL)

    assert place(pauses, 0.0, 0.625)[0] == pytest.approx(20.0 - EDGE_S, abs=0.01)
    assert place(pauses, 24.375, 25.001)[1] == pytest.approx(25.0, abs=0.01)


def test_a_breath_is_no_pause():
    pauses = Pauses([Phrase(0.0, 4.0, 40)], [(0.0, 1.9), (2.1, 4.0)], ALL)

    assert [start(pauses, at_s) for at_s in (1.95, 2.05)] == pytest.approx([1.95, 2.05])


def test_what_is_new_is_not_said_in_what_comes_before_its_window():
    """Seven seconds of silence before a window are its left context, of which the detector knows two."""
    pauses = Pauses([Phrase(-7.5, 3.0, 40)], [(-2.0, -1.8), (0.25, 3.0)], (-2.0, 3.0))

    found = pauses.place([(-7.5, -2.25), (-2.25, 3.0)], -0.5)

    assert found == [pytest.approx(times_s, abs=0.1) for times_s in ((0.25, 1.6), (1.6, 3.0))]


def test_words_that_were_written_before_take_no_speech_from_those_that_are_new():
    pauses = Pauses([Phrase(-4.0, 4.0, 40)], [(-2.0, -1.0), (3.0, 4.0)], (-2.0, 4.0))

    # The first half of the phrase is another window's.
    found = pauses.place([(0.0, 2.0), (2.0, 4.0)], -0.5)

    assert found == [pytest.approx(times_s, abs=0.1) for times_s in ((3.0, 3.5), (3.5, 4.0))]


def test_frames_of_speech_are_ranges():
    speech = np.array([0.9, 0.1, 0.5, 0.6, 0.0, 0.4], np.float32)

    found = spoken_ranges(speech, 0.4, 10.0)

    assert [(round((a - 10) / FRAME_S), round((b - 10) / FRAME_S)) for a, b in found] == [(0, 1), (2, 4), (5, 6)]
    assert spoken_ranges(np.zeros(3, np.float32), 0.4, 0.0) == ()


@st.composite
def answers(draw):
    """Phrases and speech of up to half a minute, of which some is known."""
    stamps = sorted(draw(st.lists(st.floats(0, 30), min_size=2, max_size=10)))
    letters = draw(st.lists(st.integers(1, 40), min_size=len(stamps), max_size=len(stamps)))
    phrases = [
        Phrase(begin, end, count)
        for (begin, end), count in zip(pairwise(stamps), letters, strict=False)
        if draw(st.booleans())
    ]
    edges = sorted(draw(st.sets(st.integers(0, 900), max_size=20)))
    speech = [(a * FRAME_S, b * FRAME_S) for a, b in zip(edges[::2], edges[1::2], strict=False)]
    known = draw(st.sampled_from([(0.0, 30.0), (3.0, 30.0), (0.0, 20.0)]))
    return phrases, [one for one in speech if known[0] <= one[0] and one[1] <= known[1]], known


@given(answers())
def test_words_stay_in_order_and_out_of_pauses(answer):
    phrases, speech, known = answer
    pauses = Pauses(phrases, speech, known)

    said = pauses.place(letters_of([phrase for phrase in phrases if phrase.end_s > phrase.start_s]), known[0])

    assert all(begin <= end + 1e-6 for begin, end in said)
    assert all(one[1] <= other[0] + 1e-6 for one, other in pairwise(said))
    if not speech:
        return
    heard = [(begin - EDGE_S, end + EDGE_S) for begin, end in speech]
    for begin, end in said:
        for at_s in (begin, end):
            unknown = at_s >= known[1]
            breath = any(a - 0.4 <= at_s <= b + 0.4 for a, b in heard)
            assert unknown or breath
