"""Realtime transcription with OpenAI's own client: a real gateway, broker and daemon with the bundled model, bundled speech."""

import asyncio
import base64
import json
import re
from contextlib import asynccontextmanager
from typing import Any

import nats
import numpy as np
import openai
import pytest
import soxr
import websockets

from tests.support.gateway import GatewayProcess
from tests.support.waiting import PATIENCE_S, settled, until
from transcriber.testing.broker import EmbeddedBroker
from transcriber.testing.daemon import DaemonProcess
from transcriber.testing.speech import load_speech

RATE = 24_000
SPEECH = load_speech()[0]
SPOKEN_S = 8
SAMPLES = soxr.resample(np.frombuffer(SPEECH.pcm, "<i2")[: 48_000 * SPOKEN_S], 48_000, RATE)
PCM = SAMPLES.astype("<i2").tobytes()
QUIET = bytes(2 * RATE * 2)
PREFIX = "conversation.item.input_audio_transcription."


@pytest.fixture(scope="module")
def broker_url():
    with EmbeddedBroker() as broker:
        yield broker.url


@pytest.fixture(scope="module")
def gateway(broker_url):
    with DaemonProcess(broker_url, HEARTBEAT_TIMEOUT_SECS="30") as daemon, GatewayProcess(broker_url) as running:
        assert asyncio.run(daemon.ready()), daemon.log()
        yield running


@asynccontextmanager
async def realtime(gateway, **query):
    client = openai.AsyncOpenAI(api_key="none", base_url=f"{gateway.url}/v1")
    async with client, client.realtime.connect(extra_query={"intent": "transcription", **query}) as connection:
        created = await receive(connection)
        assert created.type == "session.created"
        yield connection


async def receive(connection):
    async with asyncio.timeout(PATIENCE_S):
        return await connection.recv()


async def collect(connection, kind):
    """Events up to the first of a kind."""
    events: list[Any] = []
    while not events or events[-1].type != kind:
        events.append(await receive(connection))
        assert events[-1].type != "error", events[-1]
    return events


async def configure(connection, **audio_input):
    session = {"type": "transcription", "audio": {"input": audio_input}}
    await connection.session.update(session=session)
    return await receive(connection)


async def speak(connection, pcm):
    for at in range(0, len(pcm), RATE):  # half a second
        await connection.input_audio_buffer.append(audio=base64.b64encode(pcm[at : at + RATE]).decode())


def closing(error):
    """Code and reason of what the gateway has sent."""
    assert error.rcvd is not None
    return error.rcvd.code, error.rcvd.reason


def words(text):
    return re.findall(r"[a-z]+", text.lower())


def text_of(events):
    return words(" ".join(event.transcript for event in events if event.type == PREFIX + "completed"))


def assert_spoken(found):
    """Most of the words that are spoken, in order."""
    expected = words(SPEECH.text)
    assert len(found) >= SPOKEN_S
    assert sum(a == b for a, b in zip(found, expected, strict=False)) >= 0.7 * len(found), (found, expected)


async def test_subjects_are_those_of_the_settings(broker_url):
    subjects = {"AUDIO_SUBJECT": "sound.*", "TRANSCRIPT_SUBJECT_PREFIX": "texts"}
    with DaemonProcess(broker_url, **subjects) as daemon, GatewayProcess(broker_url, **subjects) as other:
        assert await daemon.ready(), daemon.log()
        async with realtime(other) as connection:
            await configure(connection, turn_detection=None)
            await speak(connection, PCM[: 2 * 3 * RATE])
            await connection.input_audio_buffer.commit()
            events = await collect(connection, PREFIX + "completed")

    assert text_of(events)[:3] == words(SPEECH.text)[:3]


async def test_voice_activity_ends_items(gateway):
    async with realtime(gateway) as connection:
        updated = await configure(
            connection,
            format={"type": "audio/pcm", "rate": RATE},
            transcription={"model": "gpt-4o-mini-transcribe", "language": "en"},
            turn_detection={
                "type": "server_vad",
                "threshold": 0.5,
                "prefix_padding_ms": 600,
                "silence_duration_ms": 350,
            },
        )
        assert updated.type == "session.updated"
        await speak(connection, PCM + QUIET)
        events: list[Any] = []
        while len(text_of(events)) < SPOKEN_S:
            events += await collect(connection, PREFIX + "completed")

    assert_spoken(text_of(events))
    first = events[0]
    assert first.type == "input_audio_buffer.speech_started"
    own = [event for event in events if getattr(event, "item_id", None) == first.item_id]
    kinds = [event.type.rpartition(".")[2] for event in own if not event.type.endswith(".delta")]
    assert kinds == ["speech_started", "speech_stopped", "committed", "completed"]
    stopped, completed = own[[event.type.endswith("speech_stopped") for event in own].index(True)], own[-1]
    assert first.audio_start_ms < stopped.audio_end_ms <= 1000 * (SPOKEN_S + 2)
    assert completed.usage.type == "duration"


async def test_commit_ends_an_item(gateway):
    async with realtime(gateway, model="demo") as connection:
        updated = await configure(connection, turn_detection=None)
        assert updated.session.audio.input.turn_detection is None
        await speak(connection, PCM)
        await connection.input_audio_buffer.commit()
        events = await collect(connection, PREFIX + "completed")

    committed = next(event for event in events if event.type == "input_audio_buffer.committed")
    completed = events[-1]
    assert completed.item_id == committed.item_id
    assert completed.usage.seconds == pytest.approx(SPOKEN_S, abs=0.2)
    assert_spoken(words(completed.transcript))
    assert not any("speech" in event.type for event in events)


async def test_an_error_leaves_the_session_open(gateway):
    async with realtime(gateway) as connection:
        refused = await configure(connection, turn_detection={"type": "semantic_vad"})
        assert (refused.type, refused.error.param) == ("error", "session.audio.input.turn_detection.type")
        await connection.input_audio_buffer.append(audio="?")
        assert (await receive(connection)).error.code == "invalid_value"
        await connection.input_audio_buffer.clear()
        assert (await receive(connection)).type == "input_audio_buffer.cleared"


@pytest.mark.parametrize(("query", "status"), [("intent=transcription&model=large-v9", 404), ("model=whisper-1", 400)])
async def test_what_is_not_here_is_refused_before_the_handshake(gateway, query, status):
    with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
        await websockets.connect(f"{gateway.websocket_url}/v1/realtime?{query}")

    assert refused.value.response.status_code == status
    assert json.loads(refused.value.response.body)["error"]["message"]


async def test_the_audio_ends_with_the_connection_and_sigterm_closes_it_with_1012(broker_url):
    client = await nats.connect(broker_url)
    taken = []

    async def take(message):
        taken.append(message.headers or {})

    await client.subscribe("audio.*", cb=take)  # in the daemon's place
    await settled(client)
    with GatewayProcess(broker_url) as gateway:
        async with websockets.connect(f"{gateway.websocket_url}/v1/realtime?intent=transcription") as socket:
            await socket.recv()
            await socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": "AAAA" * 1600}))
            await socket.send(json.dumps({"type": "input_audio_buffer.commit"}))
            assert json.loads(await socket.recv())["type"] == "input_audio_buffer.committed"
            assert await asyncio.to_thread(gateway.stop) == 0
            with pytest.raises(websockets.exceptions.ConnectionClosed) as closed:
                await socket.recv()
        assert closing(closed.value)[0] == 1012
    await until(lambda: taken and taken[-1].get("Audio-End") == "1")
    assert [one["Audio-Flush"] for one in taken if "Audio-Flush" in one] == ["1"]
    assert taken[-1]["Audio-Offset"] == "2400"
    await client.close()


async def test_without_a_daemon_the_connection_is_closed_with_1013():
    with EmbeddedBroker() as broker, GatewayProcess(broker.url) as gateway:
        async with websockets.connect(f"{gateway.websocket_url}/v1/realtime?intent=transcription") as socket:
            with pytest.raises(websockets.exceptions.ConnectionClosed) as closed:
                await socket.recv()

    assert closing(closed.value) == (1013, "no daemon takes streams")
