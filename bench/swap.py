"""What swaps of the model cost while eight streams speak: windows lost, how late text is, and memory.

Out: gaps; how long windows waited and how late their text was, in the time of swaps and between them; how long a swap took; resident
memory after each swap, and its slope. The streams are read in real time, and one swap follows
the other, with a pause for the machine to come to rest.

    python -m bench.swap --models tiny.en,base --swaps 100
"""

import argparse
import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from statistics import median
from typing import Any

from bench.lib.daemon import PLAIN, MeasuredDaemon
from bench.lib.memory_trend import trend
from bench.lib.paced import PAYLOAD_S, Plan, publish, publisher_process, speech
from bench.lib.report import Results, note, quantiles, run
from transcriber.bus.client_session import connected, parse_transcript, subscribe
from transcriber.bus.connection import Connection, NatsMessage
from transcriber.clients.admin_command import chosen, swap_to_its_end
from transcriber.config import load_settings
from transcriber.schema.admin import SwapRequest
from transcriber.schema.messages import Final, Gap
from transcriber.testing.broker import EmbeddedBroker

STREAMS = 8
REST_S = 2.0
"""Between two swaps."""

WARM = 1 / 3
"""Share of the swaps after which memory is to be flat."""


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", default="demo,tiny.en", help="two names, which take turns (demo,tiny.en)")
    parser.add_argument("--swaps", type=int, default=100, help="(100; with --quick 6)")
    parser.add_argument("--streams", type=int, default=STREAMS, help=f"({STREAMS})")
    parser.add_argument("--plain", action="store_true", help="windows of five seconds, and each to whisper once")
    parser.add_argument("--processes", type=int, default=0, help="models in so many processes (0: none)")


def measure(quick: bool, models: str, swaps: int, streams: int, plain: bool, processes: int) -> Results:
    names = models.split(",")
    own = {"WHISPER_PROCESSES": str(processes)} | (PLAIN if plain else {})
    with publisher_process() as publisher:
        count = min(swaps, 6) if quick else swaps
        return asyncio.run(_measure(publisher, names, count, streams, own))


async def _measure(
    publisher: ProcessPoolExecutor, names: Sequence[str], swaps: int, streams: int, own: dict[str, str]
) -> Results:
    with EmbeddedBroker() as broker, MeasuredDaemon(broker.url, WHISPER_MODEL=names[0], **own) as daemon:
        if not await daemon.ready():
            raise SystemExit(daemon.log())
        async with connected(load_settings(nats_url=broker.url), "bench swap") as connection:
            heard: list[tuple[float, Final | Gap]] = []
            hearing = asyncio.create_task(_hear(await subscribe(connection, "transcripts.>"), heard))
            stop = asyncio.Event()
            publishing = asyncio.create_task(_speak(publisher, broker.url, streams, stop))
            swapped = await _swap(connection, daemon, names, swaps)
            stop.set()
            await publishing
            hearing.cancel()
    return _results(heard, swapped)


async def _hear(messages: AsyncIterator[NatsMessage], heard: list[tuple[float, Final | Gap]]) -> None:
    """Keep finals and gaps, with the time at which they came."""
    async for message in messages:
        parsed = parse_transcript(message)
        if isinstance(parsed, Final | Gap):
            heard.append((time.monotonic(), parsed))


async def _speak(publisher: ProcessPoolExecutor, url: str, streams: int, stop: asyncio.Event) -> None:
    """All streams in real time, minute after minute, until ``stop``."""
    names, pcm = tuple(f"s{number}" for number in range(streams)), speech()
    payloads = int(60 / PAYLOAD_S)
    start_s = time.monotonic() + 0.5
    while not stop.is_set():
        plan = Plan(url, names, payloads, ramp_s=5.0, start_s=start_s, end=True, pcm=pcm)
        await asyncio.get_running_loop().run_in_executor(publisher, publish, plan)
        start_s = max(time.monotonic(), start_s + 60)


async def _swap(
    connection: Connection, daemon: MeasuredDaemon, names: Sequence[str], swaps: int
) -> list[dict[str, Any]]:
    """Swap again and again; of each when it was, how it ended, and the resident memory after it."""
    (instance,) = await chosen(connection, None, every=False)
    done = []
    await asyncio.sleep(4 * REST_S)  # so that there are windows without a swap, too
    for number in range(1, swaps + 1):
        model = names[number % len(names)]
        begun_s = time.monotonic()
        request = SwapRequest.model_validate({"action": "swap", "model": model, "as": "bench"})
        _, swap = await swap_to_its_end(connection, instance, request)
        ended_s = time.monotonic()
        await asyncio.sleep(REST_S)
        done.append({"from_s": begun_s, "to_s": ended_s, "state": swap.state, "model": model, "rss_kb": daemon.rss_kb})
        note(f"swap {number}: {model} {swap.state} {ended_s - begun_s:.2f} s, {daemon.rss_kb / 1024:.0f} MiB")
    return done


def _results(heard: list[tuple[float, Final | Gap]], swapped: list[dict[str, Any]]) -> Results:
    finals = [(at_s, one) for at_s, one in heard if isinstance(one, Final)]
    gaps = [one.reason for _, one in heard if isinstance(one, Gap)]
    during, between = list[Final](), list[Final]()
    for at_s, one in finals:
        late_s = one.timing.end_to_end_ms / 1000
        meets = any(at_s >= swap["from_s"] and at_s - late_s <= swap["to_s"] for swap in swapped)
        (during if meets else between).append(one)
    # With two models of different sizes memory goes up and down: compare like with like.
    by_model = {
        model: {float(index): swap["rss_kb"] for index, swap in enumerate(swapped) if swap["model"] == model}
        for model in {swap["model"] for swap in swapped}
    }
    return {
        "swaps": len(swapped),
        "not swapped": sum(swap["state"] != "swapped" for swap in swapped),
        "swap_s": quantiles([swap["to_s"] - swap["from_s"] for swap in swapped], p50=0.5, max=1.0),
        "gaps": {reason: gaps.count(reason) for reason in sorted(set(gaps))},
        "finals_by_model": {model: sum(one.model == model for _, one in finals) for model in sorted(by_model)},
        "during a swap": _timings(during),
        "between": _timings(between),
        "memory": {
            model: {
                "first_mib": round(next(iter(rss.values())) / 1024),
                "last_mib": round(list(rss.values())[-1] / 1024),
                "median_mib": round(median(rss.values()) / 1024),
                "slope_kib_a_swap": round(trend(rss, WARM * len(swapped))["slope_kb_per_hour"] / 3600, 1),
            }
            for model, rss in sorted(by_model.items())
            if len(rss) > 3
        },
    }


def _timings(finals: list[Final]) -> dict[str, Any]:
    shares = {"p50": 0.5, "p95": 0.95, "max": 1.0}
    return {
        "finals": len(finals),
        "job_ms": quantiles([one.timing.processing_ms for one in finals], **shares),
        "queue_ms": quantiles([one.timing.queue_ms for one in finals], **shares),
        "late_ms": quantiles([one.timing.end_to_end_ms for one in finals], **shares),
    }


if __name__ == "__main__":
    run("swap", measure, options)
