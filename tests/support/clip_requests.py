"""What the tests of one-shot requests share: clips, and how they are sent."""

import asyncio
import io
import json
import wave

import numpy as np

from tests.support.audio import level
from tests.support.waiting import PATIENCE_S

SUBJECT = "transcriber.transcribe"
RATE = 16_000


def wav(pcm, rate=RATE, channels=1):
    """A WAV file in memory, S16LE."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(pcm)
    return file.getvalue()


def clip(thousandths, seconds=1.0):
    """A WAV file of constant level, which the fake model transcribes as the text ``thousandths``."""
    return wav(level(thousandths, round(seconds * RATE)))


def noise(seconds, amplitude=0.01):
    samples = np.random.default_rng(5).normal(0, amplitude, round(seconds * RATE))
    return wav((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())


async def ask(client, payload, *, timeout_s=PATIENCE_S, subject=SUBJECT, **headers):
    """Ask; ``response_format="srt"`` becomes ``Response-Format: srt``."""
    named = {name.replace("_", "-").title(): value for name, value in headers.items()}
    return await client.request(subject, payload, timeout=timeout_s, headers=named or None)


def code(reply):
    """Of an error; 200 if it is none."""
    return int((reply.headers or {}).get("Nats-Service-Error-Code", 200))


def text(reply):
    assert code(reply) == 200, reply.headers
    return json.loads(reply.data)["text"]


async def ask_many(client, payloads, **options):
    return await asyncio.gather(*(ask(client, payload, **options) for payload in payloads))


async def discover(client, verb):
    """What one service answers to PING, INFO or STATS."""
    return json.loads((await client.request(f"$SRV.{verb}.transcriber", b"", timeout=PATIENCE_S)).data)
