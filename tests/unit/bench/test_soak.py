"""What a soak takes for a leak."""

import pytest

from bench.soak.holdings import WARM_RESTS, risen

RESTS = 40


def rests(name, value):
    """A count at each rest."""
    return [{name: value(number)} for number in range(RESTS)]


@pytest.mark.parametrize(
    ("name", "a_round"),
    [("live.threads", 1), ("live.descriptors", 1), ("durable.tasks", 2), ("gateway.objects", 300), ("live.rss_kb", 1000),
     ("AUDIO.consumers", 1), ("OBJ_TRANSCRIPTS.messages", 1)],
)  # fmt: skip
def test_what_every_round_leaves_behind_is_found(name, a_round):
    assert list(risen(rests(name, lambda number: 50 + a_round * number))) == [name]


@pytest.mark.parametrize(("name", "most"), [("live.threads", 6), ("live.rss_kb", 6000), ("durable.objects", 1500)])
def test_what_moves_up_and_down_or_fills_once_is_none(name, most):
    assert risen(rests(name, lambda number: 50 + most * (number % 2))) == {}
    assert risen(rests(name, lambda number: 50 + 1000 * min(number, RESTS // 2))) == {}


def test_one_message_that_stays_is_found_and_one_that_comes_and_goes_is_not():
    assert risen(rests("TRANSCRIPTS.messages", lambda number: int(number > 0.75 * RESTS)))
    assert risen(rests("TRANSCRIPTS.messages", lambda number: int(number == 0.7 * RESTS))) == {}


def test_memory_of_a_few_rests_says_nothing():
    assert risen(rests("live.rss_kb", lambda number: 9000 * number)[:WARM_RESTS]) == {}
