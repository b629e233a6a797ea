"""Live sessions that come and go. In: a site, chance. Out: the account of each, checked.

To the frame, where nothing happened on the way to the daemon. A session beside which a connection was lost, by a fault or as the
machine was busy, may have lost messages, which nobody keeps: of that one the sums of its ``end``, unless that was lost, must be exact,
and say no more than was sent.
"""

import asyncio
import contextlib
from dataclasses import dataclass
from functools import cache, partial
from random import Random

import numpy as np
from nats.errors import Error

from bench.chaos.daemons import until
from bench.lib.media_files import KINDS, encode
from bench.lib.paced import speech
from bench.soak.site import LIVE_SUBJECT, Site
from transcriber.schema.messages import AnyMessage, End
from transcriber.testing.speech import SPEECH_FORMAT
from transcriber.testing.verify import account_errors

RATE = SPEECH_FORMAT.rate
PAYLOAD_FRAMES = RATE // 10
ENCODED = {"webm opus": "audio/webm", "ogg opus": "audio/ogg", "mp3 cbr": "audio/mpeg", "adts": "audio/aac"}
CHUNK_BYTES = 4096

AGAIN_S = 5.0

END_WITHIN_S = 180.0
"""On a machine so busy that the daemon is behind; where the connection was lost right then it never comes."""

Payloads = list[tuple[bytes, dict[str, str]]]


@dataclass(frozen=True, slots=True)
class Take:
    """A session to be: its payloads, its frames (None: as many as are decoded), how long it lasts as it was spoken."""

    payloads: Payloads
    frames: int | None
    audio_s: float


async def play(site: Site, rng: Random, stream: str, length_s: float) -> None:
    """One to three sessions on a stream, one after the other, for so many seconds in all."""
    number = rng.randint(1, 3)
    for session in range(number):
        encoded = rng.random() < 0.4
        take = _encoded(rng) if encoded else _pcm(rng, length_s / number * site.speed)
        always = {"Audio-Session": f"{stream}-{session}"} if rng.random() < 0.7 else {}
        site.tally.count("live sessions, encoded" if encoded else "live sessions, PCM", take.audio_s)
        if not await _play_one(site, stream, take, always):
            break  # its messages may still come


async def _play_one(site: Site, stream: str, take: Take, always: dict[str, str]) -> bool:
    """Whether its end came at once, so that nothing more comes of it."""
    site.captions[stream] = []
    before = site.faults, site.reconnects
    pace_s = take.audio_s / site.speed / len(take.payloads)
    loop = asyncio.get_running_loop()
    due_s = loop.time()
    for data, headers in take.payloads:
        with contextlib.suppress(Error):  # the broker is away, and what is buffered for it full
            await site.client.publish(f"{LIVE_SUBJECT}.{stream}", data, headers=always | headers)
        due_s += pace_s
        await asyncio.sleep(due_s - loop.time())
    await site.calm.wait()
    end = partial(site.client.publish, f"{LIVE_SUBJECT}.{stream}", b"", headers=always | {"Audio-End": "1"})
    await end()
    at_once = await until(lambda: _ended(site.captions[stream]), AGAIN_S)
    if not at_once and before[0] != site.faults:
        await end()  # it may have gone with the broker
    ended = at_once or await until(lambda: _ended(site.captions[stream]), END_WITHIN_S)
    await site.heard()
    disturbed = before != (site.faults, site.reconnects)
    messages = site.captions.pop(stream)
    if ended:
        errors = _sum_errors(messages, take.frames) if disturbed else _errors(site, take, messages)
    else:
        errors = [] if disturbed else ["no end"]
    site.tally.errors += [f"{stream}: {error}" for error in errors]
    lost = "" if ended else ", end lost"
    site.tally.count(f"live sessions over a fault{lost}" if disturbed else "live sessions to the frame")
    return at_once


def _ended(messages: list[AnyMessage]) -> bool:
    return any(isinstance(message, End) for message in messages)


def _errors(site: Site, take: Take, messages: list[AnyMessage]) -> list[str]:
    """Of a session that nothing disturbed."""
    (end,) = (message for message in messages if isinstance(message, End))
    frames = take.frames
    if frames is None:
        frames = site.shelf.frames.setdefault(take.payloads[0][0], end.frames)
    return account_errors(messages, frames)


def _sum_errors(messages: list[AnyMessage], sent_frames: int | None) -> list[str]:
    """Of one that may have lost messages; its end may have followed a loss of its middle, so the last one counts."""
    *_, end = (message for message in messages if isinstance(message, End))
    errors = []
    if end.received_frames != end.transcribed_frames + end.silent_frames + end.dropped_frames:
        errors.append("received is not transcribed + silent + dropped")
    if end.frames != end.received_frames + end.lost_frames:
        errors.append("frames are not received + lost")
    if sent_frames is not None and end.frames > sent_frames:
        errors.append(f"{end.frames} frames of {sent_frames}")
    return errors


def _pcm(rng: Random, audio_s: float) -> Take:
    """Speech from any place on: with holes, rubbish, heartbeats, flushes, pauses of the speaker; in one channel or two."""
    channels = rng.choice((1, 1, 2))
    offsets = rng.random() < 0.5
    count = max(10, round(audio_s * RATE / PAYLOAD_FRAMES))
    samples, first = _speech(), rng.randrange(len(_speech()))
    always = {"Content-Type": f"audio/x-raw;format=S16LE;rate={RATE};channels={channels}"}
    payloads: Payloads = []
    for number in range(count):
        place = np.arange(first + number * PAYLOAD_FRAMES, first + (number + 1) * PAYLOAD_FRAMES) % len(samples)
        own = always | ({"Audio-Offset": str(number * PAYLOAD_FRAMES)} if offsets else {})
        chance = rng.random()
        if offsets and 0 < number < count - 1 and chance < 0.02:
            continue  # a hole
        if chance > 0.98:
            payloads.append((b"?", own))
        if chance > 0.95:
            payloads.append((b"", always))
        if 0.9 < chance < 0.93:
            own |= {"Audio-Flush": "1"}
        data = np.zeros(PAYLOAD_FRAMES, "<i2") if number % 60 > 50 else samples[place]
        payloads.append((data.repeat(channels).tobytes(), own))
    return Take(payloads, count * PAYLOAD_FRAMES, count * PAYLOAD_FRAMES / RATE)


def _encoded(rng: Random) -> Take:
    """A recording as browsers and internet radios send them, in chunks."""
    kind = rng.choice([kind for kind in ENCODED if kind in KINDS])
    audio_s, data = _recording(kind, rng.randint(4, 7))
    chunks = [data[at : at + CHUNK_BYTES] for at in range(0, len(data), CHUNK_BYTES)]
    return Take([(chunk, {"Content-Type": ENCODED[kind]}) for chunk in chunks], None, audio_s)


@cache
def _recording(kind: str, seconds: int) -> tuple[float, bytes]:
    start = 3 * RATE * seconds
    return float(seconds), encode(KINDS[kind], _speech()[start : start + seconds * RATE, np.newaxis], RATE)


@cache
def _speech() -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    return np.frombuffer(speech(), "<i2")
