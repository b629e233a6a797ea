"""What became of every frame, against a model that keeps an outcome for each frame of each channel."""

import json
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from transcriber.audio.frame_account import FrameAccount, FrameOutcome


class Ledger:
    """The account, frame by frame."""

    def __init__(self, channels, frames):
        self.outcomes = [[None] * frames for _ in range(channels)]

    def settle(self, outcome, start, frames, channel=None):
        for number, outcomes in enumerate(self.outcomes):
            if channel in {None, number}:
                assert outcomes[start : start + frames] == [None] * frames
                outcomes[start : start + frames] = [outcome] * frames

    @property
    def settled(self):
        together = list(zip(*self.outcomes, strict=True))
        return next((frame for frame, outcomes in enumerate(together) if None in outcomes), len(together))

    def __getitem__(self, outcome):
        together = list(zip(*self.outcomes, strict=True))[: self.settled]
        return [max(outcomes) for outcomes in together].count(outcome)


@st.composite
def recordings(draw):
    """Holes and stretches of a recording, each channel's stretches cut in its own way, in any order: arguments of ``settle``."""
    channels = draw(st.integers(1, 2))
    at = 0
    said: list[tuple[FrameOutcome, int, int, int | None]] = []
    for hole, frames in draw(st.lists(st.tuples(st.booleans(), st.integers(0, 12)), max_size=8)):
        if hole:
            said.append((FrameOutcome.LOST, at, frames, None))
        else:
            for channel in range(channels):
                cuts = sorted({0, frames, *draw(st.lists(st.integers(0, frames), max_size=4))})
                for start, end in pairwise(cuts):
                    outcome = draw(
                        st.sampled_from([FrameOutcome.SILENT, FrameOutcome.TRANSCRIBED, FrameOutcome.DROPPED])
                    )
                    said.append((outcome, at + start, end - start, channel))
        at += frames
    return channels, at, draw(st.permutations(said))


@given(recordings())
def test_the_sums_are_those_of_a_model_frame_by_frame_at_any_time_and_survive_being_saved(recording):
    channels, frames, said = recording
    account, ledger = FrameAccount(channels), Ledger(channels, frames)

    for one in said:
        account = FrameAccount.restored(json.loads(json.dumps(account.snapshot())))
        account.settle(*one)
        ledger.settle(*one)

        assert account.settled == ledger.settled
        assert sum(account[outcome] for outcome in FrameOutcome) == account.settled
        assert [account[outcome] for outcome in FrameOutcome] == [ledger[outcome] for outcome in FrameOutcome]
    assert account.settled == frames


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (FrameOutcome.SILENT, FrameOutcome.SILENT, FrameOutcome.SILENT),
        (FrameOutcome.SILENT, FrameOutcome.TRANSCRIBED, FrameOutcome.TRANSCRIBED),
        (FrameOutcome.TRANSCRIBED, FrameOutcome.DROPPED, FrameOutcome.DROPPED),
        (FrameOutcome.DROPPED, FrameOutcome.SILENT, FrameOutcome.DROPPED),
    ],
)
def test_of_two_speakers_the_worse_fate_counts(one, other, expected):
    account = FrameAccount(2)

    account.settle(one, 0, 10, 0)
    account.settle(other, 0, 10, 1)

    assert {outcome: account[outcome] for outcome in FrameOutcome} == dict.fromkeys(FrameOutcome, 0) | {expected: 10}


def test_nothing_is_counted_before_all_channels_have_reported():
    account = FrameAccount(2)

    account.settle(FrameOutcome.TRANSCRIBED, 0, 30, 0)
    before = account.settled
    account.settle(FrameOutcome.SILENT, 0, 10, 1)

    assert (before, account.settled, account[FrameOutcome.TRANSCRIBED]) == (0, 10, 10)


def test_a_gap_of_no_frames_counts_nothing():
    account = FrameAccount(2)

    account.settle(FrameOutcome.LOST, 0, 0)
    account.settle(FrameOutcome.DROPPED, 0, 0, 1)

    assert account.settled == 0
    assert not any(account[outcome] for outcome in FrameOutcome)
