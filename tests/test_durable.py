"""Durable mode: at least once in, exactly once out. What is stored is read back from the broker."""

import asyncio
import base64
import json

import pytest

from tests.harness import Daemon, level, speak
from transcriber.demo.account import account_errors
from transcriber.demo.broker import EmbeddedBroker
from transcriber.messages import ANY_MESSAGE, AnyMessage, End, Final

RATE = 16_000
WINDOW = RATE // 2
ENV = {"DURABLE": 1, "PROVISION": 1, "INPUT_SAMPLE_RATE": RATE, "BUFFER_DURATION_SECS": 0.5}


@pytest.fixture
def store(tmp_path):
    return tmp_path / "jetstream"


@pytest.fixture
def broker(store):
    with EmbeddedBroker("--jetstream", "--store_dir", str(store)) as running:
        yield running


async def stored(client, stream="s"):
    """What the broker keeps of a stream's text, in order."""
    found: list[AnyMessage] = []
    seq = 1
    while True:
        question = json.dumps({"seq": seq, "next_by_subj": f"transcripts.{stream}.*"}).encode()
        answer = json.loads((await client.request("$JS.API.STREAM.MSG.GET.TRANSCRIPTS", question, timeout=5)).data)
        if "message" not in answer:
            return found
        found.append(ANY_MESSAGE.validate_json(base64.b64decode(answer["message"]["data"])))
        seq = answer["message"]["seq"] + 1


async def ended(client, stream="s", count=1):
    async def end():
        while True:
            found = await stored(client, stream)
            if sum(isinstance(m, End) for m in found) >= count:
                return found

    return await asyncio.wait_for(end(), 8)


async def test_audio_that_was_stored_before_the_daemon_came_is_transcribed(broker, tmp_path, mouth):
    async with Daemon(broker.url, tmp_path, **ENV) as daemon:
        for n in range(6):
            await speak(mouth, "s", level(n + 1, WINDOW), offset=n * WINDOW)
        await speak(mouth, "s", b"", end=1)
        messages = await ended(mouth)
        status, _ = await daemon.stop()
    for m in messages:
        print(m)
    print(daemon.log())
    assert status == 0
    assert [m.text for m in messages if isinstance(m, Final)] == ["1", "2", "3", "4", "5", "6"]
    assert account_errors(messages, 6 * WINDOW) == []
