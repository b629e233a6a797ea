import re
import sys
from importlib.util import find_spec
from itertools import pairwise
from types import ModuleType

import pytest
from hypothesis import given, settings, strategies as st

from bench.lib.words.alignment import Spoken
from bench.lib.words.normal import split_for, timed, whisper_words, word_errors
from transcriber.testing.wer import errors_between, words


def toy(text):
    """As Whisper's normaliser does, in small: several words may become one, and one several."""
    text = re.sub(r"[^\w$ ]", "", text.lower())
    return re.sub(r"\bwon't\b|\bwont\b", "will not", re.sub(r"twenty one", "21", text)).split()


SPLITS = [words, toy] + ([whisper_words()] if find_spec("whisper_normalizer") else [])
"""The real one, too, where the group bench is installed."""

vocabulary = st.sampled_from(
    [
        "Twenty",
        "one",
        "won't",
        "hundred",
        "and",
        "a",
        "five.",
        "5",
        "Mr.",
        "(oh)",
        "um",
        "$12.50",
        "-",
        "colour",
        "it's",
    ]
)


@pytest.fixture
def _pretended(monkeypatch):
    """A package that only makes small letters."""
    english = ModuleType("whisper_normalizer.english")
    english.EnglishTextNormalizer = lambda: str.lower  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "whisper_normalizer", ModuleType("whisper_normalizer"))
    monkeypatch.setitem(sys.modules, "whisper_normalizer.english", english)
    whisper_words.cache_clear()
    yield
    whisper_words.cache_clear()


@settings(deadline=None, max_examples=200)
@given(st.lists(vocabulary, max_size=15), st.sampled_from(SPLITS))
def test_words_with_times_are_those_of_the_whole_text_in_order(raw, split):
    found = timed(split, [Spoken(word, float(n), n + 0.5) for n, word in enumerate(raw)])

    assert [one.word for one in found] == split(" ".join(raw))
    assert all(one.start_s <= one.end_s for one in found)
    assert all(a.start_s <= b.start_s for a, b in pairwise(found))
    assert all(one.start_s >= 0 and one.end_s <= len(raw) for one in found)


def test_a_number_is_as_long_as_the_words_it_was_made_of():
    raw = [Spoken("He", 0.0, 0.5), Spoken("is", 0.5, 1.0), Spoken("twenty", 1.0, 1.5), Spoken("one.", 1.5, 2.0)]

    assert timed(toy, raw)[2:] == [Spoken("21", 1.0, 2.0)]
    will, not_ = timed(toy, [Spoken("won't", 1.0, 1.7)])
    assert (will.word, will.start_s, not_.word, not_.end_s) == ("will", 1.0, "not", 1.7)
    assert will.end_s == not_.start_s == pytest.approx(1.4)


def test_errors_are_counted_in_normal_words():
    assert word_errors(toy, "He is twenty one", "he is 21.") == 0
    assert word_errors(toy, "He is twenty one", "he was 22") == 2
    assert errors_between([], ["a"]) == 1


@pytest.mark.usefixtures("_pretended")
def test_times_of_day_and_telephone_numbers_are_one_number():
    split = split_for("tiny.en")

    assert split("At 10:45 a.m. or 9PM ring 555-0182") == [
        "at",
        "1045",
        "a",
        "m",
        "or",
        "9",
        "p",
        "m",
        "ring",
        "5550182",
    ]
    assert split("5 mg, ok? I am g") == ["5", "mg,", "ok?", "i", "am", "g"]
    assert split("5 mg ok 2.5 km from m") == ["5", "milligrams", "okay", "2.5", "kilometers", "from", "m"]
    assert split("a well-known 10 am") == ["a", "well-known", "10", "a", "m"]


def test_the_demo_model_keeps_its_own_words_and_others_need_the_normaliser(monkeypatch):
    monkeypatch.setitem(sys.modules, "whisper_normalizer.english", None)
    whisper_words.cache_clear()

    assert split_for("demo") is words
    with pytest.raises(SystemExit, match="install whisper-normalizer, of the group bench"):
        split_for("base")
