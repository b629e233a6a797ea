"""Many streams shared out among three daemons, of which one dies."""

from dataclasses import replace

import pytest

from bench.chaos.faults import Fault, Kind
from bench.chaos.plan import from_seed
from bench.chaos.run import play


@pytest.mark.parametrize("which", [0.1, 0.5, 0.9], ids=["first", "second", "third"])
async def test_of_three_daemons_any_may_die_and_every_stream_is_transcribed_once(which):
    plan = from_seed(3, quick=True, daemons=3)
    outcome = await play(replace(plan, hands=((Fault(Kind.DAEMON_KILLED, 1.0, 0.5, which),),)))

    assert outcome.errors == []
    assert len(plan.streams) == 12
    assert outcome.verdict.sessions == 24
    assert (outcome.faults, outcome.restarts) == ({Kind.DAEMON_KILLED: 1}, 1)
