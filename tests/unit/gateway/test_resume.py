"""Where a live session goes on, of what daemons report."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from transcriber.bus.connection import Connection
from transcriber.gateway.api_error import ApiError
from transcriber.gateway.streams import figures as boards
from transcriber.gateway.streams.commands import parse_query
from transcriber.gateway.streams.figures import FiguresBoard
from transcriber.gateway.streams.listeners import Audience
from transcriber.gateway.streams.resume import Position, live_position
from transcriber.schema.stream_figures import StreamFigure, StreamFigures
from transcriber.telemetry.gateway_figures import GatewayFigures

NOW = datetime.now(UTC)
PCM = "audio/x-raw;rate=16000"


def figure(received_frames=4711, state="started", next_offset: int | None = 5000):
    return StreamFigure(
        stream="s", session="one", state=state, rate=16_000, received_frames=received_frames, next_offset=next_offset,
        level_dbfs=None, speaking=None, last_text_at=None, lag_s=0, lost_s=0,
    )  # fmt: skip


def query(content_type):
    return parse_query({"session": "one", "content_type": content_type})


@pytest.mark.parametrize(
    ("of_daemon", "content_type", "expected"),
    [
        (None, PCM, Position()),
        (None, "audio/wav", Position()),
        (figure(), PCM, Position(5000, resumed=True)),
        (figure(next_offset=None), PCM, Position(4711, resumed=True)),
        (figure(), "audio/webm", Position(resumed=True)),
        (figure(state="ended"), PCM, Position(5000, resumed=True, ended=True)),
        (figure(state="ended"), "audio/wav", Position()),
        (figure(state="ended"), "audio/x-raw;rate=8000", Position()),
    ],
)
def test_a_live_session_goes_on_where_its_daemon_is(of_daemon, content_type, expected):
    assert live_position(of_daemon, query(content_type)) == expected


@pytest.mark.parametrize(
    ("content_type", "reason"),
    [("audio/x-raw;rate=8000", "16000 Hz"), ("audio/wav", "audio/x-raw")],
)
def test_a_live_session_does_not_go_on_in_another_format(content_type, reason):
    with pytest.raises(ApiError, match=reason) as refused:
        live_position(figure(), query(content_type))

    assert (refused.value.status, refused.value.code) == (409, "format_changed")


class Report:
    """A message of a daemon."""

    subject = "transcriber.streams.d"

    def __init__(self, instance, *streams, at=NOW):
        figures = StreamFigures(instance=instance, at=at, page=0, pages=1, streams=streams)
        self.data = figures.model_dump_json(by_alias=True).encode()


@pytest.fixture
async def board():
    return FiguresBoard(Connection(), Audience(asyncio.Event(), GatewayFigures()))


async def test_of_two_daemons_the_later_one_knows_where_a_session_is(board: Any):
    await board._take_figures(Report("before", figure(next_offset=100)))
    await board._take_figures(Report("after", figure(next_offset=300), at=NOW + timedelta(seconds=1)))
    await board._take_figures(Report("long ago", figure(next_offset=200), at=NOW - timedelta(seconds=1)))

    assert board.figure("s", "one").next_offset == 300
    assert board.figure("s", "two") is None


async def test_a_daemon_that_is_gone_says_nothing_of_a_session(board: Any, monkeypatch):
    monkeypatch.setattr(boards, "STALE_S", -1.0)
    await board._take_figures(Report("gone", figure()))

    assert board.figure("s", "one") is None
