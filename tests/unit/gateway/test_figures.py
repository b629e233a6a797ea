"""The streams as events, while nothing is reported."""

import asyncio
import json
from contextlib import aclosing
from typing import Any

import pytest

from tests.support.waiting import PATIENCE_S
from tests.unit.gateway.test_resume import Report, figure
from transcriber.bus.connection import Connection
from transcriber.gateway.keys import Key
from transcriber.gateway.streams import figures as boards
from transcriber.gateway.streams.figures import FiguresBoard
from transcriber.gateway.streams.listeners import Audience
from transcriber.telemetry.gateway_figures import GatewayFigures

KEY = Key("", frozenset({"listen"}))


@pytest.fixture
async def board():
    return FiguresBoard(Connection(), Audience(asyncio.Event(), GatewayFigures()))


async def test_the_streams_of_a_daemon_that_dies_vanish(board: Any, monkeypatch):
    monkeypatch.setattr(boards, "LOOK_S", 0.001)
    await board._take_figures(Report("dying", figure()))

    async with asyncio.timeout(PATIENCE_S), aclosing(boards._changes(board, KEY)) as events:
        before = await anext(events)
        monkeypatch.setattr(boards, "STALE_S", -1.0)
        after = await anext(events)

    assert [len(json.loads(one.data or "")["streams"]) for one in (before, after)] == [1, 0]
    assert len(board.audience) == 0


async def test_a_reader_that_is_dropped_is_told_why(board: Any):
    async with asyncio.timeout(PATIENCE_S), aclosing(boards._changes(board, KEY)) as events:
        await anext(events)
        board.audience.close("slow reader: 2001 messages wait")
        rest = [one async for one in events]

    assert [one.event for one in rest] == ["error"]
    assert json.loads(rest[0].data or "")["error"]["code"] == "dropped"
