"""What an operator will see one day, compressed: outage, overload, one update after the other."""

import pytest

from bench.chaos import scenarios
from bench.chaos.faults import Kind
from bench.chaos.run import play
from bench.chaos.world import SLOW_JOB_S


async def test_an_outage_of_the_broker_costs_nothing_that_publishers_keep():
    outcome = await play(scenarios.outage(quick=True))

    assert outcome.errors == []
    assert outcome.faults == {Kind.BROKER_KILLED: 1}
    assert outcome.verdict.lost_frames == outcome.verdict.duplicated_frames == 0


async def test_under_overload_the_lag_grows_and_is_worked_off_and_no_window_is_dropped():
    plan = scenarios.overload(quick=True)
    (fault,) = plan.hands[0]
    outcome = await play(plan)
    lags_s = [lag_s for _, lag_s in outcome.lags_s]

    assert outcome.errors == []
    # More windows came meanwhile than were done: the last of them waited for most of that time.
    assert max(lags_s) > fault.hold_s / 2 > 5 * SLOW_JOB_S
    assert lags_s[-1] < 1.0


@pytest.mark.long
async def test_five_updates_in_a_row_leave_no_gap():
    outcome = await play(scenarios.rollouts(quick=True))

    assert outcome.errors == []
    assert sum(outcome.faults.values()) == scenarios.ROLLOUTS
    assert outcome.restarts == scenarios.ROLLOUTS


async def test_of_two_daemons_on_one_stream_one_gives_way_and_nothing_is_published_twice():
    outcome = await play(scenarios.duels(quick=True))

    assert outcome.errors == []
    assert outcome.faults == {Kind.TWO_DAEMONS: scenarios.DUELS}
    assert outcome.verdict.lost_frames == outcome.verdict.duplicated_frames == 0


@pytest.mark.long
async def test_of_three_brokers_each_may_lose_its_host_and_nothing_is_lost_or_doubled():
    outcome = await play(scenarios.hosts(quick=True))

    assert outcome.errors == []
    assert outcome.faults == {Kind.HOST_LOST: 3}
    assert outcome.verdict.windows > 50
    assert outcome.verdict.lost_frames == outcome.verdict.duplicated_frames == outcome.verdict.reordered == 0
