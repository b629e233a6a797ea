import pytest
from hypothesis import given, strategies as st

from transcriber.testing.wer import word_errors, words

sentences = st.lists(st.sampled_from(["wind", "north", "five", "out"]), max_size=8).map(" ".join)


@pytest.mark.parametrize(
    ("said", "heard", "errors"),
    [
        ("", "", 0),
        ("", "one two", 2),
        ("one two", "", 2),
        ("Wind, northwest!", "wind northwest", 0),
        ("wind from the north", "wind the north", 1),
        ("wind north", "wind from north", 1),
        ("wind north", "wind south", 1),
        ("a b c d", "b c d a", 2),
        ("it\u2019s", "it's", 0),
    ],
)
def test_errors_are_substitutions_deletions_and_insertions(said, heard, errors) -> None:
    assert word_errors(said, heard) == errors


@given(said=sentences, heard=sentences)
def test_errors_keep_the_bounds_of_an_edit_distance(said, heard) -> None:
    errors = word_errors(said, heard)

    lengths = len(words(said)), len(words(heard))
    assert max(lengths) - min(lengths) <= errors <= max(lengths)
    assert errors == word_errors(heard, said)
    assert (errors == 0) == (words(said) == words(heard))


@given(said=sentences, heard=sentences, third=sentences)
def test_a_detour_never_takes_fewer_errors(said, heard, third) -> None:
    assert word_errors(said, heard) <= word_errors(said, third) + word_errors(third, heard)
