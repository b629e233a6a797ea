"""Hostile publishers: any bytes as payload, headers and subject cost nobody else anything."""

import asyncio
import random

import pytest

from tests.support.audio import level, speak
from tests.support.clip_requests import discover
from tests.support.daemon import Daemon
from tests.support.hostile_protocol import POISON, publication
from tests.support.waiting import until
from transcriber.audio.format import SampleFormat
from transcriber.schema.messages import End, Gap

MESSAGES = 100_000
RATE = 8_000  # messages a second
CHUNK = 1_600
NAMES = [f"fuzz-{number}" for number in range(40)]
SEED = random.randrange(2**32)


def values(rng, name):
    """Something for a header: often nearly right."""
    match name:
        case "Audio-Offset":
            good = str(rng.choice([0, 1, 1600, 10**6, 2**53, 2**53 + 1, -1, rng.randrange(2**64)]))
        case "Audio-Time":
            good = rng.choice(
                [
                    "2026-11-21T00:00:00Z",
                    "9999-99-99T99:99:99Z",
                    "2026-11-21",
                    "0001-01-01T00:00:00+23:59",
                    "8999-12-31T23:59:59Z",
                ]
            )
        case "Content-Type":
            rate, channels = rng.choice([16_000, 8_000, 7, 10**9]), rng.choice([1, 2, 3, 0])
            good = f"audio/x-raw;format={rng.choice(list(SampleFormat))};rate={rate};channels={channels}"
        case "Audio-End":
            good = rng.choice(["1", "0", "yes", ""])
        case _:
            good = rng.choice(["en", "a", "x" * 300, "00-" + "0" * 32 + "-" + "0" * 16 + "-00"])
    if rng.random() < 0.3:
        at = rng.randrange(len(good) + 1)
        good = good[:at] + chr(rng.randrange(32, 0x2FF)) + good[at:]
    return good.replace("\r", "").replace("\n", "")


HEADERS = [
    "Audio-Offset",
    "Audio-Time",
    "Content-Type",
    "Audio-End",
    "Audio-Session",
    "Language",
    "Prompt",
    "traceparent",
]


def headers(rng):
    chosen = rng.sample(HEADERS, rng.randrange(len(HEADERS) + 1))
    cased = [rng.choice([str.lower, str.upper, str])(name) for name in chosen]
    lines = [f"{shown}: {values(rng, name)}" for shown, name in zip(cased, chosen, strict=True)]
    return ("NATS/1.0\r\n" + "".join(line + "\r\n" for line in lines) + "\r\n").encode("utf-8", "surrogatepass")


def frame(rng):
    """One protocol frame of a hostile publisher."""
    if rng.random() < 0.02:
        subject, block = rng.choice(POISON)
    else:
        name = rng.choice(NAMES) if rng.random() < 0.95 else rng.choice(["ü", "a!b", "x" * 65, "$", "per%cent"])
        subject, block = f"audio.{name}".encode(), headers(rng) if rng.random() < 0.5 else None
    payload = rng.randbytes(rng.choice([0, 1, 2, 3, 64, 65, 640, 3_201]))
    return publication(subject, block, payload)


async def attack(port, rng, client):
    """Send ``MESSAGES``; the daemon, which ``client`` asks, is never behind by more than the broker keeps for it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await reader.readline()
    writer.write(b'CONNECT {"verbose":false,"pedantic":false,"headers":true}\r\n')
    began_s = asyncio.get_running_loop().time()
    for number in range(MESSAGES):
        writer.write(frame(rng))
        if number % 200 == 0:
            # Below what one core takes: this is about what the messages say, not about how many there are.
            await writer.drain()
            await asyncio.sleep(began_s + number / RATE - asyncio.get_running_loop().time())
        if number % 2_000 == 0:
            await taken(reader, writer)
            await discover(client, "PING")  # on the daemon's connection, behind all that was sent
    await taken(reader, writer)
    writer.close()
    await writer.wait_closed()


async def taken(reader, writer):
    """Until the broker has all that was written."""
    writer.write(b"PING\r\n")
    while await reader.readline() != b"PONG\r\n":
        pass


async def test_no_malformed_message_silences_the_client(broker, tmp_path, publisher, listener):
    """Each one, with payloads that look like protocol, and after each a good payload."""
    payloads = [b"", b"4", b"12", b"9999999", b"\r\n", b"MSG audio.s 1 4\r\n1234"]
    cases = [(subject, block, payload) for subject, block in POISON for payload in payloads]
    async with Daemon(broker.url, tmp_path, INPUT_SAMPLE_RATE=16_000) as daemon:
        reader, writer = await asyncio.open_connection("127.0.0.1", broker.port)
        await reader.readline()
        writer.write(b'CONNECT {"verbose":false,"pedantic":false,"headers":true}\r\n')
        for subject, block, payload in cases:
            writer.write(publication(subject, block, payload))
            writer.write(b"PUB audio.good %d\r\n%b\r\n" % (2 * CHUNK, level(5, CHUNK)))
        writer.write(b"HPUB audio.good 26 26\r\nNATS/1.0\r\nAudio-End: 1\r\n\r\n\r\n")
        await writer.drain()
        (end,) = await until(lambda: listener.of(End, "good"), "the end of the good stream")
        writer.close()

    assert end.received_frames == len(cases) * CHUNK
    assert "disconnected" not in daemon.log()


@pytest.mark.long
async def test_a_hundred_thousand_hostile_messages_cost_good_streams_nothing(broker, tmp_path, publisher, listener):
    print(f"seed {SEED}")
    env = {"INPUT_SAMPLE_RATE": 16_000, "BUFFER_DURATION_SECS": 1, "TRANSCRIPTION_QUEUE_CAPACITY": 256}
    # What is drawn may have any level, also that of which the fake model hangs.
    async with Daemon(broker.url, tmp_path, **env, FAKE_HANG_AT=9999) as daemon:
        attacking = asyncio.create_task(attack(broker.port, random.Random(SEED), publisher))
        sent = 0
        while not attacking.done():
            await speak(publisher, "good", level(5, CHUNK), offset=sent)
            await speak(publisher, "plain", level(6, CHUNK))
            sent += CHUNK
            await asyncio.sleep(0.01)
        await attacking
        for name in ("good", "plain"):
            await speak(publisher, name, b"", end=1)
        await until(lambda: listener.of(End, "good") and listener.of(End, "plain"))
        figures = await until(lambda: listener.metrics[-1]["transcriber.messages.malformed"] and listener.metrics[-1])
        status, _ = await daemon.stop()

    assert status == 0, daemon.log()[-3000:]
    listener.check_accounts()
    assert not listener.of(Gap, "good")
    assert not listener.of(Gap, "plain")
    assert [end.transcribed_frames for end in listener.of(End, "good") + listener.of(End, "plain")] == [sent, sent]
    assert set(listener.text("good").split()) == {"5"}
    assert set(listener.text("plain").split()) == {"6"}
    assert figures["transcriber.chunks.dropped"]["bad_input"] > MESSAGES / 10
    assert "Traceback" not in daemon.log()
