"""Two sockets of one session, through a real gateway and a real broker."""

import json
from datetime import UTC, datetime

import pytest
import websockets
from websockets.asyncio.client import connect

from tests.e2e.gateway.test_streams import AUDIO, audio_url, received, refusal
from tests.support.gateway import GatewayProcess
from tests.support.waiting import PATIENCE_S, settled
from transcriber.schema.stream_figures import StreamFigure, StreamFigures


def figure(state):
    return StreamFigure(
        stream="s", session="take-1", state=state, rate=16_000, received_frames=50, level_dbfs=None,
        speaking=None, last_text_at=None, lag_s=0, lost_s=0,
    )  # fmt: skip


@pytest.fixture
async def reported(publisher):
    """Figures of streams, as a daemon answers with them."""
    streams: list[StreamFigure] = []

    async def answer(request):
        figures = StreamFigures(instance="d", at=datetime.now(UTC), page=0, pages=1, streams=tuple(streams))
        await publisher.publish(request.reply, figures.model_dump_json(by_alias=True).encode())

    await publisher.subscribe("transcriber.streams", cb=answer)
    await settled(publisher)
    return streams


@pytest.mark.usefixtures("reported")
async def test_a_session_goes_on_with_the_connection_that_came_last(broker, publisher):
    audio = await publisher.subscribe("audio.s")
    await settled(publisher)
    with GatewayProcess(broker.url) as gateway:
        async with connect(audio_url(gateway)) as first, connect(audio_url(gateway, session="take-2")) as other:
            await first.recv()
            await other.recv()
            await first.send(AUDIO[:100])
            await audio.next_msg(timeout=PATIENCE_S)
            async with connect(audio_url(gateway)) as second:
                assert json.loads(await second.recv())["type"] == "session"
                with pytest.raises(websockets.ConnectionClosed) as closed:  # noqa: PT012 - whenever it comes
                    while True:
                        await first.send(AUDIO[100:200])
                        await first.recv()
                await second.send(AUDIO[200:300])
                await other.send(AUDIO[300:400])
                payloads = [await audio.next_msg(timeout=PATIENCE_S) for _ in range(2)]

    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "another connection goes on with this session")
    assert {one.headers["Audio-Session"]: one.data for one in payloads} == {
        "take-1": AUDIO[200:300],
        "take-2": AUDIO[300:400],
    }


async def test_a_connection_that_is_refused_ends_no_other(broker, reported):
    with GatewayProcess(broker.url) as gateway:
        async with connect(audio_url(gateway)) as first:
            await received(first, "session")
            reported.append(figure("started"))
            refused = await refusal(audio_url(gateway, content_type="audio/x-raw;rate=8000"))
            await first.send(AUDIO[:100])

            assert (await received(first, "position"))["frames"] == 50
    assert refused["code"] == "format_changed"


async def test_what_follows_the_end_of_a_live_session_is_published(broker, reported):
    """The daemon may have ended it for being idle, and begins another one."""
    reported.append(figure("ended"))
    with GatewayProcess(broker.url) as gateway:
        async with connect(audio_url(gateway)) as again:
            session = await received(again, "session")
            await again.send(AUDIO[:100])
            position = await received(again, "position")

    assert (session["position"], session["resumed"], session["ended"], position["frames"]) == (50, True, True, 100)


async def test_without_a_daemon_nobody_knows_where_a_named_session_goes_on(broker):
    with GatewayProcess(broker.url) as gateway:
        with pytest.raises(websockets.InvalidStatus) as refused:
            await connect(audio_url(gateway))
        async with connect(audio_url(gateway, session="")) as unnamed:
            session = await received(unnamed, "session")

    assert (refused.value.response.status_code, refused.value.response.headers["Retry-After"]) == (503, "1")
    assert (session["position"], session["resumed"]) == (0, False)
