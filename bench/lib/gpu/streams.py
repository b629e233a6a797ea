"""How many live streams a device carries in time: real speech in real time, through the real daemon, as ``bench.capacity`` plays it.

In: a model, a way to run it, and a guess. Out: the most streams of which nothing is lost and one text in twenty comes later
than ``LATE_MS`` after its window, and all steps that were tried.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

from bench.capacity import STEADY, Bench, play
from bench.lib.daemon import MeasuredDaemon
from bench.lib.gpu.pools import Way, check_device
from bench.lib.gpu.progress import UnavailableError
from bench.lib.paced import publisher_process
from bench.lib.report import Results, note
from transcriber.bus.client_session import connected, subscribe
from transcriber.bus.connection import NatsMessage
from transcriber.config import load_settings
from transcriber.schema.messages import Metrics
from transcriber.testing.broker import EmbeddedBroker

LATE_MS = 1500.0
"""Where the 95th percentile from the last payload of a window to its text may lie."""

STEP_WINDOWS = 3
STEP_S = 26.0
"""Of one step: three windows, starts that are spread over another, and what is left in the queue."""
LOAD_S = 20.0
FINE = 0.1
MOST_STEPS = 7


def streams_in_time(model: Path, way: Way, pcm: bytes, guess: int, seconds: float) -> Results:
    """More streams, until they are late; then half-way, until it is known to a tenth or ``seconds`` are over.

    Raises:
        ElsewhereError: the daemon runs on another device.
        UnavailableError: it does not start.
    """
    settings = way.environment | {"MAX_STREAMS": "4096", "WHISPER_MODEL_PATH": str(model)}
    with (
        EmbeddedBroker() as broker,
        publisher_process() as publisher,
        MeasuredDaemon(broker.url, **settings) as daemon,
    ):
        bench = Bench(broker.url, daemon, publisher, pcm, STEP_WINDOWS)
        return {**way.environment, "late_ms": LATE_MS, **asyncio.run(_search(bench, way.device, guess, seconds))}


async def _search(bench: Bench, device: str, guess: int, seconds: float) -> Results:
    until_s = time.monotonic() + seconds
    if not await bench.daemon.ready():
        raise UnavailableError(f"the daemon does not start: {bench.daemon.log().strip().splitlines()[-1:]}")
    steps: dict[int, Results] = {}
    async with connected(load_settings(nats_url=bench.url), "bench gpu") as connection:
        figures = await anext(await subscribe(connection, "transcriber.metrics.*"))
        check_device(device, device_of(Metrics.model_validate_json(figures.data)))
        messages: AsyncIterator[NatsMessage] = await subscribe(connection, "transcripts.*.*")
        while (count := next_count(steps, guess)) and (not steps or until_s - time.monotonic() > STEP_S):
            steps[count] = await play(bench, messages, count)
            note(f"gpu: {count} streams: {steps[count]}")
    rows = [steps[count] for count in sorted(steps)]
    return {"streams": most(rows), "known_closely": not next_count(steps, guess), "steps": rows}


def device_of(figures: Metrics) -> str:
    """Where the daemon says that it runs."""
    device = figures.metrics.get("transcriber.device")
    return next(iter(device)) if isinstance(device, dict) else "unknown"


def in_time(step: Results) -> bool:
    """Whether it lost nothing, and was not late."""
    late_ms = step["end_to_end_ms"]["p95"]
    return step["loss_to_come"] <= STEADY and late_ms is not None and late_ms <= LATE_MS


def most(rows: list[Results]) -> int:
    """The most streams below the first step, of ``rows`` in rising order, that was not in time."""
    found = 0
    for row in rows:
        if not in_time(row):
            break
        found = row["streams"]
    return found


def next_count(steps: dict[int, Results], guess: int) -> int:
    """How many streams to try next; 0: it is known closely enough."""
    if not steps:
        return max(1, guess)
    if len(steps) >= MOST_STEPS:
        return 0
    late = min((count for count, step in steps.items() if not in_time(step)), default=None)
    held = max((count for count in steps if late is None or count < late), default=0)
    if late is None:
        return 2 * held
    return (held + late) // 2 if late - held > max(1, FINE * late) else 0
