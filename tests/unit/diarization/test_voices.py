from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, strategies as st

from transcriber.diarization.voices import KnownVoice, VoiceTurn, joined, label, likeness, most_like, unit


def direction(number, size=8):
    return np.eye(size, dtype=np.float32)[number]


def test_labels_are_letters_in_the_order_of_appearance():
    assert [label(number) for number in (0, 1, 25, 26, 27, 701, 702)] == ["A", "B", "Z", "AA", "AB", "ZZ", "AAA"]


def test_a_known_voice_follows_what_is_heard_by_how_much_that_is():
    known = KnownVoice.of(direction(0), 3.0).with_more(direction(1), 1.0)

    assert known.weight_s == 4.0
    assert known.direction[:2] == pytest.approx(unit(np.array([3.0, 1.0], np.float32)), abs=1e-3)
    assert KnownVoice(bytes(known.vector), known.weight_s) == known, "it is stored as it is remembered"


def test_the_most_similar_voice_that_is_free_is_chosen():
    known = [KnownVoice.of(direction(0), 1.0), KnownVoice.of(direction(0) + direction(1), 1.0)]

    assert likeness(known, direction(0)) == pytest.approx([1, 0.7071], abs=1e-3)
    assert (most_like(known, direction(0), ()), most_like(known, direction(0), {0})) == (0, 1)
    assert most_like(known, direction(0), {0, 1}) is most_like([], direction(0), ()) is None


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 50), st.integers(1, 20)).map(
            lambda one: VoiceTurn(one[0], float(one[1]), float(one[1] + one[2]))
        ),
        max_size=12,
    )
)
def test_joined_turns_say_the_same_in_as_few_as_can_be(turns):
    found = joined(turns)

    for voice in range(3):
        said = {second for one in turns if one.voice == voice for second in range(int(one.start_s), int(one.end_s))}
        own = [one for one in found if one.voice == voice]
        assert {second for one in own for second in range(int(one.start_s), int(one.end_s))} == said
        assert all(one.end_s < other.start_s for one, other in pairwise(own))
    assert [one.start_s for one in found] == sorted(one.start_s for one in found)
