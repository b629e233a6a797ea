"""The short form of a soak: three rounds, of which the last two have a connection cut and a broker killed."""

import pytest

from bench.soak.command import soak
from bench.soak.site import bare

GROWN_KB = 32 * 1024
"""Half of what the audio of these rounds takes as samples: memory of so few rounds is not yet flat, but holds none of it."""


@pytest.mark.long
@pytest.mark.timeout(900)  # its own limits say what was late
async def test_whatever_comes_and_goes_every_account_is_exact_and_nothing_of_it_is_held():
    found = await soak(minutes=0, hours_of_audio=0, model="fake", quick=True)
    first, *_, last = found["rests"]

    assert found["errors"] == []
    assert found["rose"] == {}
    assert found["faults"] == 2
    assert {
        "live sessions, PCM", "live sessions, encoded", "live sessions to the frame", "live sessions over a fault",
        "durable sessions", "files", "files unread", "files cancelled", "clips", "clips unread", "uploads", "model swaps", "purges",
    } <= set(found["done"])  # fmt: skip
    assert all(last[name] - first[name] < GROWN_KB for name in last if bare(name) == "rss_kb")
    assert {name: count for name, count in last.items() if bare(name) in {"messages", "subjects"} and count} == {}
