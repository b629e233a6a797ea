"""The times of words, kept out of pauses."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, strategies as st

from transcriber.engine.pauses import BREATH_S, EDGE_S, FRAME_S, LEAST_S, Pauses, Phrase, spoken_ranges

ALL = (-100.0, 100.0)


INSTANT_S = 1e-6


def start(pauses, time_s):
    return pauses.word(time_s, time_s + INSTANT_S)[0]


def end(pauses, time_s):
    return pauses.word(time_s - INSTANT_S, time_s)[1]


def words_in(phrases, pauses):
    """Each letter of the phrases as a word of its own: (begin, end)."""
    found = []
    for phrase in phrases:
        step_s = (phrase.end_s - phrase.start_s) / phrase.letters
        for n in range(phrase.letters):
            begin_s, end_s = phrase.start_s + n * step_s, phrase.start_s + (n + 1) * step_s
            found.append(pauses.word(begin_s, end_s))
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


@pytest.mark.parametrize(("letters_before", "said"), [(6, (0.0, 1.0)), (2, (8.0, 9.0))])
def test_a_word_that_lies_on_both_sides_of_a_pause_is_said_where_most_of_it_lies(letters_before, said):
    """Of the eighteen letters of the phrase nine are said before the pause; the word has eight."""
    pauses = Pauses([Phrase(0.0, 18.0, 18)], [(0.0, 1.0), (8.0, 9.0)], ALL)
    begin_s = 9.0 - letters_before

    begin, end = pauses.word(begin_s, begin_s + 8.0)

    assert said[0] - 0.1 <= begin < end <= said[1] + 0.1


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


def test_a_breath_is_no_pause():
    pauses = Pauses([Phrase(0.0, 4.0, 40)], [(0.0, 1.9), (2.1, 4.0)], ALL)

    assert [start(pauses, at_s) for at_s in (1.95, 2.05)] == pytest.approx([1.95, 2.05])


def test_what_is_not_known_counts_as_speech():
    pauses = Pauses([Phrase(-4.0, 4.0, 40)], [(3.0, 4.0)], (0.0, 4.0))

    assert start(pauses, -4.0) == -4.0
    assert end(pauses, 4.0) == pytest.approx(4.0)
    assert start(pauses, 4.0 - 8.0 / 5 + 0.3) >= 3.0 - EDGE_S, "of the five seconds, the last is after the pause"


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

    said = words_in([phrase for phrase in phrases if phrase.end_s > phrase.start_s], pauses)

    assert all(begin <= end + 1e-6 for begin, end in said)
    assert all(one[1] <= other[0] + 1e-6 for one, other in pairwise(said))
    if not speech:
        return
    gaps = [(one[1] + EDGE_S, other[0] - EDGE_S) for one, other in pairwise(speech) if other[0] - one[1] >= BREATH_S]
    moved = [word for phrase in phrases for word in [pauses.word(*phrase[:2])] if word != phrase[:2]]
    for begin, end in moved:
        assert not any(begin < gap[0] - 1e-6 and gap[1] + 1e-6 < end for gap in gaps)
    heard = [(begin - EDGE_S, end + EDGE_S) for begin, end in speech]
    for begin, end in said:
        for at_s in (begin, end):
            unknown = not known[0] < at_s < known[1]
            breath = any(a - 0.4 <= at_s <= b + 0.4 for a, b in heard)
            assert unknown or breath
