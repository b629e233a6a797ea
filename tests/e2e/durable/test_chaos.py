"""The proof of durable mode: the first seeds that together have every fault."""

import pytest

from bench.chaos.command import figures, play_all, table
from bench.chaos.faults import BROKER_FAULTS, DAEMON_FAULTS, Kind
from bench.chaos.one_broker import may_fill_a_disk
from bench.chaos.outcome import summary
from bench.chaos.plan import covering


@pytest.mark.long
async def test_whatever_goes_wrong_nothing_is_lost_doubled_or_reordered():
    disk = may_fill_a_disk()
    everything = {*DAEMON_FAULTS, *BROKER_FAULTS} - (set() if disk else {Kind.DISK_FULL})
    outcomes = await play_all(covering(disk=disk), at_once=3)

    assert {outcome.name: outcome.errors for outcome in outcomes if outcome.errors} == {}
    assert set().union(*(outcome.faults for outcome in outcomes)) == everything
    assert {"     0  lost frames", "     0  duplicated frames", "     0  reordered"} < set(
        table(figures([summary(outcome) for outcome in outcomes])).splitlines()
    )
