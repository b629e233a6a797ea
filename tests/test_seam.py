"""Two passes over one place: each word is written once."""

from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings, strategies as st

from transcriber.engine.job import Transcript, Word
from transcriber.engine.seam import Seam, same

CUT_S = 4.0
OVERLAP_S = 0.5
WORD_S = 0.2


def heard(words, language="en"):
    """The answer to a window: ``words`` are (word, time of its middle)."""
    timed = tuple(Word(word, at_s - WORD_S / 2, at_s + WORD_S / 2, 0.9) for word, at_s in words)
    space = "" if language == "zh" else " "
    return Transcript(space.join(word.word for word in timed), timed, language, -0.1, None, 0.1)


def texts(transcript):
    return [word.word for word in transcript.words]


def over_the_cut(before, after, *, language="en", number=1, between=None):
    """What the two windows around a cut write; times are seconds from the cut."""
    seam = Seam()
    first = seam.close(
        heard([(word, CUT_S + at_s) for word, at_s in before], language),
        0, lead_s=0.0, tail_s=OVERLAP_S, duration_s=CUT_S,
    )  # fmt: skip
    if between:
        between(seam)
    second = seam.close(
        heard([(word, OVERLAP_S + at_s) for word, at_s in after], language),
        number, lead_s=OVERLAP_S, tail_s=0.0, duration_s=5.0,
    )  # fmt: skip
    return first, second


@pytest.mark.parametrize(
    ("before", "after", "written"),
    [
        # Both put it on one side.
        ([("north", -0.3), ("wind", 0.3)], [("north", -0.3), ("wind", 0.3)], (["north"], ["wind"])),
        # One puts it before the cut and the other after it, and the other way round.
        ([("north", -0.1), ("wind", 0.4)], [("north", 0.1), ("wind", 0.4)], (["north"], ["wind"])),
        ([("north", 0.1), ("wind", 0.4)], [("north", -0.1), ("wind", 0.4)], ([], ["north", "wind"])),
        # Punctuation and case are no other word.
        ([("North,", -0.1)], [("north", 0.1), ("wind", 0.4)], (["North,"], ["wind"])),
        # The later one hears but the end of the first word, as it begins in its midst.
        ([("northwest", -0.4), ("wind", -0.1)], [("west", -0.3), ("wind", 0.05), ("now", 0.6)], (["northwest", "wind"], ["now"])),
        ([("northwest", -0.4), ("wind", 0.1)], [("west", -0.3), ("wind", 0.05)], (["northwest"], ["wind"])),
        # The earlier one hears but the beginning of the last word.
        ([("north", -0.2), ("nor", 0.45)], [("north", -0.2), ("northwest", 0.5)], (["north"], ["northwest"])),
        # Heard by one only.
        ([("north", -0.3), ("a", -0.1), ("wind", 0.2)], [("north", -0.3), ("wind", 0.2)], (["north", "a"], ["wind"])),
        ([("north", -0.3), ("wind", 0.3)], [("north", -0.3), ("a", -0.05), ("wind", 0.3)], (["north"], ["a", "wind"])),
        ([("north", -0.3), ("wind", 0.4)], [("a", 0.1), ("wind", 0.4)], (["north"], ["a", "wind"])),
        # Heard in two ways: the one who owns the place is right.
        ([("nine", -0.1), ("knots", 0.3)], [("line", 0.05), ("knots", 0.3)], (["nine"], ["knots"])),
        # Nothing in common: by time.
        ([("north", -0.6)], [("in", -0.4), ("wind", 0.3)], (["north"], ["wind"])),
        ([("north", -0.3)], [], (["north"], [])),
        ([], [("in", -0.4), ("wind", 0.3)], ([], ["wind"])),
        # Repeated.
        ([("five", -0.3), ("five", 0.2)], [("five", -0.45), ("five", 0.05)], (["five"], ["five"])),
        ([("five", -0.15), ("five", 0.35)], [("five", -0.3), ("five", 0.2)], (["five"], ["five"])),
        ([("five", -0.05), ("five", 0.4)], [("five", 0.05), ("five", 0.5), ("five", 0.95)], (["five"], ["five", "five"])),
    ],
)  # fmt: skip
def test_each_word_is_written_once(before, after, written):
    first, second = over_the_cut(before, after)

    assert (texts(first), texts(second)) == written
    assert (first.text, second.text) == tuple(" ".join(words) for words in written)


def test_in_a_language_without_spaces_there_are_none():
    first, second = over_the_cut(
        [("北", -0.3), ("风", 0.1)], [("北", -0.2), ("风", 0.1), ("五", 0.4), ("级", 0.6)], language="zh"
    )

    assert (first.text, second.text) == ("北", "风五级")


def test_where_nothing_overlaps_an_answer_stays_as_it_is():
    transcript, seam = heard([("north", 1.0), ("wind", 2.0)]), Seam()

    assert seam.close(transcript, 0, lead_s=0.0, tail_s=0.0, duration_s=5.0) is transcript
    assert seam.own(transcript, 1, lead_s=0.0) is transcript


def test_text_without_times_stays_as_it_is():
    transcript, seam = Transcript("north wind", None, "en", -0.1, None, 0.1), Seam()

    assert seam.close(transcript, 0, lead_s=0.5, tail_s=0.5, duration_s=5.0) is transcript


def test_when_the_window_before_was_lost_words_go_by_time():
    seam = Seam()

    second = seam.close(
        heard([("north", 0.4), ("wind", 0.6)]), 1, lead_s=OVERLAP_S, tail_s=0.0, duration_s=5.0
    )  # fmt: skip

    assert texts(second) == ["wind"]


def test_words_of_a_window_that_is_not_the_one_before_do_not_count():
    _, second = over_the_cut([("wind", -0.1)], [("wind", 0.1), ("now", 0.4)], number=2)

    assert texts(second) == ["wind", "now"]


def test_an_open_window_is_trimmed_as_its_final_will_be():
    seam = Seam()
    seam.close(heard([("north", CUT_S - 0.1)]), 0, lead_s=0.0, tail_s=OVERLAP_S, duration_s=CUT_S)
    passing = heard([("north", 0.6), ("wind", 0.9)])

    guesses = [texts(seam.own(passing, 1, lead_s=OVERLAP_S)) for _ in range(2)]

    assert guesses == [["wind"], ["wind"]]
    assert texts(seam.close(passing, 1, lead_s=OVERLAP_S, tail_s=0.0, duration_s=5.0)) == ["wind"]


def test_a_text_that_is_held_back_leaves_the_next_window_what_is_its_own():
    seam = Seam()
    held_back = Transcript("", (), "en", -2.0, None, 0.1, suppressed="repetition")

    first = seam.close(held_back, 0, lead_s=0.0, tail_s=OVERLAP_S, duration_s=CUT_S)
    second = seam.close(heard([("north", 0.3), ("wind", 0.8)]), 1, lead_s=OVERLAP_S, tail_s=0.0, duration_s=5.0)

    assert (first.text, first.suppressed, second.text) == ("", "repetition", "wind")


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [("Harbour,", "harbour", True), ("nine", "five", False), ("...", "...", True), ("...", "?", False), ("ÄRGER", "ärger", True)],
)  # fmt: skip
def test_words_are_the_same_but_for_case_and_punctuation(one, other, alike):
    assert same(one, other) == alike


@st.composite
def passes(draw, spacing_s, jitter_s, *, repeated=False):
    """Two passes over one truth around the cut: what was said, and what each heard of it and when."""
    at_s = draw(st.floats(-3.0, -2.5))
    truth: list[tuple[str, float]] = []
    while at_s < 3.0:
        truth.append(("five" if repeated else f"w{len(truth)}", at_s))
        at_s += draw(st.floats(*spacing_s))
    halves = WORD_S / 2
    slips = st.floats(-jitter_s, jitter_s)

    def one_pass(begin_s, end_s):
        words = [(word, at_s) for word, at_s in truth if begin_s + halves <= at_s <= end_s - halves]
        times = sorted(min(max(at_s + draw(slips), begin_s), end_s) for _, at_s in words)
        return [(word, at_s) for (word, _), at_s in zip(words, times, strict=True)]

    return [word for word, _ in truth], one_pass(-CUT_S, OVERLAP_S), one_pass(-OVERLAP_S, 4.0)


def check_times(first, second):
    for transcript, duration_s in ((first, CUT_S), (second, 5.0)):
        assert all(0 <= word.start_s <= word.end_s <= duration_s for word in transcript.words)
        assert all(a.start_s <= b.start_s and a.end_s <= b.end_s for a, b in pairwise(transcript.words))


@settings(max_examples=500, deadline=None)
@given(passes((0.25, 0.8), 0.3))
def test_every_word_is_written_once_though_both_passes_slip_by_0_3_s(said_and_heard):
    truth, before, after = said_and_heard

    first, second = over_the_cut(before, after)

    assert texts(first) + texts(second) == truth
    check_times(first, second)


@settings(max_examples=500, deadline=None)
@given(passes((0.4, 0.8), 0.075, repeated=True))
def test_a_word_said_again_and_again_is_neither_doubled_nor_lost_if_passes_agree_within_0_15_s(said_and_heard):
    truth, before, after = said_and_heard

    first, second = over_the_cut(before, after)

    assert texts(first) + texts(second) == truth


@settings(max_examples=300, deadline=None)
@given(passes((0.25, 0.8), 0.3), st.randoms(use_true_random=False))
def test_whatever_a_pass_misses_or_mishears_no_word_is_written_twice(said_and_heard, random):
    truth, before, after = said_and_heard
    before, after = (
        [(random.choice([word, word, f"x{word}"]), at_s) for word, at_s in words if random.random() < 0.8]
        for words in (before, after)
    )

    first, second = over_the_cut(before, after)

    written = [word for word in texts(first) + texts(second) if word in truth]
    assert len(written) == len(set(written))
    # Of two words that no pass heard both of, nobody can say which came first: their times slip by more than lies between.
    together = [{word for word, _ in words} for words in (before, after)]
    for one, other in combinations(written, 2):
        assert truth.index(one) < truth.index(other) or not any({one, other} <= words for words in together)
    check_times(first, second)
