"""Recordings played to a daemon, in real time or faster, a few at once.

In: recordings, and how they go over the wire. Out: of each one all messages with the times at which they came, and the time
at which each of its payloads was published. Nothing is scored here.
"""

import asyncio
import io
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

import numpy as np
import soundfile
import soxr

from bench.lib.daemon import MeasuredDaemon
from bench.lib.paced import PAYLOAD_S
from bench.lib.recordings import Recording, Samples
from bench.lib.report import note
from transcriber.audio.codecs.pcm import decode
from transcriber.audio.format import AudioFormat, SampleFormat
from transcriber.audio.resampler import Resampler
from transcriber.bus.client_session import connected, parse_transcript, subscribe
from transcriber.bus.connection import Connection, NatsMessage
from transcriber.config import load_settings
from transcriber.engine.job import WHISPER_SAMPLE_RATE
from transcriber.schema.messages import AnyMessage, End, Final, Gap, Metrics, Partial

APART_S = 1.25
"""Streams that are played at once begin so long after each other, so that their windows do not come together."""

PATIENCE_S = 120.0
"""For the end of a recording whose last payload is published."""


@dataclass(frozen=True, slots=True)
class Wire:
    """How samples are sent: 16-bit linear or 8-bit mu-law, as ``format`` says."""

    format: AudioFormat

    def encode(self, samples: Samples) -> bytes:
        """(n,) float32 at 16 kHz, as it goes out."""
        at_rate = soxr.resample(samples, WHISPER_SAMPLE_RATE, self.format.rate)
        subtype = {SampleFormat.S16LE: "PCM_16", SampleFormat.MULAW: "ULAW"}[self.format.sample]
        out = io.BytesIO()
        soundfile.write(out, np.clip(at_rate, -1, 1), self.format.rate, subtype, "LITTLE", "RAW")
        return out.getvalue()

    def heard(self, samples: Samples) -> Samples:
        """What the daemon makes of it, at 16 kHz again."""
        resampler = Resampler(self.format.rate)
        return resampler.flush(decode(self.encode(samples), self.format)[0])

    def payloads(self, samples: Samples) -> Iterator[tuple[int, bytes]]:
        """Of ``PAYLOAD_S`` each, the last one shorter, with their ``Audio-Offset``."""
        raw, frames = self.encode(samples), int(PAYLOAD_S * self.format.rate)
        size = frames * self.format.frame_bytes
        for number, at in enumerate(range(0, len(raw), size)):
            yield number * frames, raw[at : at + size]


LINEAR = Wire(AudioFormat(SampleFormat.S16LE, WHISPER_SAMPLE_RATE))
TELEPHONE = Wire(AudioFormat(SampleFormat.MULAW, 8_000))


class Came(NamedTuple):
    """A message, and the monotonic time at which it came to us."""

    at_s: float
    message: AnyMessage


@dataclass(slots=True)
class Played:
    """One recording and what came of it.

    Attributes:
        stream: its name on the bus.
        published_s: monotonic time of each payload's publishing.
        came: in the order of their coming; the last one is its ``End``.
    """

    recording: Recording
    stream: str
    published_s: list[float] = field(default_factory=list)
    came: list[Came] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def published_at_s(self, time_s: float) -> float:
        """When the payload was published that holds this moment of the recording."""
        return self.published_s[min(int(time_s / PAYLOAD_S), len(self.published_s) - 1)]

    @property
    def finals(self) -> list[tuple[float, Final]]:
        return [(one.at_s, one.message) for one in self.came if isinstance(one.message, Final)]

    @property
    def partials(self) -> list[tuple[float, Partial]]:
        return [(one.at_s, one.message) for one in self.came if isinstance(one.message, Partial)]

    @property
    def gaps(self) -> list[Gap]:
        return [one.message for one in self.came if isinstance(one.message, Gap)]

    @property
    def end(self) -> End:
        return next(one.message for one in self.came if isinstance(one.message, End))

    @property
    def cuts_s(self) -> list[float]:
        """Where a window ended and another one began, in seconds from the start."""
        windows = [(final.start, final.start + final.duration) for _, final in self.finals]
        inside = {round(time_s, 3) for window in windows for time_s in window}
        return sorted(time_s for time_s in inside if 0 < time_s < self.recording.duration_s - PAYLOAD_S)


@dataclass(frozen=True, slots=True)
class Player:
    """A daemon that is ready, and we connected to its broker. Event loop only."""

    connection: Connection
    messages: AsyncIterator[NatsMessage]
    numbers: Iterator[int]
    rtf: float

    async def play(self, recordings: Iterable[Recording], wire: Wire, speed: float, at_once: int) -> list[Played]:
        """Play all of them, ``at_once`` at a time, ``speed`` times as fast as they were spoken; wait for their ends.

        Raises:
            TimeoutError: an end did not come.
        """
        played = [Played(one, f"played-{next(self.numbers)}") for one in recordings]
        waiting = iter(played)

        async def one_by_one(start_s: float) -> None:
            await asyncio.sleep(start_s)
            for one in waiting:
                await self._publish(one, wire, speed)
                await asyncio.wait_for(one.ended.wait(), PATIENCE_S)

        async with asyncio.TaskGroup() as group:
            group.create_task(self._hear(played))
            for number in range(at_once):
                group.create_task(one_by_one(number * APART_S / speed))
        return played

    async def play_without_loss(
        self, recordings: Iterable[Recording], wire: Wire, speed: float, at_once: int
    ) -> tuple[float, list[Played]]:
        """As ``play``; where audio was lost, once more at half the speed, and then half as many at once.

        Returns:
            The speed at which nothing was lost, and what was played.

        Raises:
            SystemExit: the daemon loses audio even of one recording in real time.
        """
        recordings = list(recordings)
        while True:
            played = await self.play(recordings, wire, speed, at_once)
            reasons = {gap.reason for one in played for gap in one.gaps}
            if not reasons:
                return speed, played
            lost = f"audio was lost ({', '.join(sorted(reasons))})"
            if speed <= 1 and at_once == 1:
                raise SystemExit(f"{lost}, one recording at a time, as fast as spoken")
            speed, at_once = (max(1.0, speed / 2), at_once) if speed > 1 else (speed, at_once // 2)
            note(f"words: {lost}; once more, {at_once} at once, {speed:g} times as fast as spoken")

    async def _hear(self, played: list[Played]) -> None:
        """Sort what comes by its stream, until all have ended."""
        by_stream = {one.stream: one for one in played}
        while not all(one.ended.is_set() for one in played):
            received = await anext(self.messages)
            at_s = time.monotonic()
            message = parse_transcript(received)
            if message is not None and message.stream in by_stream:
                one = by_stream[message.stream]
                one.came.append(Came(at_s, message))
                if isinstance(message, End):
                    one.ended.set()

    async def _publish(self, one: Played, wire: Wire, speed: float) -> None:
        """One recording and its end, on an absolute schedule."""
        subject, always = f"audio.{one.stream}", {"Content-Type": wire.format.content_type}
        start_s, frames = time.monotonic(), 0
        for number, (offset, payload) in enumerate(wire.payloads(one.recording.samples), 1):
            await asyncio.sleep(start_s + number * PAYLOAD_S / speed - time.monotonic())
            one.published_s.append(time.monotonic())
            await self.connection.publish(subject, payload, always | {"Audio-Offset": str(offset)})
            frames = offset + len(payload) // wire.format.frame_bytes
        await self.connection.publish(subject, b"", always | {"Audio-Offset": str(frames), "Audio-End": "1"})


@asynccontextmanager
async def player(daemon: MeasuredDaemon, nats_url: str) -> AsyncIterator[Player]:
    """Wait until the daemon is ready, and connect.

    Raises:
        SystemExit: it ended instead.
    """
    if not await daemon.ready():
        raise SystemExit(daemon.log())
    async with connected(load_settings(nats_url=nats_url), "bench words") as connection:
        figures = Metrics.model_validate_json((await anext(await subscribe(connection, "transcriber.metrics.*"))).data)
        rtf = figures.metrics["transcriber.rtf"]
        messages = await subscribe(connection, "transcripts.*.*")
        yield Player(connection, messages, count(), rtf if isinstance(rtf, float) else 1.0)
