"""Partial text: what two passes agree on stays."""

import pytest
from hypothesis import given, settings, strategies as st

from transcriber.engine.transcript import Word
from transcriber.pipeline.local_agreement import LocalAgreement

WORD_S = 0.2


def spoken(text, first_s=0.0):
    """Words half a second apart."""
    return [Word(word, first_s + 0.5 * i, first_s + 0.5 * i + WORD_S, 0.9) for i, word in enumerate(text.split())]


def shown(*passes):
    """The text after each pass; a pass is a text or words."""
    agreement = LocalAgreement()
    words = [agreement.follow(spoken(one) if isinstance(one, str) else one) for one in passes]
    return [" ".join(word.word for word in some) for some in words]


def test_the_first_pass_is_shown_as_it_is():
    assert shown("gale warning") == ["gale warning"]


def test_what_one_pass_alone_transcribed_gives_way_to_the_next():
    assert shown("gale worn", "gale warning for") == ["gale worn", "gale warning for"]


def test_what_two_passes_agreed_on_stays_whatever_the_next_ones_hear():
    assert shown("gale warning", "gale warning for", "whale morning for the", "", "gale warning four the") == [
        "gale warning",
        "gale warning for",
        "gale warning for the",
        "gale warning for",
        "gale warning for the",
    ]


def test_punctuation_and_case_do_not_flicker():
    assert shown("gale warning", "Gale warning,", "gale Warning. for", "gale warning for") == [
        "gale warning",
        "Gale warning,",
        "Gale warning, for",
        "Gale warning, for",
    ]


@pytest.mark.parametrize(
    ("agreed", "then", "shows"),
    [
        ("gale warning for the", spoken("gale for the north"), "gale warning for the north"),
        ("gale warning for the", spoken("gale warning now for the north"), "gale warning for the north"),
        ("gale warning for the", spoken("a gale warning for the north"), "gale warning for the north"),
        ("gale warning for the", spoken("gale warning for a north"), "gale warning for the north"),
        ("gale warning for the", spoken("warning for the north", 0.5), "gale warning for the north"),
        ("gale warning for the", spoken("gale"), "gale warning for the"),
        ("five five", spoken("five five five"), "five five five"),
        ("five five five", spoken("five five"), "five five five"),
        ("five five six", spoken("five six seven", 0.5), "five five six seven"),
    ],
)
def test_a_pass_that_drops_or_inserts_a_word_neither_repeats_nor_loses_those_that_follow(agreed, then, shows):
    assert shown(agreed, agreed, then)[-1] == shows


def test_silence_agrees_with_silence():
    assert shown("", "", "gale") == ["", "", "gale"]


@st.composite
def random_passes(draw):
    """Passes over ever more of one truth of different words: some are missed, misheard or made up, all slip by 0.1 s."""
    truth = [(f"w{i}", 0.4 * i) for i in range(draw(st.integers(1, 12)))]
    slips = st.floats(-0.1, 0.1)
    chance = st.sampled_from(["as said"] * 6 + ["missed", "misheard", "and more"])
    passes = []
    for number in range(draw(st.integers(2, 6))):
        words: list[tuple[str, float]] = []
        for word, at_s in truth[: draw(st.integers(0, len(truth)))]:
            match draw(chance):
                case "as said":
                    words.append((word, at_s + draw(slips)))
                case "misheard":
                    words.append((f"x{word}-{number}", at_s + draw(slips)))
                case "and more":
                    words += [(word, at_s + draw(slips)), (f"y{word}-{number}", at_s + 0.2)]
        passes.append([Word(word, at_s, at_s + WORD_S, 0.9) for word, at_s in words])
    return passes


@settings(max_examples=500, deadline=None)
@given(random_passes())
def test_what_was_agreed_on_never_changes_and_is_always_shown_first(passes):
    agreement = LocalAgreement()
    before: list[Word] = []

    for words in passes:
        shown = agreement.follow(words)
        agreed = list(agreement._agreed)
        assert agreed[: len(before)] == before
        assert list(shown[: len(agreed)]) == agreed
        before = agreed


@settings(max_examples=500, deadline=None)
@given(random_passes())
def test_no_word_is_shown_twice_or_lost_after_what_was_agreed(passes):
    agreement = LocalAgreement()

    for words in passes:
        last = max((int(word.word[1:]) for word in agreement._agreed if word.word[0] == "w"), default=-1)
        shown = [word.word for word in agreement.follow(words)]
        numbers = [int(word[1:]) for word in shown if word[0] == "w"]
        assert numbers == sorted(set(numbers))
        later = [word.word for word in words if word.word[0] == "w" and int(word.word[1:]) > last]
        assert set(later) <= set(shown)
