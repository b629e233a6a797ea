import pytest
from hypothesis import given, strategies as st

from transcriber.testing.speech import load_public_speech, load_speech
from transcriber.testing.wer import errors_between, word_errors, words

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


def levenshtein(said, heard):
    """What counted errors until jiwer did; all figures that are published were counted so."""
    row = list(range(len(heard) + 1))  # row[i]: the distance of the words said so far to the first i heard ones
    for place, word in enumerate(said, 1):
        diagonal, row[0] = row[0], place
        for i, other in enumerate(heard, 1):
            diagonal, row[i] = row[i], min(diagonal + (word != other), row[i] + 1, row[i - 1] + 1)
    return row[-1]


@given(
    said=st.lists(st.text("ab'\u00e9\u5317", min_size=1, max_size=2), max_size=12),
    heard=st.lists(st.text("ab'\u00e9\u5317", min_size=1, max_size=2), max_size=12),
)
def test_figures_are_those_that_were_counted_before(said, heard):
    assert errors_between(said, heard) == levenshtein(said, heard)


def test_figures_of_whole_recordings_are_those_that_were_counted_before():
    texts = [words(recording.text) for recording in (*load_speech(), *load_public_speech())]

    counted = {(a, b): errors_between(said, heard) for a, said in enumerate(texts) for b, heard in enumerate(texts)}

    assert counted == {
        (a, b): levenshtein(said, heard) for a, said in enumerate(texts) for b, heard in enumerate(texts)
    }
    assert max(counted.values()) > 40
