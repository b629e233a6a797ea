"""What a live stream costs in memory, and whether sessions that are over leave anything behind.

Out: resident memory of the daemon with more and more live streams whose windows are half full, and the slope; and
the same while sessions come and go. The engine is stubbed: a model's memory comes on top, once.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median

import numpy as np

from bench.daemon import StubbedDaemon
from bench.paced import FORMAT, PAYLOAD_FRAMES, PAYLOAD_S, Plan, publish, publisher_process
from bench.report import Results, note, run
from transcriber.audio.resampler import output_samples
from transcriber.bus.client import Received, connected, subscribe
from transcriber.config import load_settings
from transcriber.demo.broker import EmbeddedBroker
from transcriber.messages import Metrics

WINDOW_S = 5.0
HALF_WINDOW = int(WINDOW_S / 2 / PAYLOAD_S)
"""Payloads."""

SESSION = 50
"""Payloads: a second, which becomes one short window."""

BATCH = 50
"""Streams that send at the same time, in real time: a flood would be measured as waiting payloads."""

PATIENCE_S = 30.0


def measure(quick: bool) -> Results:
    streams, sessions = (150, 400) if quick else (500, 2000)
    with publisher_process() as publisher:
        live = asyncio.run(_live_streams(publisher, streams))
        gone = asyncio.run(_sessions_gone(publisher, sessions))
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
    }


async def _live_streams(publisher: ProcessPoolExecutor, most: int) -> dict[int, int]:
    """Resident kB by number of live streams."""
    samples = output_samples(HALF_WINDOW * PAYLOAD_FRAMES, FORMAT.rate)
    async with _feed(publisher) as feed:
        await feed.speak("warm-up", 1, SESSION, end=True)
        await feed.figures({"jobs.enqueued": 1, "streams.active": 0})
        rss_kb = {0: feed.daemon.rss_kb}
        for live in range(BATCH, most + 1, BATCH):
            await feed.speak(f"live-{live}", BATCH, HALF_WINDOW, end=False)
            await feed.figures({"streams.active": live, "buffer.size": live * samples})
            rss_kb[live] = feed.daemon.rss_kb
            note(f"memory: {rss_kb[live]} kB with {live} live streams")
    return rss_kb


async def _sessions_gone(publisher: ProcessPoolExecutor, most: int) -> dict[int, int]:
    """Resident kB by number of sessions that came and went, after as many as are under way at once."""
    async with _feed(publisher) as feed:
        rss_kb = {}
        for gone in range(0, most + 1, BATCH):
            await feed.speak(f"gone-{gone}", BATCH, SESSION, end=True)
            await feed.figures({"jobs.enqueued": gone + BATCH, "streams.active": 0})
            rss_kb[gone] = feed.daemon.rss_kb
            note(f"memory: {rss_kb[gone]} kB after {gone} more sessions")
    return rss_kb


@dataclass(frozen=True, slots=True)
class _Feed:
    """A daemon, what is fed to it, and what it says about itself."""

    url: str
    daemon: StubbedDaemon
    publisher: ProcessPoolExecutor
    metrics: AsyncIterator[Received]

    async def speak(self, name: str, streams: int, payloads: int, *, end: bool) -> None:
        """Send to that many streams at the same time."""
        names = tuple(f"{name}-{number}" for number in range(streams))
        plan = Plan(self.url, names, payloads, ramp_s=PAYLOAD_S, start_s=time.monotonic(), end=end)
        await asyncio.get_running_loop().run_in_executor(self.publisher, publish, plan)

    async def figures(self, expected: dict[str, int]) -> None:
        """Wait until the daemon's figures are these.

        Raises:
            TimeoutError: they do not become so.
        """
        async with asyncio.timeout(PATIENCE_S):
            async for message in self.metrics:
                metrics = Metrics.model_validate_json(message.data).metrics
                if all(metrics[f"transcriber.{name}"] == value for name, value in expected.items()):
                    return


@asynccontextmanager
async def _feed(publisher: ProcessPoolExecutor) -> AsyncIterator[_Feed]:
    """A daemon of its own, which does not end idle streams."""
    with (
        EmbeddedBroker() as broker,
        StubbedDaemon(
            broker.url, BUFFER_DURATION_SECS=str(WINDOW_S), STREAM_IDLE_SECS="3600", METRICS_NATS_SECS="0.2"
        ) as daemon,
    ):
        if not await daemon.ready():
            raise SystemExit(daemon.log())
        async with connected(load_settings(nats_url=broker.url), "bench memory") as connection:
            yield _Feed(broker.url, daemon, publisher, await subscribe(connection, "transcriber.metrics.*"))


if __name__ == "__main__":
    run("memory", measure)
