"""When a broker counts as cut off, by a clock of the test's."""

import pytest

from transcriber.bus import isolation
from transcriber.bus.isolation import ISOLATED_S, MOST_ISOLATED_S, PAUSE_S, Isolation

STEP_S = PAUSE_S / 2


class Clock:
    now_s = 1000.0

    def monotonic(self):
        return self.now_s


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(isolation, "time", clock)
    return clock


def time_until_left(broker, clock):
    """Seconds of failures, one every ``STEP_S``, until it is to be left."""
    began_s = clock.now_s
    while not broker.failed():
        clock.now_s += STEP_S
    broker.left()
    return clock.now_s - began_s


def test_a_broker_is_left_after_failures_without_a_pause_and_the_next_later(clock):
    broker = Isolation()

    times_s = [time_until_left(broker, clock) for _ in range(6)]
    broker.answered()
    again_s = time_until_left(broker, clock)

    assert times_s == [ISOLATED_S * 2**n + STEP_S for n in range(5)] + [MOST_ISOLATED_S + STEP_S]
    assert again_s == ISOLATED_S + STEP_S


@pytest.mark.parametrize("between", [Isolation.answered, Isolation.reconnected, None])
def test_what_failed_before_an_answer_a_reconnect_or_a_pause_does_not_count(clock, between):
    broker = Isolation()
    for _ in range(int(ISOLATED_S / STEP_S)):
        assert not broker.failed()
        clock.now_s += STEP_S

    if between:
        between(broker)
    else:
        clock.now_s += PAUSE_S

    assert not broker.failed()
    assert time_until_left(broker, clock) > ISOLATED_S
