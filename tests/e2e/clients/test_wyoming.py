"""Home Assistant's way: a client of the Wyoming protocol, wyoming-openai as it is started by default, and the gateway."""

import asyncio
import os
import subprocess
from importlib import import_module
from typing import Any

import pytest

from tests.support.ports import free_port
from tests.support.vendors import assert_spoken, documented, needs, speech
from tests.support.waiting import PATIENCE_S

PYTHON = os.environ.get("WYOMING_OPENAI_PYTHON", "")
"""The one that has wyoming-openai, which needs an older openai than LiveKit's plugin."""

pytestmark = [
    needs("wyoming", "wyoming-openai"),
    pytest.mark.skipif(not PYTHON, reason="no wyoming-openai"),
    pytest.mark.filterwarnings("ignore:'audioop':DeprecationWarning"),  # of wyoming.audio
]

RATE = 16_000
AUDIO = speech(RATE, quiet_s=0.5)
CHUNK = 2048


def wyoming(module):
    return import_module(f"wyoming.{module}")


@pytest.fixture(scope="module")
def proxy(gateway):
    """wyoming-openai as a process."""
    uri = f"tcp://127.0.0.1:{free_port()}"
    *settings, program, flag, module = documented("STT_OPENAI_URL=", gateway.url).split()
    environment = os.environ | dict(setting.split("=", 1) for setting in settings)
    environment |= {"WYOMING_URI": uri, "STT_STREAMING_MODELS": "gpt-4o-transcribe gpt-transcribe"}
    environment["STT_MODELS"] += " large-v9"
    environment["STT_REALTIME_MODELS"] += " gpt-realtime-whisper"
    assert program == "python"
    with subprocess.Popen([PYTHON, flag, module], env=environment, cwd="/") as running:
        yield uri
        running.terminate()


async def connected(uri):
    """A client, once the proxy listens."""
    client = wyoming("client").AsyncClient.from_uri(uri)
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                await client.connect()
            except OSError:
                await asyncio.sleep(0.05)
            else:
                return client


async def transcribe(uri, model, language="en"):
    """Events of the answer, up to the transcript or an error."""
    asr, audio = wyoming("asr"), wyoming("audio")
    client = await connected(uri)
    try:
        await client.write_event(asr.Transcribe(name=model, language=language).event())
        await client.write_event(audio.AudioStart(RATE, 2, 1).event())
        for at in range(0, len(AUDIO), CHUNK):
            await client.write_event(audio.AudioChunk(RATE, 2, 1, AUDIO[at : at + CHUNK]).event())
        await client.write_event(audio.AudioStop().event())
        events: list[Any] = []
        while not events or events[-1].type not in {"transcript", "error"}:
            async with asyncio.timeout(PATIENCE_S):
                events.append(await client.read_event())
            assert events[-1], "the connection was closed"
        return events
    finally:
        await client.disconnect()


async def test_home_assistant_finds_the_models(proxy):
    client = await connected(proxy)
    await client.write_event(wyoming("info").Describe().event())
    async with asyncio.timeout(PATIENCE_S):
        info = wyoming("info").Info.from_event(await client.read_event())
    await client.disconnect()

    assert {model.name for program in info.asr for model in program.models} >= {"whisper-1", "gpt-live-transcribe"}


@pytest.mark.parametrize("model", ["gpt-live-transcribe", "gpt-realtime-whisper"])
async def test_live_speech_becomes_pieces_and_a_transcript(proxy, model):
    *pieces, transcript = await transcribe(proxy, model)

    assert_spoken(transcript.data["text"])
    assert any(piece.type == "transcript-chunk" for piece in pieces)


@pytest.mark.parametrize("model", ["whisper-1", "gpt-4o-transcribe", "gpt-transcribe"])
async def test_recorded_speech_becomes_a_transcript(proxy, model):
    *pieces, transcript = await transcribe(proxy, model)

    assert_spoken(transcript.data["text"])
    streamed = "".join(piece.data.get("text", "") for piece in pieces)
    assert streamed == ("" if model == "whisper-1" else transcript.data["text"])


async def test_a_model_that_is_not_loaded_is_an_error(proxy):
    assert (await transcribe(proxy, "large-v9"))[-1].type == "error"
