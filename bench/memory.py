"""What a live stream costs in memory, and whether what is over leaves anything behind.

Out: resident memory of the daemon with more and more live streams, 2.5 s after they began to speak, and the slope; the same
while sessions come and go; and while an hour of audio goes by, 20 times as fast as it was spoken. The engine is stubbed, and a
model's memory comes on top, once; but the hour is played to the bundled model too. All that with the daemon's defaults, and with
``PLAIN`` windows, which are half full after 2.5 s.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from bench.lib.daemon import PLAIN, MeasuredDaemon, StubbedDaemon
from bench.lib.memory_trend import WARM, trend
from bench.lib.paced import PAYLOAD_S, Plan, publish, publisher_process, speech
from bench.lib.report import Results, note, run
from transcriber.bus.client_session import connected, subscribe
from transcriber.bus.connection import NatsMessage
from transcriber.config import load_settings
from transcriber.models.catalog import DEMO
from transcriber.schema.messages import Metrics
from transcriber.testing.broker import EmbeddedBroker

WINDOW_S = 5.0
HALF_WINDOW = int(WINDOW_S / 2 / PAYLOAD_S)
"""Payloads."""

SESSION = 50
"""Payloads: a second, which becomes one short window."""

BATCH = 50
"""Streams that send at the same time, in real time: a flood would be measured as waiting payloads."""

SPEED = 20.0
HOUR = int(3600 / PAYLOAD_S)
"""Payloads."""

SAMPLES = 90
"""How often the resident memory is read meanwhile."""

PATIENCE_S = 30.0


def measure(quick: bool) -> Results:
    with publisher_process() as publisher:
        return {
            "defaults": _measure(_Daemons(publisher, {}), quick=quick),
            "plain": _measure(_Daemons(publisher, PLAIN), quick=quick),
        }


def _measure(daemons: "_Daemons", *, quick: bool) -> Results:
    """With one kind of settings."""
    streams, sessions = (150, 400) if quick else (500, 2000)
    live = asyncio.run(_live_streams(daemons, streams))
    gone = asyncio.run(_sessions_gone(daemons, sessions))
    payloads = HOUR // 40 if quick else HOUR
    # One stream at that speed is a good part of what the model can do; without it there is room for more.
    soaks = {
        "engine stubbed": asyncio.run(_soak(daemons, StubbedDaemon, 8, payloads)),
        "bundled model": asyncio.run(_soak(daemons, MeasuredDaemon, 1, payloads)),
    }
    slope, _ = np.polyfit(list(live), list(live.values()), 1)
    # The allocator moves by two megabytes up and down; only medians show a trend.
    levels = list(gone.values())
    quarter = len(levels) // 4
    return {
        "kb_per_stream": round(float(slope), 1),
        "rss_kb_by_live_streams": live,
        "sessions": sessions,
        "growth_kb_last_to_first_quarter": median(levels[-quarter:]) - median(levels[:quarter]),
        "rss_kb_by_sessions_gone": gone,
        "soak": soaks,
    }


async def _live_streams(daemons: "_Daemons", most: int) -> dict[int, int]:
    """Resident kB by number of live streams."""
    async with daemons.feed(StubbedDaemon) as feed:
        await feed.speak("warm-up", 1, SESSION, end=True)
        await feed.taken(live=0)
        rss_kb = {0: feed.daemon.rss_kb}
        for live in range(BATCH, most + 1, BATCH):
            await feed.speak(f"live-{live}", BATCH, HALF_WINDOW, end=False)
            await feed.taken(live=live)
            rss_kb[live] = feed.daemon.rss_kb
            note(f"memory: {rss_kb[live]} kB with {live} live streams")
    return rss_kb


async def _sessions_gone(daemons: "_Daemons", most: int) -> dict[int, int]:
    """Resident kB by number of sessions that came and went, after as many as are under way at once."""
    async with daemons.feed(StubbedDaemon) as feed:
        rss_kb = {}
        for gone in range(0, most + 1, BATCH):
            await feed.speak(f"gone-{gone}", BATCH, SESSION, end=True)
            await feed.taken(live=0)
            rss_kb[gone] = feed.daemon.rss_kb
            note(f"memory: {rss_kb[gone]} kB after {gone} more sessions")
    return rss_kb


async def _soak(daemons: "_Daemons", kind: type[MeasuredDaemon], streams: int, payloads: int) -> dict[str, Any]:
    """Resident memory by audio time of each stream, and how it rises once the daemon is warm."""
    names = tuple(f"soak-{number}" for number in range(streams))
    audio_s = payloads * PAYLOAD_S
    async with daemons.feed(kind) as feed:
        plan = Plan(feed.url, names, payloads, ramp_s=1.0, start_s=time.monotonic() + 0.5, pcm=feed.pcm, speed=SPEED)
        publishing = asyncio.create_task(feed.publish(plan))
        rss_kb: dict[float, int] = {}
        for at_s in np.linspace(0, audio_s, SAMPLES + 1)[1:].tolist():
            await asyncio.sleep(plan.start_s + at_s / SPEED - time.monotonic())
            rss_kb[round(at_s, 1)] = feed.daemon.rss_kb
        await publishing
        await feed.taken(live=0)
    note(f"memory: {rss_kb}")
    return {
        "streams": streams,
        "speed": SPEED,
        "hours_of_audio": round(streams * audio_s / 3600, 2),
        **trend(rss_kb, WARM * audio_s),
        "rss_kb_by_audio_s": rss_kb,
    }


@dataclass(slots=True)
class _Feed:
    """A daemon, what is fed to it, and what it says about itself.

    Attributes:
        sent: payloads so far, ends included.
    """

    url: str
    daemon: MeasuredDaemon
    publisher: ProcessPoolExecutor
    metrics: AsyncIterator[NatsMessage]
    pcm: bytes
    sent: int = 0

    async def speak(self, name: str, streams: int, payloads: int, *, end: bool) -> None:
        """Send to that many streams at the same time."""
        names = tuple(f"{name}-{number}" for number in range(streams))
        start_s = time.monotonic()
        await self.publish(Plan(self.url, names, payloads, ramp_s=PAYLOAD_S, start_s=start_s, end=end, pcm=self.pcm))

    async def publish(self, plan: Plan) -> None:
        await asyncio.get_running_loop().run_in_executor(self.publisher, publish, plan)
        self.sent += len(plan.names) * (plan.payloads + plan.end)

    async def taken(self, live: int) -> None:
        """Wait until the daemon has taken all that was sent, and so many streams are live.

        Raises:
            TimeoutError: it does not.
        """
        async with asyncio.timeout(PATIENCE_S):
            async for message in self.metrics:
                figures = Metrics.model_validate_json(message.data).metrics
                came = figures["transcriber.chunks.received"], figures["transcriber.streams.active"]
                if came == (self.sent, live):
                    return


@dataclass(frozen=True, slots=True)
class _Daemons:
    """How daemons are started, each of which does not end idle streams."""

    publisher: ProcessPoolExecutor
    settings: dict[str, str]

    @asynccontextmanager
    async def feed(self, kind: type[MeasuredDaemon]) -> AsyncIterator[_Feed]:
        fixed = {"BUFFER_DURATION_SECS": str(WINDOW_S), "STREAM_IDLE_SECS": "3600", "METRICS_NATS_SECS": "0.2"}
        with EmbeddedBroker() as broker, kind(broker.url, WHISPER_MODEL=DEMO, **fixed, **self.settings) as daemon:
            if not await daemon.ready():
                raise SystemExit(daemon.log())
            async with connected(load_settings(nats_url=broker.url), "bench memory") as connection:
                metrics = await subscribe(connection, "transcriber.metrics.*")
                yield _Feed(broker.url, daemon, self.publisher, metrics, speech())


if __name__ == "__main__":
    run("memory", measure)
