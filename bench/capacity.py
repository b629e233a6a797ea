"""How many live streams a machine holds: real speech in real time, through the real daemon, until audio is lost.

In: models; each is tried with more and more streams of 20 ms payloads (48 kHz, S16LE), whose starts are spread at random
over a window. Out: at each step the latencies, what was lost and what it cost; and the most streams without loss. All that
with the daemon's defaults, with windows that are heard ``alone``, without left context, and with ``PLAIN`` ones. By default
partials fill the time that is left: below the capacity processor time says little.

``end_to_end_ms`` is the daemon's own, from the payload that completed a window; ``after_audio_ms`` is what a subscriber waits,
from the payload with the window's last frame: see ``bench/lib/account.py``.

The queue hides an overload until it is full, which may take minutes. So a step is also judged by its growth: by how
many seconds a second the wait in the queue rises. In the long run a share of growth / (1 + growth) is refused.
"""

import asyncio
import math
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from bench.lib.account import Account, account, after_audio_ms
from bench.lib.chart import Line, Panel, save_lines
from bench.lib.daemon import PLAIN, MeasuredDaemon
from bench.lib.paced import PAYLOAD_FRAMES, PAYLOAD_S, Plan, publish, publisher_process
from bench.lib.report import Results, note, quantiles, run
from bench.lib.speech.material import model_and_speech
from bench.lib.words.variants import ALONE
from transcriber.bus.client_session import connected, subscribe
from transcriber.bus.connection import NatsMessage
from transcriber.config import load_settings
from transcriber.config.sizing import available_cores
from transcriber.schema.messages import Final, Metrics
from transcriber.testing.broker import EmbeddedBroker

WINDOW_S = 5.0
FIRST, FACTOR = 0.5, 1.3
"""The first step's share of the streams that the model's speed promises, and by how much steps rise."""

FINE = 0.04
"""The step below capacity and the one above differ by no more, or by one stream."""

STEADY, TOLERABLE = 0.005, 0.01
"""Shares of audio: what cannot be distinguished from none, since the growth of a short step is uncertain; and 1 %."""

PATIENCE_S = 120.0
"""For the last ``end``: a queue may hold 20 s, and much more where the machine became slower."""

MODES: dict[str, dict[str, str]] = {"defaults": {}, "alone": ALONE, "plain": PLAIN}

COLOURS = ("#0a84ff", "#ff9f0a", "#30b05a", "#bf5af2", "#8e8e93")


@dataclass(frozen=True, slots=True)
class Bench:
    """What all steps of one model share; ``speed`` is how many times as fast as spoken they are."""

    url: str
    daemon: MeasuredDaemon
    publisher: ProcessPoolExecutor
    pcm: bytes
    windows: int
    speed: float = 1.0


def add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--models", default="tiny.en,base", help="names (-q8_0 too), demo, or ggml files")
    parser.add_argument("--modes", default=",".join(MODES), metavar="NAME,...", help="default: %(default)s")
    parser.add_argument("--workers", type=int, default=1, help="WHISPER_WORKERS")
    parser.add_argument("--threads", type=int, help="WHISPER_THREADS, instead of the default")
    parser.add_argument("--streams", help="these numbers of streams, such as 40,50,60, instead of a search")
    parser.add_argument("--windows", type=int, default=4, help="length of a step; at least 3, for its growth")
    parser.add_argument("--chart", type=Path, help="write the curves there, as SVG, and beside it as JSON")
    parser.add_argument("--table", action="store_true", help="print rows of Markdown before the JSON")


def measure(
    quick: bool,
    models: str,
    modes: str,
    workers: int,
    threads: int | None,
    streams: str | None,
    windows: int,
    chart: Path | None,
    table: bool,
) -> Results:
    names = ["demo"] if quick else models.split(",")
    settings = {
        "BUFFER_DURATION_SECS": str(WINDOW_S),
        "MAX_STREAMS": "4096",
        "WHISPER_WORKERS": str(workers),
        "WHISPER_THREADS": str(threads or ""),
    }
    counts = [int(count) for count in streams.split(",")] if streams else None
    skipped: list[str] = []
    results: dict[str, Results] = {mode: {} for mode in (["defaults"] if quick else modes.split(","))}
    with EmbeddedBroker() as broker, publisher_process() as publisher:
        for name, mode in product(names, results):
            path, pcm = model_and_speech(name, skipped)
            with MeasuredDaemon(broker.url, **settings, **MODES[mode], WHISPER_MODEL_PATH=str(path)) as daemon:
                note(f"capacity: {name}, {mode}")
                bench = Bench(broker.url, daemon, publisher, pcm, windows=3 if quick else windows)
                results[mode][name] = asyncio.run(_capacity(bench, workers, counts, quick=quick))
    if chart:
        save_lines(chart, *_panels(next(iter(results.values()))))
    if table:
        print("\n".join(_table(results)))
    threads = threads or load_settings(whisper_workers=workers).threads
    return {"workers": workers, "threads": threads, "skipped": skipped, **results}


async def _capacity(bench: Bench, workers: int, counts: list[int] | None, *, quick: bool) -> Results:
    """All steps of one model, and what follows from them."""
    if not await bench.daemon.ready():
        raise SystemExit(bench.daemon.log())
    async with connected(load_settings(nats_url=bench.url), "bench capacity") as connection:
        figures = Metrics.model_validate_json((await anext(await subscribe(connection, "transcriber.metrics.*"))).data)
        rtf = figures.metrics["transcriber.rtf"]
        promised = workers / rtf if isinstance(rtf, float) else 1.0
        if quick:
            counts = [max(1, round(FIRST * promised)), math.ceil(FACTOR * promised)]
        messages = await subscribe(connection, "transcripts.*.*")
        steps: dict[int, Results] = {}
        while count := next((n for n in counts if n not in steps), 0) if counts else next_count(steps, promised):
            steps[count] = await play(bench, messages, count)
            note(f"capacity: {steps[count]}")
    rows = [steps[count] for count in sorted(steps)]
    return {
        "rtf_at_start": rtf,
        "queue_capacity_at_start": figures.metrics["transcriber.queue.capacity"],
        **capacity(rows),
        "steps": rows,
    }


def next_count(steps: dict[int, Results], promised: float) -> int:
    """How many streams to try next: more, until audio is lost; then half-way. 0: it is known closely enough."""
    lost = min((count for count, step in steps.items() if step["loss_to_come"] > STEADY), default=None)
    # A lucky step above an unlucky one does not count.
    held = max((count for count in steps if lost is None or count < lost), default=0)
    if lost is None:
        return max(held + 1, math.ceil(held * FACTOR), round(FIRST * promised))
    return (held + lost) // 2 if lost - held > max(1, FINE * held) else 0


def capacity(rows: list[Results]) -> Results:
    """The most streams below the first step, of ``rows`` in rising order, that lost more."""
    cores = available_cores()
    out: Results = {}
    for name, share in (("no_loss", STEADY), ("one_percent_loss", TOLERABLE)):
        most = 0
        for row in rows:
            if row["loss_to_come"] > share:
                break
            most = row["streams"]
        out[f"streams_{name}"] = most
        out[f"streams_per_core_{name}"] = round(most / cores, 2)
    return out


async def play(bench: Bench, messages: AsyncIterator[NatsMessage], count: int) -> Results:
    """That many streams for a while."""
    plan = Plan(
        url=bench.url,
        names=tuple(f"of-{count}-{number}" for number in range(count)),
        payloads=int(bench.windows * WINDOW_S / PAYLOAD_S),
        ramp_s=WINDOW_S / bench.speed,
        start_s=time.monotonic() + 0.5,
        headers="offset",  # so that every hole has its length
        pcm=bench.pcm,
        speed=bench.speed,
    )
    listening = asyncio.create_task(account(messages, plan))
    publishing = asyncio.get_running_loop().run_in_executor(bench.publisher, publish, plan)
    await asyncio.sleep(plan.start_s + plan.ramp_s - time.monotonic())
    began_s, cpu_s, loop_cpu_s = time.monotonic(), bench.daemon.cpu_s, bench.daemon.loop_cpu_s
    await asyncio.sleep(plan.stop_s - time.monotonic())
    elapsed_s = time.monotonic() - began_s
    cpu, loop_cpu = (bench.daemon.cpu_s - cpu_s) / elapsed_s, (bench.daemon.loop_cpu_s - loop_cpu_s) / elapsed_s
    rss_mb = bench.daemon.rss_kb / 1024
    late_ms = 1000 * await publishing
    came = await asyncio.wait_for(listening, PATIENCE_S / min(1.0, bench.speed))
    return {
        "streams": count,
        **_latencies_ms(plan, came),
        **losses(came, plan.payloads * PAYLOAD_FRAMES * count, bench.speed),
        "daemon_cpu": round(cpu, 3),
        "of_which_whisper_cpu": round(cpu - loop_cpu, 3),
        "rss_mb": round(rss_mb, 1),
        "publisher_late_ms": quantiles(late_ms.tolist(), p50=0.5, p99=0.99),
    }


def _latencies_ms(plan: Plan, came: Account) -> Results:
    figures = {
        "end_to_end_ms": [final.timing.end_to_end_ms for final in came.finals],
        "after_audio_ms": after_audio_ms(plan, came.finals, came.finals_s),
        "queue_ms": [final.timing.queue_ms for final in came.finals],
        "processing_ms": [final.timing.processing_ms for final in came.finals],
    }
    return {name: quantiles(values, p50=0.5, p95=0.95) for name, values in figures.items()}


def losses(came: Account, published: int, speed: float = 1.0) -> Results:
    """What of the ``published`` frames was lost, and what will be once the queue is full; ``speed``: times as fast as spoken."""
    lost = sum(end.dropped_frames + end.lost_frames for end in came.ends)
    loss, growth = lost / published, speed * queue_growth(came.finals)
    return {
        "frames": published,
        "frames_unaccounted": published - sum(end.transcribed_frames + end.silent_frames for end in came.ends) - lost,
        "gaps": dict(Counter(gap.reason for gap in came.gaps)),
        "loss": round(loss, 5),
        "queue_growth": round(growth, 4),
        "loss_to_come": round(max(loss, growth / (1 + growth)), 5),
    }


def queue_growth(finals: Iterable[Final]) -> float:
    """Seconds by which the wait in the queue surely rises in a second: the slope less two standard errors, at least 0.

    Least squares over the windows of each stream but its first, which came to an empty queue. Streams are compared only
    with themselves: the last of many streams waits longer each time, and that is no overload. Windows that end with
    speech come at odd times, and their waits differ by chance.
    """
    waits_s: dict[str, list[tuple[float, float]]] = {}
    for final in finals:
        if final.segment:
            waits_s.setdefault(final.stream, []).append((final.start, final.timing.queue_ms / 1000))
    centred = [np.array(wait) - np.mean(wait, axis=0) for wait in waits_s.values()]
    if not centred:
        return 0.0
    at_s, wait_s = np.concatenate(centred).T
    if not at_s.any():
        return 0.0
    slope = at_s @ wait_s / (at_s @ at_s)
    chance = np.square(wait_s - slope * at_s).sum() / max(1, len(at_s) - len(centred) - 1)
    return max(0.0, float(slope - 2 * np.sqrt(chance / (at_s @ at_s))))


def _panels(results: Results) -> list[Panel]:
    """Latency and loss against streams."""

    def panel(title: str, unit: str, figure: Callable[[Results], float]) -> Panel:
        curves = [
            Line(name, [(row["streams"], figure(row)) for row in result["steps"]], colour)
            for (name, result), colour in zip(results.items(), COLOURS, strict=False)
        ]
        return Panel(f"{title}, on {available_cores()} cores", "live streams", unit, curves)

    return [
        panel("95th percentile of end-to-end latency", "s", lambda row: (row["end_to_end_ms"]["p95"] or 0.0) / 1000),
        panel("Audio lost once the queue is full", "%", lambda row: 100 * row["loss_to_come"]),
    ]


def _table(results: Results) -> list[str]:
    """Rows of Markdown: each model at its capacity, with the defaults and plain."""
    out = [
        "| model | settings | streams without loss | a core | end to end, p50 / p95 | window's end to text | cores used | RSS |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for mode, name, result in ((mode, *item) for mode, models in results.items() for item in models.items()):
        most = result["streams_no_loss"]
        for row in result["steps"]:
            if row["streams"] == most:
                ours, theirs = row["end_to_end_ms"], row["after_audio_ms"]
                out.append(
                    f"| {name} | {mode} | {most} | {result['streams_per_core_no_loss']:g}"
                    f" | {ours['p50']:.0f} / {ours['p95']:.0f} ms | {theirs['p50']:.0f} / {theirs['p95']:.0f} ms"
                    f" | {row['daemon_cpu']:.2f} | {row['rss_mb']:.0f} MB |"
                )
    return out


if __name__ == "__main__":
    run("capacity", measure, add_options)
