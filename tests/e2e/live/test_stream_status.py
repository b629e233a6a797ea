"""The state of streams, from a real daemon: while audio comes, in reply to a request, and after the end."""

import asyncio
import json
from itertools import pairwise

from websockets.asyncio.client import connect

from tests.support.audio import level, speak
from tests.support.daemon import Daemon
from tests.support.gateway import GatewayProcess
from tests.support.waiting import PATIENCE_S, settled, until
from transcriber.schema.stream_figures import StreamFigures

RATE = 48_000


async def test_figures_come_while_a_stream_runs_on_request_and_once_more_at_its_end(
    broker, tmp_path, publisher, listener
):
    pages = []

    async def keep(message):
        pages.append((message.subject, StreamFigures.model_validate_json(message.data)))

    async def ask():
        reply = await publisher.request("transcriber.streams", timeout=PATIENCE_S)
        return StreamFigures.model_validate_json(reply.data)

    def shown(state):
        return [f for _, page in pages for f in page.streams if f.state == state]

    await publisher.subscribe("transcriber.streams.*", cb=keep)
    await settled(publisher)
    async with Daemon(broker.url, tmp_path, BUFFER_DURATION_SECS=0.5, STREAM_STATUS_SECS=0.1):
        before = await ask()
        await speak(publisher, "radio-7", level(7, RATE), offset=0, session="take-1")
        await speak(publisher, "radio-7", level(7, RATE // 2), offset=2 * RATE, session="take-1")
        await until(lambda: [f for f in shown("started") if f.last_text_at and f.lost_s], "figures")
        running = await ask()
        count = len(pages)
        await speak(publisher, "radio-7", b"", end=1, session="take-1")
        await listener.ends(1)
        await until(lambda: shown("ended"), "the end")
        after = await ask()

    assert before.streams == ()
    (figure,) = running.streams
    assert (figure.stream, figure.session, figure.state, figure.rate) == ("radio-7", "take-1", "started", RATE)
    assert figure.received_frames == 3 * RATE // 2
    assert figure.lost_s == 1
    assert figure.level_dbfs is not None
    assert -120 <= figure.level_dbfs <= 0
    assert 0 <= figure.lag_s < PATIENCE_S
    assert {subject for subject, _ in pages} == {f"transcriber.streams.{running.instance}"}
    assert 0 < count < len(pages)
    assert all(one.streams != other.streams for (_, one), (_, other) in pairwise(pages))  # only what has changed
    assert [(one.session, one.state, one.received_frames) for one in after.streams] == [
        ("take-1", "ended", 3 * RATE // 2)
    ]


async def test_a_live_session_resumes_through_the_gateway_where_the_daemon_is(broker, tmp_path):
    async with Daemon(broker.url, tmp_path, BUFFER_DURATION_SECS=0.5, STREAM_STATUS_SECS=60):
        with GatewayProcess(broker.url) as gateway:
            url = f"{gateway.websocket_url}/v1/streams/s/audio?session=take-1"
            begun = []
            for _ in range(2):
                async with asyncio.timeout(PATIENCE_S), connect(url) as socket:
                    begun.append(json.loads(await socket.recv()))
                    await socket.send(level(1, RATE))
                    while json.loads(await socket.recv()).get("frames") != len(begun) * RATE:
                        pass
                    socket.transport.abort()

    assert [(one["position"], one["resumed"], one["missing"]) for one in begun] == [(0, False, []), (RATE, True, [])]


async def test_a_live_session_learns_what_is_missing_and_where_its_daemon_that_came_later_waits_for_it(
    broker, tmp_path
):
    async with Daemon(broker.url, tmp_path, BUFFER_DURATION_SECS=0.5, STREAM_STATUS_SECS=60):
        with GatewayProcess(broker.url) as first, GatewayProcess(broker.url) as second:
            begun = []
            # Each sends a second from a frame on; what was before the fifth second, no daemon had.
            for gateway, frame in ((first, 5 * RATE), (first, 8 * RATE), (second, 9 * RATE)):
                url = f"{gateway.websocket_url}/v1/streams/s/audio?session=take-1"
                async with asyncio.timeout(PATIENCE_S), connect(url) as socket:
                    begun.append(json.loads(await socket.recv()))
                    await socket.send(json.dumps({"type": "offset", "frame": frame}))
                    await socket.send(level(1, RATE))
                    while json.loads(await socket.recv()).get("frames") != frame + RATE:
                        pass
                    socket.transport.abort()

    assert [(one["position"], one["resumed"]) for one in begun] == [(0, False), (6 * RATE, True), (9 * RATE, True)]
    assert [one["missing"] for one in begun] == [[], [], [{"start_frame": 6 * RATE, "frames": 2 * RATE}]]
