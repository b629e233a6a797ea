import pytest
from hypothesis import given, settings, strategies as st

from bench.lib.words.alignment import Spoken, align, spoken
from bench.lib.words.cut_errors import Heard, alike, false_ends, joined, word_errors_at_cuts

texts = st.lists(st.sampled_from(["wind", "windy", "north", "northern", "five", "a"]), max_size=12).map(" ".join)


def at_cuts(said, *windows, cuts_s=()):
    """What is not 0."""
    true = spoken(said, 0.0, float(len(said)))
    heard = joined([spoken(window) for window in windows])
    found = word_errors_at_cuts(true, heard, align(true, heard.words), cuts_s)
    return {kind: count for kind, count in found.items() if count}


@pytest.mark.parametrize(
    ("said", "windows", "found"),
    [
        (
            "ends in an explosion that can be seen",
            ["ends in an explosion.", "explosion that can be seen"],
            {"twice": 1},
        ),
        ("we climbed the 160 steps", ["We climbed the", "climb the 160 steps."], {"twice": 1, "half": 1}),
        ("bring everything to a boil", ["Bring everything.", "anything to a boil."], {"half": 1}),
        ("the answer is yes but only small vehicles", ["The answer is yes.", "but only small vehicles."], {}),
        ("four hundred thousand with lights", ["four hundred", "hundred thousand with lights"], {"twice": 1}),
        ("we go down to the sea", ["we go down to the", "down to the sea"], {"twice": 3}),
        ("becomes unstable when gravity wins", ["becomes un", "when gravity wins"], {"half": 1}),
        ("becomes unstable when gravity wins", ["becomes", "stable when gravity wins"], {"half": 1}),
        ("nine houses", ["nine", "houses"], {}),
        ("no no no he said", ["no no", "no he said"], {}),  # the truth says it as often
        ("we saw the sea", ["we saw", "", "saw the sea"], {"twice": 1}),  # a window without words is no edge
        ("we saw the sea", ["we saw the the sea"], {}),  # said twice, but not at a cut
        ("we saw the sea", ["we saw the", "desert"], {}),  # wrong, but no part of what was said
        ("", ["and", "and"], {"twice": 1}),
    ],
)
def test_words_are_said_twice_or_halved_at_a_cut(said, windows, found):
    assert at_cuts(said, *windows) == found


def test_only_words_within_a_second_of_a_cut_are_lost_at_it():
    said = [
        Spoken(word, at_s, at_s + 0.2) for word, at_s in (("one", 0.0), ("two", 2.0), ("three", 2.9), ("four", 6.0))
    ]
    heard = Heard([Spoken("one", 0.0, 0.2)], [])

    found = word_errors_at_cuts(said, heard, align(said, heard.words), [3.0])

    assert found["lost_near_cuts"] == 2
    assert (
        word_errors_at_cuts(spoken("one two"), heard, align(spoken("one two"), heard.words), [3.0])["lost_near_cuts"]
        == 0
    )


@pytest.mark.parametrize(
    ("windows", "found"),
    [
        (["The answer is yes.", "but only small vehicles."], (1, 1, 0)),
        (["The answer is yes.", "But only small vehicles."], (1, 1, 1)),
        (["The answer is yes", "but only small vehicles."], (1, 0, 0)),
        (["The answer is yes, but", "only", "small vehicles."], (2, 0, 0)),
        (["The answer is yes, but only small vehicles.", "Not on Sundays!"], (0, 0, 0)),  # there it does end
        (['"The answer is yes!"', "", "(But only small vehicles."], (1, 1, 1)),
        (["...", "?"], (0, 0, 0)),
    ],
)
def test_a_sentence_that_ends_at_a_cut_and_continues_in_truth_is_a_false_end(windows, found):
    counts = false_ends(["The answer is yes, but only small vehicles.", "Not on Sundays."], windows)

    assert (counts["cuts_in_sentences"], counts["false_ends"], counts["false_sentences"]) == found


@settings(deadline=None)
@given(texts, st.lists(texts, max_size=4))
def test_no_more_is_wrong_at_cuts_than_there_are_words_and_nothing_without_cuts(said, windows):
    heard = joined([spoken(window) for window in windows])
    true = spoken(said)
    found = word_errors_at_cuts(true, heard, align(true, heard.words), [])
    ends = false_ends([said], windows)

    assert 0 <= found["twice"] + found["half"] <= len(heard.words)
    assert found["twice"] + found["half"] == 0 or heard.firsts
    assert len(heard.firsts) == max(0, sum(bool(window) for window in windows) - 1)
    assert ends["false_sentences"] <= ends["false_ends"] <= ends["cuts_in_sentences"] <= len(heard.firsts)


@settings(deadline=None)
@given(texts, st.data())
def test_what_is_transcribed_right_has_no_errors_however_it_is_cut(said, data):
    words = said.split()
    places = sorted(data.draw(st.lists(st.integers(0, len(words)), max_size=3)))
    windows = [" ".join(words[a:b]) for a, b in zip([0, *places], [*places, len(words)], strict=True)]

    assert at_cuts(said, *windows, cuts_s=[0.0, 5.0]) == {}


def test_two_words_are_alike_that_share_half_of_the_shorter_one():
    assert alike("everything", "anything")
    assert alike("climb", "climbed")
    assert not alike("boil", "toil"[:2])
    assert not alike("to", "two")
    assert not alike("yes", "yes")
