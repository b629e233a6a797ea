"""What stays whole: a broker that goes away and comes back under every kind of connection, and a gateway that is stopped."""

import asyncio
import json
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import nats
import pytest
import websockets
from websockets.asyncio.client import connect

from tests.e2e.gateway.test_listeners import message
from tests.e2e.gateway.test_streams import AUDIO, BLOCK, CONTENT_TYPE, FRAMES, audio_url, received, send_from
from tests.support.audio import level
from tests.support.daemon import Daemon
from tests.support.durable_streams import provisioned
from tests.support.gateway import GatewayProcess, http_client, shared_gateway
from tests.support.waiting import PATIENCE_S
from transcriber.schema.stream_figures import StreamFigures
from transcriber.testing.broker import EmbeddedBroker

__all__ = ["http_client", "shared_gateway"]

EVENTS = {"Accept": "text/event-stream"}
PATH = "/v1/audio/transcriptions"


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with EmbeddedBroker(store=tmp_path_factory.mktemp("store")) as broker:
        asyncio.run(provisioned(broker))
        asyncio.run(provisioned(broker, files=True))
        yield broker


async def until_status(client, status):
    async with asyncio.timeout(PATIENCE_S):
        while (await client.get("/readyz")).status_code != status:
            pass


async def data_of(lines):
    """The next event's data."""
    async with asyncio.timeout(PATIENCE_S):
        async for line in lines:
            if line.startswith("data: "):
                return json.loads(line.removeprefix("data: "))
    raise AssertionError("no more events")


def upload(size=100):
    return {"files": {"file": ("a.wav", bytes(size))}, "data": {"model": "whisper-1"}}


async def test_every_connection_survives_a_broker_that_is_away(broker, gateway, client):
    async with asyncio.timeout(25), AsyncExitStack() as stack:
        enter = stack.enter_async_context
        audio = await enter(connect(audio_url(gateway, "s")))
        assert (await received(audio, "session"))["position"] == 0
        await send_from(audio, 0, until=FRAMES // 2)
        texts = (await enter(client.stream("GET", "/v1/streams/s/transcript", timeout=PATIENCE_S))).aiter_lines()
        assert await anext(texts) == ": listening"
        heard = await enter(connect(f"{gateway.websocket_url}/v1/streams/s/transcript"))
        streams = (await enter(client.stream("GET", "/v1/streams", headers=EVENTS))).aiter_lines()
        assert await data_of(streams) == {"streams": []}
        spoken = await enter(connect(f"{gateway.websocket_url}/v1/realtime?intent=transcription"))
        assert json.loads(await spoken.recv())["type"] == "session.created"

        broker.stop()
        await until_status(client, 503)
        away = [await client.post(PATH, **upload()), await client.get("/v1/jobs"), await client.get("/v1/models")]
        sending = asyncio.create_task(send_from(audio, FRAMES // 2))
        with pytest.raises(websockets.InvalidStatus) as refused:
            await connect(audio_url(gateway, "t"))
        broker.start()
        await until_status(client, 200)

        await sending
        await audio.send('{"type": "end"}')
        while (await received(audio, "position"))["frames"] < FRAMES:
            pass
        await audio.wait_closed()
        publisher = await nats.connect(broker.url)
        await publisher.jetstream().publish("transcripts.s.silence", message(7))
        got = [await data_of(texts), json.loads(await heard.recv())]
        figures = StreamFigures(instance="d", at=datetime.now(UTC), page=0, pages=1, streams=())
        await publisher.publish("transcriber.streams.d", figures.model_dump_json(by_alias=True).encode())
        again = await data_of(streams)
        await spoken.send(json.dumps({"type": "input_audio_buffer.append", "audio": "AAAA" * 3200}))
        await spoken.send('{"type": "input_audio_buffer.commit"}')
        committed = json.loads(await spoken.recv())
        stored = await until_all_are_stored(publisher)
        await publisher.close()

    assert [answer.status_code for answer in (*away, refused.value.response)] == [503] * 4
    assert [one["start_frame"] for one in got] == [7, 7]
    assert again == {"streams": []}
    assert committed["type"] == "input_audio_buffer.committed"
    assert stored == AUDIO
    assert not [line for line in gateway.lines if "exception" in line or line["level"] == "ERROR"]


async def until_all_are_stored(publisher):
    """The samples of the stream ``s``, in the order in which they are stored."""
    reader = await publisher.jetstream().pull_subscribe("audio.s", stream="AUDIO")
    found = b""
    while len(found) < len(AUDIO):
        found += b"".join(one.data for one in await reader.fetch(100, timeout=5))
    return found


async def test_a_name_that_an_earlier_recording_had_is_refused_before_audio_is_lost(gateway):
    sound = level(5, BLOCK)
    for session in ("first", "second"):
        async with connect(audio_url(gateway, "names", session)) as socket:
            await socket.send(sound)
            assert (await received(socket, "position"))["frames"] == BLOCK
    async with connect(audio_url(gateway, "names", "first")) as socket:
        session = await received(socket, "session")
        await socket.send(level(6, BLOCK))
        said = json.loads(await socket.recv())
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await socket.recv()

    assert (session["position"], session["resumed"]) == (0, False)
    assert said["code"] == "session_used"
    assert closed.value.rcvd
    assert closed.value.rcvd.code == 1008


async def test_what_another_gateway_stores_late_takes_the_place_of_nothing(broker, gateway, publisher):
    """It is shorter, and has the offset and so the id of what is sent."""
    async with connect(audio_url(gateway, "late")) as socket:
        await send_from(socket, 0, until=BLOCK)
        assert (await received(socket, "position"))["frames"] == BLOCK
    async with connect(audio_url(gateway, "late")) as socket:
        assert (await received(socket, "session"))["position"] == BLOCK
        headers = {
            "Audio-Session": "take-1", "Audio-Offset": str(BLOCK), "Content-Type": CONTENT_TYPE,
            "Nats-Msg-Id": f"late:take-1:{BLOCK}",
        }  # fmt: skip
        await publisher.jetstream().publish("audio.late", AUDIO[2 * BLOCK : 2 * BLOCK + 200], headers=headers)
        await socket.send(AUDIO[2 * BLOCK : 4 * BLOCK])
        await socket.send(AUDIO[4 * BLOCK : 6 * BLOCK])
        await socket.send('{"type": "end"}')
        while (await received(socket, "position"))["frames"] < 3 * BLOCK:
            pass
        await socket.wait_closed()
    reader = await publisher.jetstream().pull_subscribe("audio.late", stream="AUDIO")
    stored: list[Any] = []
    while not (stored and "Audio-End" in stored[-1].headers):
        stored += await reader.fetch(100, timeout=PATIENCE_S)

    offsets = [int(one.headers["Audio-Offset"]) for one in stored]
    assert offsets == [0, BLOCK, BLOCK + 100, 2 * BLOCK, 3 * BLOCK]
    assert b"".join(one.data for one in stored) == AUDIO[: 6 * BLOCK]


async def uploaded(publisher):
    """Messages of files in the object store."""
    return (await publisher.jetstream().stream_info("OBJ_AUDIO_FILES")).state.messages


async def test_sigterm_ends_open_uploads_and_leaves_nothing_of_them(broker, tmp_path):
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        "Content-Length: 100000000\r\n\r\n"
        '--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n'
    )
    publisher = await nats.connect(broker.url)
    async with Daemon(broker.url, tmp_path, FILES=1):
        with GatewayProcess(broker.url, limits={"server.STOP_S": 1}) as gateway:
            uploads = [await asyncio.open_connection("127.0.0.1", urlsplit(gateway.url).port) for _ in range(3)]
            for number, (_, writer) in enumerate(uploads):
                writer.write(head.encode() + bytes(number * 2_000_000))
                await writer.drain()
            async with asyncio.timeout(PATIENCE_S):
                while not await uploaded(publisher):
                    pass
            stopping = asyncio.create_task(asyncio.to_thread(gateway.stop))
            answers = [await reader.read() for reader, _ in uploads]
            status = await stopping
            for _, writer in uploads:
                writer.close()
    left = await uploaded(publisher)
    await publisher.close()

    assert status == 0
    assert [answer[9:12] for answer in answers] == [b"503"] * 3
    assert left == 0
    assert gateway.lines[-1]["msg"] == "stopped"
    assert not [line for line in gateway.lines if "exception" in line]
