"""Whether ``transcriber plan`` is right: calibrated, planned and then measured in one run, by turns.

In: models. Out: for each the streams that the plan gives one daemon, with nothing left free and as much loss as ``bench.capacity`` takes
for none; the streams that it then carries there; and their ratio. Before every step the machine is calibrated again, since
others may use it, and at the end it is planned with the mean of what was calibrated. How much is spoken is found in what is played.

Publishers and brokers are elsewhere where the daemon is at work, and take nothing from its cores. Here they do; so as many streams as the
next step has are played to another broker while the machine is calibrated.

By default without left context. It is left out under load, so that as many streams are carried; but until enough windows wait for
that the queue grows, which a short step takes for an overload.
"""

import asyncio
import json
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import soxr
from pydantic import TypeAdapter

from bench.capacity import STEADY, WINDOW_S, Bench, capacity, next_count, play
from bench.lib.daemon import MeasuredDaemon
from bench.lib.paced import FORMAT, PAYLOAD_S, Plan as PublishPlan, publish, publisher_process
from bench.lib.report import Results, note, run
from bench.lib.speech.material import model_and_speech
from transcriber.audio.vad.detector import FRAME_SAMPLES, SpeechDetector
from transcriber.audio.vad.silero import Silero
from transcriber.bus.client_session import connected, subscribe
from transcriber.config import Settings, load_settings
from transcriber.engine.calibrate import Measurement
from transcriber.engine.job import WHISPER_SAMPLE_RATE
from transcriber.plan.sizing import Plan, Wishes, arrangement, plan
from transcriber.plan.talk import Talk
from transcriber.testing.broker import EmbeddedBroker

MANY = 4096
MAX_LATENCY_S = 20.0
CALIBRATED_S = 8.0
BESIDE_S = 180.0
"""Longer than to load and calibrate any model takes; then the publishers are stopped."""

FIRST_STEP = 1.6
"""``next_count`` begins with half of what is promised: so with 0.8 of what is planned."""


def add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--models", default="demo,tiny.en,base", help="names, or ggml files")
    parser.add_argument("--threads", type=int, default=1, help="WHISPER_THREADS (1: another core is left to all else)")
    parser.add_argument("--left-context", type=float, default=0.0, metavar="SECS", help="LEFT_CONTEXT_SECS (0)")
    parser.add_argument(
        "--speed", type=float, default=1.0, help="of the streams; less than 1 where others keep the machine busy"
    )
    parser.add_argument("--windows", type=int, default=4, help="length of a step; at least 3")


@contextmanager
def publishers_beside(pcm: bytes, streams: int, speed: float) -> Iterator[None]:
    """A broker and publishers that nobody hears, as long as the block lasts."""
    names = tuple(f"beside{number}" for number in range(streams))
    with EmbeddedBroker() as broker:
        plan = PublishPlan(
            broker.url, names, int(BESIDE_S / PAYLOAD_S), WINDOW_S, time.monotonic(), pcm=pcm, speed=speed
        )
        publisher = get_context("spawn").Process(target=publish, args=(plan,))
        publisher.start()
        try:
            yield
        finally:
            publisher.terminate()
            publisher.join()


def measure(quick: bool, models: str, threads: int, left_context: float, speed: float, windows: int) -> Results:
    skipped: list[str] = []
    results: Results = {}
    with EmbeddedBroker() as broker, publisher_process() as publisher:
        for name in ["demo"] if quick else models.split(","):
            path, pcm = model_and_speech(name, skipped)
            varied = {
                "whisper_threads": str(threads),
                "whisper_language": "en",  # to detect it costs the first windows of each stream
                "buffer_duration_secs": str(WINDOW_S),
                "left_context_secs": str(left_context),
                "max_streams": str(MANY),
                "max_latency_secs": str(MAX_LATENCY_S / speed),
            }
            settings = load_settings(nats_url=broker.url, **varied)
            daemon = MeasuredDaemon(
                broker.url, **{name.upper(): value for name, value in varied.items()}, WHISPER_MODEL_PATH=str(path)
            )
            with daemon:
                bench = Bench(broker.url, daemon, publisher, pcm, 3 if quick else windows, speed)
                results[path.stem] = asyncio.run(_compared(bench, path, settings, quick=quick))
    return {"threads": threads, "speed": speed, "left_context_s": left_context, "skipped": skipped, **results}


async def _compared(bench: Bench, path: Path, settings: Settings, *, quick: bool) -> Results:
    """Of one model."""
    if not await bench.daemon.ready():
        raise SystemExit(bench.daemon.log())
    talk = talk_of(bench.pcm)
    rows = [_calibrated(path, settings, bench)]
    first = _planned(rows, settings, talk, bench.speed).most_streams
    steps: dict[int, Results] = {}
    async with connected(settings, "bench plan") as connection:
        messages = await subscribe(connection, "transcripts.*.*")
        while count := next_count(steps, FIRST_STEP * first):
            rows.append(_calibrated(path, settings, bench, count))
            steps[count] = await play(bench, messages, count)
            note(f"plan: {steps[count]}")
            if quick and len(steps) == 2:
                break
    planned = _planned(rows[1:], settings, talk, bench.speed)
    measured = capacity([steps[count] for count in sorted(steps)])["streams_no_loss"]
    note(f"plan: {path.stem}: planned {planned.most_streams}, measured {measured}")
    return {
        "talk": {"share": round(talk.share, 3), "utterance_s": round(talk.utterance_s, 2)},
        "planned": planned.most_streams,
        "planned_each_time": [_planned([row], settings, talk, bench.speed).most_streams for row in rows],
        "plain_ms": [row.plain_ms for row in rows],
        "measured": measured,
        "ratio": round(planned.most_streams / measured, 3) if measured else None,
        "planned_memory_mb": round(planned.memory_bytes / 2**20),
        "peak_rss_mb": round(bench.daemon.peak_rss_kb / 1024),
        "steps": [steps[count] for count in sorted(steps)],
    }


def _calibrated(path: Path, settings: Settings, bench: Bench, streams: int = 0) -> Measurement:
    """The machine as it is now, while others publish so many; in a process of its own, as a user does it."""
    command = [sys.executable, "-m", "transcriber", "calibrate", f"--model={path}", "--json"]
    command += [
        f"--threads={settings.threads}",
        f"--contexts={settings.audio_ctx}",
        f"--whisper-threads={settings.threads}",
    ]
    command += [f"--seconds={CALIBRATED_S:g}", f"--left-context-secs={settings.left_context_secs:g}"]
    with publishers_beside(bench.pcm, streams, bench.speed):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    (row,) = TypeAdapter(list[Measurement]).validate_python(json.loads(done.stdout))
    note(f"plan: {row.model}: {row.plain_ms} ms plain, {row.median_ms} ms with left context")
    return row


def _planned(rows: Sequence[Measurement], settings: Settings, talk: Talk, speed: float) -> Plan:
    """With the mean of the rows; a stream that is so much slower sees a machine that is so much faster."""
    times_ms, plain_ms = (
        tuple((speed * np.mean([getattr(row, name) for row in rows], axis=0)).tolist())
        for name in ("times_ms", "plain_times_ms")
    )
    rtf, ingest_ms = (speed * float(np.mean([getattr(row, name) for row in rows])) for name in ("rtf", "ingest_ms"))
    row = replace(rows[0], times_ms=times_ms, plain_times_ms=plain_ms, rtf=rtf, ingest_ms=ingest_ms)
    settings = settings.model_copy(update={"max_latency_secs": MAX_LATENCY_S})
    wishes = Wishes(streams=MANY, loss=STEADY, spare=0.0, talk=talk, seeds=1)
    return plan(arrangement([row], settings, row.model), settings, wishes)


def talk_of(pcm: bytes) -> Talk:
    """How much is spoken, as the daemon's detector finds it."""
    samples = np.frombuffer(pcm, "<i2").astype(np.float32) / 2**15
    speech = SpeechDetector(Silero()).push(soxr.resample(samples, FORMAT.rate, WHISPER_SAMPLE_RATE)).speech
    spoken = speech >= load_settings().speech_threshold
    begun = np.count_nonzero(spoken[1:] & ~spoken[:-1]) + bool(spoken[0])
    return Talk(
        share=float(np.mean(spoken)), utterance_s=np.count_nonzero(spoken) * FRAME_SAMPLES / WHISPER_SAMPLE_RATE / begun
    )


if __name__ == "__main__":
    run("plan", measure, add_options)
