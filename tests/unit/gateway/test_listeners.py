"""Listeners, channels, and the tasks that end with them."""

import asyncio

from transcriber.bus.connection import Connection
from transcriber.errors import UnansweredError
from transcriber.gateway.streams import channel as channels
from transcriber.gateway.streams.channel import Channels
from transcriber.gateway.streams.listeners import Audience
from transcriber.telemetry.gateway_figures import GatewayFigures


async def test_an_audience_without_listeners_has_no_task():
    before = asyncio.all_tasks()
    audience = Audience(asyncio.Event(), GatewayFigures())

    with audience.listener():
        assert len(asyncio.all_tasks() - before) == 1
    await asyncio.sleep(0)

    assert asyncio.all_tasks() == before


class Shut:
    """A channel while the broker is away."""

    def __init__(self, *_):
        pass

    async def open(self):
        await asyncio.sleep(0)
        raise UnansweredError("the broker is away")

    async def close(self):
        await asyncio.sleep(0)


async def test_all_who_ask_while_the_broker_is_away_are_told_so(monkeypatch):
    monkeypatch.setattr(channels, "Channel", Shut)
    entered = Channels(Connection(), "transcripts", asyncio.Event(), GatewayFigures())

    found = await asyncio.gather(*(entered.enter("s") for _ in range(5)), return_exceptions=True)

    assert [type(one) for one in found] == [UnansweredError] * 5
    assert (entered._users, entered._locks) == ({}, {})
