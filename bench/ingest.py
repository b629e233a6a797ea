"""How many paced 20 ms streams of speech (48 kHz, S16LE) one core takes in, with the engine stubbed.

Out: by settings, headers and number of streams, the share of its core that the daemon used, the payloads lost, and the lag
from the time of a stream's end to the daemon's account of it. The daemon has one core to itself; publisher, broker and
listener share the others. Processor time is that of the seconds in which all streams are live.

``plain`` takes in and cuts; the others also listen for speech, which here almost never pauses, and search for quiet places.
With the ``defaults`` partials go out too: one a second of every stream, since the stub is never busy.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

from bench.lib.account import account
from bench.lib.daemon import PLAIN, StubbedDaemon
from bench.lib.paced import HEADERS, PAYLOAD_FRAMES, PAYLOAD_S, Plan, publish, publisher_process, speech
from bench.lib.report import Results, note, quantiles, run
from transcriber.bus.client_session import connected, subscribe
from transcriber.bus.connection import NatsMessage
from transcriber.config import load_settings
from transcriber.schema.messages import End
from transcriber.testing.broker import EmbeddedBroker

WINDOW_S = 5.0
COUNTS = (50, 100, 200, 300, 400, 600, 800, 1000)
MODES: dict[str, dict[str, str]] = {
    "plain": PLAIN,
    "defaults without partials": {"PARTIAL_INTERVAL_SECS": "0"},
    "defaults": {},
}
BEHIND_MS = 250.0
"""A run whose 99th percentile of lag is above this falls behind, and would lose audio if it lasted."""

TRIES = 2
"""A second one, since something else on the machine may have been in the way."""

PATIENCE_S = 60.0
"""For the last ``end``; a stream whose own one got lost ends by being idle, after 30 s."""


def measure(quick: bool) -> Results:
    results: Results = {}
    with _a_core_for_the_daemon() as core, EmbeddedBroker() as broker, publisher_process() as publisher:
        for mode, settings in MODES.items():
            fixed = {"BUFFER_DURATION_SECS": str(WINDOW_S), "MAX_STREAMS": "1000"}
            # What headers cost does not depend on the rest.
            kinds = list(HEADERS) if mode == "plain" else ["none"]
            with StubbedDaemon(broker.url, {core}, **fixed, **settings) as daemon:
                note(f"ingest: {mode}")
                runs = asyncio.run(_sweep(broker.url, daemon, publisher, kinds, quick=quick))
            results[mode] = {kind: _figures([row for row in runs if row["headers"] == kind]) for kind in kinds}
    return results


def _figures(runs: list[Results]) -> Results:
    """Of one kind of headers."""
    return {
        "most_streams": max((row["streams"] for row in runs if row["sustained"]), default=0),
        "daemon_cpu_by_streams": {row["streams"]: row["daemon_cpu"] for row in runs},
        "runs": runs,
    }


@contextmanager
def _a_core_for_the_daemon() -> Iterator[int]:
    """Keep off one core, and with us all processes that we start."""
    cores = os.sched_getaffinity(0)
    if len(cores) < 2:
        raise SystemExit("bench.ingest needs two cores: one for the daemon, one for those who feed it")
    core = max(cores)
    os.sched_setaffinity(0, cores - {core})
    try:
        yield core
    finally:
        os.sched_setaffinity(0, cores)


async def _sweep(
    url: str, daemon: StubbedDaemon, publisher: ProcessPoolExecutor, kinds: list[str], *, quick: bool
) -> list[Results]:
    """More and more streams, until the daemon falls behind; with each kind of headers."""
    counts, ramp_s, live_s = (COUNTS[1:2], 2.0, 4.0) if quick else (COUNTS, 5.0, 10.0)
    if not await daemon.ready():
        raise SystemExit(daemon.log())
    runs, pcm = [], speech()
    async with connected(load_settings(nats_url=url), "bench ingest") as connection:
        messages = await subscribe(connection, "transcripts.*.*")
        for headers in kinds:
            for count in counts:
                for _ in range(TRIES):
                    plan = Plan(
                        url=url,
                        names=tuple(f"s{number}" for number in range(count)),
                        payloads=int((ramp_s + live_s) / PAYLOAD_S),
                        ramp_s=ramp_s,
                        start_s=time.monotonic() + 0.5,
                        headers=headers,
                        pcm=pcm,
                    )
                    runs.append(await _follow(plan, daemon, publisher, messages))
                    note(f"ingest: {runs[-1]}")
                    if runs[-1]["sustained"]:
                        break
                else:
                    break
    return runs


async def _follow(
    plan: Plan, daemon: StubbedDaemon, publisher: ProcessPoolExecutor, messages: AsyncIterator[NatsMessage]
) -> Results:
    """Publish as planned; what the daemon made of it."""
    listening = asyncio.create_task(account(messages, plan))
    publishing = asyncio.get_running_loop().run_in_executor(publisher, publish, plan)
    cpu = await _cpu_share(daemon, plan.start_s + plan.ramp_s, plan.stop_s)
    late_s = await publishing
    came = await asyncio.wait_for(listening, PATIENCE_S)
    streams, payloads = len(plan.names), len(plan.names) * plan.payloads
    lag = quantiles(_lags_ms(plan, came.ends), p50=0.5, p99=0.99)
    lost = payloads - sum(end.received_frames for end in came.ends) // PAYLOAD_FRAMES
    return {
        "headers": plan.headers,
        "streams": streams,
        "payloads": payloads,
        "lost_payloads": lost,
        "gaps": len(came.gaps),
        "daemon_cpu": round(cpu, 3),
        "lag_ms": lag,
        "publisher_late_ms": quantiles((1000 * late_s).tolist(), p50=0.5, p99=0.99),
        "sustained": not lost and not came.gaps and (lag["p99"] or 0) <= BEHIND_MS,
    }


async def _cpu_share(daemon: StubbedDaemon, from_s: float, until_s: float) -> float:
    """Processor time over time, between two monotonic times."""
    await asyncio.sleep(from_s - time.monotonic())
    began_s, cpu_s = time.monotonic(), daemon.cpu_s
    await asyncio.sleep(until_s - time.monotonic())
    return (daemon.cpu_s - cpu_s) / (time.monotonic() - began_s)


def _lags_ms(plan: Plan, ends: list[End]) -> list[float]:
    """Of each stream: from the time its end was due to when the daemon had dealt with all of it."""
    wall_s = time.time() - time.monotonic()
    due_s = dict(zip(plan.names, plan.due_s[:, -1].tolist(), strict=True))
    return [1000 * (end.received_at.timestamp() - wall_s - due_s[end.stream]) for end in ends]


if __name__ == "__main__":
    run("ingest", measure)
