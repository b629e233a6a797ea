"""Pieces and groups, with networks that are told what they hear."""

from itertools import pairwise

import numpy as np
from hypothesis import given, strategies as st

from transcriber.diarization.pieces import (
    FIRST,
    LEAST_S,
    LOCALS,
    PIECE_S,
    STEP,
    groups_of,
    owners_of,
    pieces_of,
)

RATE = 16_000
FRAMES = 589
"""Of 10 s."""


class Told:
    """Who speaks is told; the voice of some samples is the level of most of them."""

    def __init__(self, active):
        self.active = np.asarray(active, bool)

    def activity(self, samples):
        return self.active

    def voice(self, samples):
        vector = np.zeros(8, np.float32)
        vector[round(float(np.median(samples)))] = 1
        return vector


def heard(*spans):
    """10 s in which locals speak (local, start_s, end_s) at a level (a voice) each; later ones are louder where they overlap."""
    samples, active = np.zeros(10 * RATE, np.float32), np.zeros((FRAMES, LOCALS), bool)
    middles_s = (FIRST + STEP * np.arange(FRAMES)) / RATE
    for local, start_s, end_s, voice in spans:
        samples[round(start_s * RATE) : round(end_s * RATE)] = voice
        active[(middles_s >= start_s) & (middles_s < end_s), local] = True
    return Told(active), samples


def pieces(*spans, begin_s=0.0, end_s=10.0, new_from_s=0.0):
    networks, samples = heard(*spans)
    return pieces_of(networks, samples, *(round(at_s * RATE) for at_s in (begin_s, end_s, new_from_s)))


@given(
    active=st.lists(st.lists(st.booleans(), min_size=3, max_size=3), max_size=60),
    begin=st.integers(0, 20_000),
    length=st.integers(0, 20_000),
)
def test_pieces_are_what_is_said_within_the_range(active, begin, length):
    active = np.array(active, bool).reshape(-1, LOCALS)
    samples = np.ones(round(FIRST * 2) + STEP * len(active), np.float32)

    found = pieces_of(Told(active), samples, begin, begin + length)

    for local in range(LOCALS):
        said = np.zeros(len(samples) + 1, bool)
        for number in np.flatnonzero(active[:, local]):
            said[round(FIRST + STEP * (number - 0.5)) : round(FIRST + STEP * (number + 0.5))] = True
        said[:begin] = said[begin + length :] = False
        own = [piece for piece in found if piece.local == local]
        taken = np.zeros_like(said)
        for piece in own:
            assert not taken[piece.start : piece.end].any(), "no sample is in two"
            taken[piece.start : piece.end] = True
        assert (taken == said).all()


def test_a_long_stretch_is_cut_in_pieces_of_equal_length():
    found = pieces((0, 1, 8, 1))

    assert len(found) == round(7 / PIECE_S)
    assert np.ptp([piece.end - piece.start for piece in found]) <= 1
    assert all(one.end == other.start for one, other in pairwise(found))


def test_the_voice_is_of_what_is_said_alone_and_of_too_little_none_is_known():
    found = pieces((0, 1, 5, 1), (1, 4, 6.2, 2), (2, 8, 8 + LEAST_S - 0.1, 3))

    assert [(piece.local, None if piece.voice is None else int(piece.voice.argmax())) for piece in found] == [
        (0, 1), (0, 1), (1, 2), (2, None),
    ]  # fmt: skip
    assert abs(sum(piece.weight_s for piece in found if piece.local == 0) - 3) < 0.1, "a second of it is not said alone"


def test_a_short_piece_is_heard_with_what_the_same_one_says_around_it():
    """A window that begins in mid-sentence: a fifth of a second of it is in the window."""
    (cut,) = pieces((0, 1, 5, 1), begin_s=4.8, new_from_s=4.8)

    assert cut.voice is not None
    assert abs(cut.weight_s - 0.2) < 0.05, "but only that is new"


def test_pieces_of_one_voice_are_one_group_and_two_that_speak_at_once_are_two():
    apart = groups_of(pieces((0, 0, 2, 1), (1, 3, 5, 2), (2, 6, 9, 1)))
    at_once = groups_of(pieces((0, 0, 3, 1), (1, 2.5, 5.5, 1)))

    assert [[piece.local for piece in group.pieces] for group in apart] == [[0, 2, 2], [1]]
    assert len(at_once) == 2
    assert at_once[0].overlaps(at_once[1])
    assert not apart[0].overlaps(apart[1])


def test_what_the_first_network_took_for_one_speaker_is_two_where_the_voices_differ():
    networks, samples = heard((0, 0, 6, 1))
    samples[2 * RATE : 4 * RATE] = 2

    groups = groups_of(pieces_of(networks, samples, 0, len(samples)))

    assert sorted(len(group.pieces) for group in groups) == [1, 2]


def test_a_piece_without_a_voice_has_the_group_of_the_nearest_of_the_same_local():
    found = pieces((0, 0, 0.3, 1), (0, 4, 6, 1), (1, 1, 3, 2))
    groups = groups_of(found)
    owners = owners_of(found, groups)

    assert found[0].voice is None
    assert owners[0] == owners[1] != owners[2]
    assert owners_of(found[:1], []) == [None]
