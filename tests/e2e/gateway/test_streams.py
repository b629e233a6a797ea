"""Audio and text of streams through real gateways, with a real broker that stores, and the real daemon."""

import asyncio
import json

import httpx
import pytest
import websockets
from websockets.asyncio.client import connect

from tests.support.audio import level
from tests.support.daemon import Daemon
from tests.support.durable_streams import ENV, RATE, WINDOW, provisioned, until_ended
from tests.support.gateway import GatewayProcess
from tests.support.waiting import PATIENCE_S
from transcriber.testing.broker import EmbeddedBroker

CONTENT_TYPE = f"audio/x-raw;format=S16LE;rate={RATE};channels=1"
BLOCK = WINDOW // 5
LEVELS = range(1, 9)
AUDIO = b"".join(level(value, WINDOW) for value in LEVELS)
FRAMES = len(AUDIO) // 2


@pytest.fixture
def broker(tmp_path):
    with EmbeddedBroker(store=tmp_path / "store") as running:
        yield running


def audio_url(gateway, stream="s", session="take-1", **query):
    text = "&".join(f"{name}={value}" for name, value in ({"content_type": CONTENT_TYPE} | query).items())
    return f"{gateway.websocket_url}/v1/streams/{stream}/audio?session={session}&{text}"


async def received(socket, kind):
    """The next message of a kind."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            message = json.loads(await socket.recv())
            assert message["type"] != "error", message
            if message["type"] == kind:
                return message


async def send_from(socket, frame, until=FRAMES):
    """Everything from a frame on, in blocks that do not start where earlier ones did."""
    for start in range(frame, until, BLOCK):
        await socket.send(AUDIO[2 * start : 2 * min(until, start + BLOCK)])


async def test_a_session_survives_the_death_of_its_gateway_to_the_frame(broker, tmp_path, publisher):
    await provisioned(broker)
    async with Daemon(broker.url, tmp_path, **ENV):
        with GatewayProcess(broker.url) as first, GatewayProcess(broker.url) as second:
            async with connect(audio_url(first)) as socket:
                assert await received(socket, "session") == {
                    "type": "session", "session": "take-1", "position": 0, "resumed": False, "ended": False,
                    "rate": RATE, "missing": [],
                }  # fmt: skip
                await send_from(socket, 0, until=3 * WINDOW)
                confirmed = (await received(socket, "position"))["frames"]
                sending = asyncio.create_task(send_from(socket, 3 * WINDOW))
                first.process.kill()
                with pytest.raises(websockets.ConnectionClosed):  # noqa: PT012 - whenever it comes
                    while True:
                        confirmed = (await received(socket, "position"))["frames"]
                await asyncio.gather(sending, return_exceptions=True)
            async with connect(audio_url(second)) as socket:
                session = await received(socket, "session")
                assert session["resumed"]
                assert session["missing"] == []
                assert confirmed <= session["position"] <= FRAMES
                await send_from(socket, session["position"])
                await socket.send('{"type": "end"}')
                while (await received(socket, "position"))["frames"] < FRAMES:
                    pass
            found = await until_ended(publisher)
            async with connect(audio_url(second)) as socket:
                session = await received(socket, "session")

    assert (session["position"], session["ended"]) == (FRAMES, True)
    assert found.text == [str(value) for value in LEVELS]
    assert found.gaps == []
    assert found.sessions == ["take-1"]
    found.check(FRAMES)


async def test_stored_text_is_read_from_a_sequence_and_as_captions(broker, tmp_path, publisher):
    await provisioned(broker)
    with GatewayProcess(broker.url) as gateway:
        async with Daemon(broker.url, tmp_path, **ENV):
            async with connect(f"{gateway.websocket_url}/v1/streams/s/transcript") as listening:
                async with connect(audio_url(gateway)) as socket:
                    await send_from(socket, 0)
                    await socket.send('{"type": "end"}')
                await received(listening, "end")
            await until_ended(publisher)
        async with httpx.AsyncClient(base_url=f"{gateway.url}/v1/streams/s", timeout=PATIENCE_S) as client:
            whole = await sse(client, "/transcript?from=1", until="end")
            rest = await sse(client, "/transcript", until="end", last_id=whole[2][1])
            captions = await client.get("/transcript.vtt?session=take-1")
            unknown = await client.get("/transcript.vtt?session=take-2")
            odd = await client.get("/transcript?from=x")
            encoded = await refusal(audio_url(gateway, content_type="audio/webm"))
            changed = await refusal(audio_url(gateway, content_type="audio/x-raw;rate=8000"))

    texts = [json.loads(data)["text"] for event, _, data in whole if event == "final"]
    assert texts == [str(value) for value in LEVELS]
    assert [int(number) for _, number, _ in whole] == sorted({int(number) for _, number, _ in whole})
    assert rest == whole[3:]
    assert captions.text.startswith("WEBVTT\n")
    assert captions.headers["content-type"].startswith("text/vtt")
    words = [line for line in captions.text.splitlines() if line and "-->" not in line]
    assert " ".join(words[2::2]).split() == texts  # the head, then a number and a line a cue
    assert unknown.status_code == 404
    assert (odd.status_code, odd.json()["error"]["param"]) == (400, "from")
    assert encoded["code"] == "encoded_audio_is_live_only"
    assert changed["code"] == "format_changed"


async def sse(client, path, *, until, last_id=""):
    """(event, id, data) of each event, up to the first of a kind."""
    found, fields = [], {}
    async with client.stream("GET", path, headers={"Last-Event-ID": last_id} if last_id else {}) as answer:
        assert answer.status_code == 200, await answer.aread()
        async for line in answer.aiter_lines():
            if line and not line.startswith(":"):
                name, _, value = line.partition(": ")
                fields[name] = value
            elif not line and fields:
                found.append((fields["event"], fields.get("id"), fields["data"]))
                if fields["event"] == until:
                    return found
                fields = {}
    raise AssertionError(f"no {until}: {found}")


async def refusal(url):
    """The error of a handshake that is refused."""
    with pytest.raises(websockets.InvalidStatus) as caught:
        await connect(url)
    return json.loads(caught.value.response.body)["error"]
