"""Many listeners, slow ones, figures and jobs, through a real gateway and a real broker."""

import asyncio
import hashlib
import json
from datetime import UTC, datetime
from functools import partial

import httpx
import pytest
import websockets
from websockets.asyncio.client import connect

from tests.e2e.gateway.test_streams import AUDIO, audio_url
from tests.support.gateway import GatewayProcess
from tests.support.waiting import PATIENCE_S, settled
from transcriber.schema.messages import Silence
from transcriber.schema.stream_figures import StreamFigure, StreamFigures

LISTENERS = 300
KEYS = {"radio": ('"listen", "publish", "transcribe"', "radio-*"), "all": ('"listen", "transcribe", "admin"', "*")}


def message(number, stream="s", session="one"):
    return (
        Silence(
            stream=stream, session=session, rate=16_000, start_frame=number, frames=1, start=number / 16_000,
            duration=1 / 16_000, received_at=datetime.now(UTC), speaker=None,
        )
        .model_dump_json(by_alias=True)
        .encode()
    )  # fmt: skip


@pytest.fixture
def keys_file(tmp_path):
    lines = [
        f'[keys.{name}]\nsha256 = "{hashlib.sha256(name.encode()).hexdigest()}"\nscopes = [{scopes}]\nstreams = ["{streams}"]\n'
        for name, (scopes, streams) in KEYS.items()
    ]
    path = tmp_path / "keys.toml"
    path.write_text("\n".join(lines))
    return path


def as_key(name):
    return {"Authorization": f"Bearer {name}"}


async def test_listeners_share_a_subscription_and_a_slow_one_is_dropped(broker, publisher):
    with GatewayProcess(broker.url) as gateway:
        url = f"{gateway.websocket_url}/v1/streams/s/transcript"
        plain = partial(connect, url, compression=None, ping_interval=None)
        stuck = await plain(max_queue=1)
        listening = [await plain() for _ in range(LISTENERS)]
        for number in range(3):
            await publisher.publish("transcripts.s.silence", message(number))
        heard = [[json.loads(await one.recv())["start_frame"] for _ in range(3)] for one in listening]
        await asyncio.gather(*(one.close() for one in listening))
        quick = await plain()
        padded = message(3) + b" " * 500_000
        for _ in range(40):  # more than a gateway and two kernels keep for a listener
            await publisher.publish("transcripts.s.silence", padded)
            assert json.loads(await quick.recv())["start_frame"] == 3
        await quick.close()
        with pytest.raises(websockets.ConnectionClosed) as closed:  # noqa: PT012 - whenever it comes
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    await stuck.recv()

    assert heard == [[0, 1, 2]] * LISTENERS
    # One that reads on in time sees why; one that does not is cut off.
    assert closed.value.rcvd is None or (closed.value.rcvd.code, closed.value.rcvd.reason[:12]) == (
        1008,
        "slow reader:",
    )


async def test_live_audio_goes_on_where_a_daemon_says_and_keys_see_their_streams(broker, publisher, keys_file):
    figure = StreamFigure(
        stream="radio-7", session="take-1", state="started", rate=16_000, received_frames=4711, level_dbfs=-20.0,
        speaking=True, last_text_at=None, lag_s=0, lost_s=0,
    )  # fmt: skip
    figures = StreamFigures(
        instance="d",
        at=datetime.now(UTC),
        page=0,
        pages=1,
        streams=(figure, figure.model_copy(update={"stream": "tv"})),
    )

    async def answer(request):
        await publisher.publish(request.reply, figures.model_dump_json(by_alias=True).encode())

    await publisher.subscribe("transcriber.streams", cb=answer)
    audio = await publisher.subscribe("audio.radio-7")
    await settled(publisher)
    with GatewayProcess(broker.url, GATEWAY_KEYS_FILE=keys_file) as gateway:
        async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE_S) as client:
            own = (await client.get("/v1/streams", headers=as_key("radio"))).json()["streams"]
            both = (await client.get("/v1/streams", headers=as_key("all"))).json()["streams"]
        async with connect(audio_url(gateway, "radio-7"), additional_headers=as_key("radio")) as socket:
            session = json.loads(await socket.recv())
            await socket.send(AUDIO[:101])
            await socket.send(AUDIO[101:200])
            await socket.send("nonsense")
            refused = json.loads(await socket.recv())
            while refused["type"] != "error":
                refused = json.loads(await socket.recv())
            await socket.send('{"type": "offset", "frame": 9000}')
            await socket.send('{"type": "update", "language": "English", "prompt": "Elbe\\nWeser"}')
            await socket.send(AUDIO[:20])
            await socket.send('{"type": "end"}')
            payloads = [await audio.next_msg(timeout=PATIENCE_S) for _ in range(4)]
        with pytest.raises(websockets.InvalidStatus) as closed:
            await connect(audio_url(gateway, "tv"), additional_headers=as_key("radio"))

    assert [one["stream"] for one in own] == ["radio-7"]
    assert [one["stream"] for one in both] == ["radio-7", "tv"]
    assert (session["position"], session["resumed"]) == (4711, True)
    assert refused["code"] == "invalid_message"
    assert [int(one.headers["Audio-Offset"]) for one in payloads] == [4711, 4761, 9000, 9010]
    assert b"".join(one.data for one in payloads) == AUDIO[:200] + AUDIO[:20]
    assert {one.headers["Audio-Session"] for one in payloads} == {"take-1"}
    assert [one.headers.get("Language") for one in payloads] == [None, None, "en", "en"]
    assert [one.headers.get("Prompt") for one in payloads] == [None, None, "Elbe Weser", None]
    assert payloads[3].headers["Audio-End"] == "1"
    assert closed.value.response.status_code == 403
