"""How many streams a daemon carries, and what all of them need. In: calibrated figures, settings, wishes. Out: a ``Plan``."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from transcriber.config import Settings
from transcriber.config.checks import MAX_WORKERS
from transcriber.config.sizing import FULL_AUDIO_CTX, queue_capacity
from transcriber.engine.calibrate import QUANTILES, Measurement, best
from transcriber.engine.job import WHISPER_SAMPLE_RATE
from transcriber.errors import ConfigError
from transcriber.plan.simulation import Counted, Service, WorkerLoad, simulate, together
from transcriber.plan.talk import Talk

FINE = 0.02
"""The most streams of a worker are known to this share, or to one."""

MOST_STREAMS = 100_000
"""Of a worker: as many as ``MAX_STREAMS`` can be. Where nearly nobody speaks more would always do."""

DAEMON_BYTES = 50 * 10**6
"""What ``serve`` holds beside what ``calibrate`` does: NATS, telemetry, buffers of whisper.cpp for odd windows. An assumption: with the
bundled model it was 24 MB once one stream had spoken, and 33 MB, of which 6 are theirs, with eight."""

STREAM_BYTES = 309_000
"""Of a live stream without left context (``bench.memory``)."""

SAMPLE_BYTES = 4
FINAL_BYTES, PARTIAL_BYTES = 2_500, 1_200
"""Of a message with the words of five seconds, and of one with half of them."""

HEADROOM = 1.25
"""What is asked for, over what is expected: of memory, and of JetStream's limits."""

MEBIBYTE, GIBIBYTE = 2**20, 2**30

SHORTEST_MS, LONGEST_MS, SMALLEST_RTF = 0.1, 1e8, 1e-4
MOST_CORES, MOST_BYTES = 2**16, 2**50
"""Of figures in a calibration. The smallest are those that ``calibrate`` rounds to."""

PARTITION_DRAWS = 500
SURE = 0.95
"""Of so many ways in which names may fall into partitions, in this share no partition is too full."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is planned for.

    Attributes:
        streams: so many, all at once.
        loss: share of windows that may be dropped.
        spare: share of what a worker can carry that is left free.
        talk: how much is spoken on each stream.
        listeners: of each text.
        seeds: simulations of the daemon as planned.
    """

    streams: int
    loss: float = 0.001
    spare: float = 0.2
    talk: Talk = field(default_factory=Talk)
    listeners: int = 1
    seeds: int = 5


@dataclass(frozen=True, slots=True)
class Plan:
    """What is needed. Bytes a second are of the whole installation.

    Attributes:
        model, mode: the model's name; ``live``, ``backfill`` or ``durable``.
        streams, replicas: of the whole; streams of the fullest replica: ``replica_streams``.
        most_streams: of a replica, with nothing left free.
        partitions: over which streams are spread by name; 0: they are assigned.
        workers, threads, processes: of a replica.
        cores, memory_bytes: of a replica, to be requested.
        queue_capacity: windows that may wait for a worker.
        loss, loss_low, loss_high: the share of windows that is dropped, over all seeds, and of the best and the worst one.
        latency_p50_s, latency_p95_s: from the end of a window to its text.
        busy, shortened: shares of a worker's time, and of windows without left context.
        file_hours_a_day: hours of files that all replicas transcribe beside it.
        audio_in, text_out: bytes a second to the broker from publishers and from daemons.
        broker_out: bytes a second from the broker, to daemons, listeners and copies.
        audio_bytes, text_bytes: that JetStream keeps, of one copy.
        copies: of both.
    """

    model: str
    mode: str
    streams: int
    replicas: int
    replica_streams: int
    most_streams: int
    partitions: int
    workers: int
    threads: int
    processes: bool
    cores: int
    memory_bytes: int
    queue_capacity: int
    loss: float
    loss_low: float
    loss_high: float
    latency_p50_s: float
    latency_p95_s: float
    busy: float
    shortened: float
    file_hours_a_day: float
    audio_in: int
    text_out: int
    broker_out: int
    audio_bytes: int
    text_bytes: int
    copies: int

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def read_calibration(path: Path) -> list[Measurement]:
    """What ``transcriber calibrate --json`` wrote.

    Raises:
        ConfigError: it is not that.
    """
    no_such = f"{path}: is not what `transcriber calibrate --json` writes"
    try:
        rows = TypeAdapter(list[Measurement]).validate_python(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError):
        raise ConfigError(no_such) from None
    for number, row in enumerate(rows, 1):
        if wrong := _wrong(row):
            raise ConfigError(f"{no_such}: {wrong} of row {number}")
    return rows


def _wrong(row: Measurement) -> str | None:
    """A figure with which nothing can be planned."""
    times_ms = (*row.times_ms, *row.plain_times_ms)
    sound = {
        "model": row.model.isprintable() and row.model,
        "times_ms or plain_times_ms": all(SHORTEST_MS <= ms <= LONGEST_MS for ms in times_ms),
        "file_ms": row.file_ms == 0 or SHORTEST_MS <= row.file_ms <= LONGEST_MS,
        "ingest_ms": 0 <= row.ingest_ms <= LONGEST_MS,
        "rtf": SMALLEST_RTF <= row.rtf <= LONGEST_MS,
        "workers": 1 <= row.workers <= MAX_WORKERS,
        "threads": 1 <= row.threads <= MOST_CORES,
        "audio_ctx": 0 <= row.audio_ctx <= FULL_AUDIO_CTX,
        "queue_capacity": 0 <= row.queue_capacity <= MOST_STREAMS,
        "streams": 0 <= row.streams <= MOST_STREAMS,
        "cores": 1 <= row.cores <= MOST_CORES,
        "memory_bytes": 0 <= row.memory_bytes <= MOST_BYTES,
    }
    return next((name for name, right in sound.items() if not right), None)


def arrangement(rows: Sequence[Measurement], settings: Settings, model: str | None) -> Measurement:
    """The row to plan with: that of the settings where they name workers or threads, else the one that carries most.

    ``model`` None: the only one there is.

    Raises:
        ConfigError: there is no such row.
    """
    names = list(dict.fromkeys(row.model for row in rows))
    name = model or (names[0] if len(names) == 1 else None)
    if name not in names:
        raise ConfigError(f"--model {model or 'is missing'}: the calibration has {', '.join(names) or 'no model'}")
    rows = [row for row in rows if row.model == name and len(row.times_ms) == len(row.plain_times_ms) == len(QUANTILES)]
    if not rows:
        raise ConfigError(f"the calibration of {name} is of an older version: calibrate again")
    if settings.whisper_threads or settings.model_fields_set & {"whisper_workers", "whisper_processes"}:
        as_set = (settings.whisper_workers, settings.threads)
        rows = [row for row in rows if (row.workers, row.threads) == as_set]
        if not rows:
            raise ConfigError(f"WHISPER_WORKERS={as_set[0]} WHISPER_THREADS={as_set[1]}: not in the calibration")
    row = best([row for row in rows if row.audio_ctx == settings.audio_ctx] or rows, name)
    for setting, asked, had in (
        ("BUFFER_DURATION_SECS", settings.buffer_duration_secs, row.window_s),
        ("LEFT_CONTEXT_SECS", settings.left_context_s, row.left_s),
        ("WHISPER_AUDIO_CTX", settings.audio_ctx, row.audio_ctx),
    ):
        if asked != had:
            raise ConfigError(f"{setting} is {asked:g}, but {had:g} in the calibration: calibrate with the same")
    if settings.files and not row.file_ms:
        raise ConfigError("FILES=1, but there are none in the calibration: calibrate with the same")
    return row


def plan(row: Measurement, settings: Settings, wishes: Wishes) -> Plan:
    """Size everything for the machine and the arrangement of ``row``.

    Raises:
        ConfigError: not even one stream can be carried as wished.
    """
    loads = _loads(row, settings, wishes)
    most = most_streams(loads, wishes.loss, settings.max_latency_secs)
    if not most:
        raise ConfigError(_why_none(row, settings, loads(1), wishes))
    planned = max(1, math.floor(most * (1 - wishes.spare) + 1e-9))
    replicas = replicas_for(wishes.streams, planned * row.workers, by_name=settings.jetstream)
    fullest = min(wishes.streams, planned * row.workers) if settings.jetstream else -(-wishes.streams // replicas)
    streams = -(-fullest // row.workers)
    parts = [simulate(loads(streams), seed) for seed in range(wishes.seeds)]
    return _plan(row, settings, wishes, replicas, fullest, most * row.workers, parts)


def most_streams(loads: Callable[[int], WorkerLoad], loss: float, latency_s: float) -> int:
    """The most streams of one worker of which no more than ``loss`` is dropped, and whose text comes within ``latency_s`` (p95)."""

    @cache
    def holds(streams: int) -> bool:
        counted = together(simulate(loads(streams), seed) for seed in range(2))
        stuck = counted.arrived and not counted.latencies_s  # one window takes longer than what is simulated
        return not stuck and counted.loss <= loss and counted.latency_s(0.95) <= latency_s

    load = loads(1)
    times_s = load.service.with_context_s if load.waits else load.service.plain_s
    guess = max(1, int(load.policy.window_s / float(np.mean(times_s))))
    held, lost = 0, guess
    while lost <= MOST_STREAMS and holds(lost):
        held, lost = lost, max(lost + 1, math.ceil(1.2 * lost))
    lost = min(lost, MOST_STREAMS + 1)
    while lost - held > max(1, FINE * held):
        middle = (held + lost) // 2
        held, lost = (middle, lost) if holds(middle) else (held, middle)
    return held


def replicas_for(streams: int, each: int, *, by_name: bool) -> int:
    """Daemons that carry ``each`` so many streams. ``by_name``: partitions share them by their names, so not evenly.

    >>> replicas_for(500, 25, by_name=False), replicas_for(500, 25, by_name=True)
    (20, 38)
    """
    replicas = -(-streams // each)
    rng = np.random.default_rng(1)
    while by_name and replicas > 1:
        drawn = rng.multinomial(streams, np.full(replicas, 1 / replicas), PARTITION_DRAWS)
        if np.mean(drawn.max(axis=1) <= each) >= SURE or replicas >= streams:
            break
        replicas = min(streams, math.ceil(1.02 * replicas))
    return replicas


def _loads(row: Measurement, settings: Settings, wishes: Wishes) -> Callable[[int], WorkerLoad]:
    """The load of one worker with so many streams; ingest takes its part of the machine."""

    def load(streams: int) -> WorkerLoad:
        ingest = _ingest_cores(row, streams * row.workers)
        factor = max(1.0, row.workers * row.threads / max(0.05, row.cores - ingest))
        service = Service(
            [ms / 1000 for ms in row.times_ms],
            [ms / 1000 for ms in row.plain_times_ms],
            row.file_ms / 1000 if settings.files else 0.0,
        )
        return WorkerLoad(
            streams=streams,
            service=service.slower(factor),
            policy=settings.window_policy,
            talk=wishes.talk,
            slots_for=settings.queue_capacity,
            max_latency_s=settings.max_latency_secs,
            waits=settings.durable,
        )

    return load


def _ingest_cores(row: Measurement, streams: int) -> float:
    return row.ingest_ms / 1000 * streams


def _why_none(row: Measurement, settings: Settings, load: WorkerLoad, wishes: Wishes) -> str:
    one_s = float(np.median(load.service.with_context_s if load.waits else load.service.plain_s))
    if one_s > settings.max_latency_secs:
        return f"a window of {row.model} takes {one_s:.2g} s here, more than --latency {settings.max_latency_secs:g}"
    counted = simulate(load, 0)
    return (
        f"one stream is too much: a window of {row.model} takes {one_s:.2g} s here; {counted.loss:.1%} would be dropped"
        f" (--loss {wishes.loss:g}), and text come after {counted.latency_s(0.95):.1f} s (--latency {settings.max_latency_secs:g})"
    )


def _plan(
    row: Measurement,
    settings: Settings,
    wishes: Wishes,
    replicas: int,
    fullest: int,
    most: int,
    parts: list[Counted],
) -> Plan:
    """All figures, from what was simulated of one worker."""
    counted, losses = together(parts), [part.loss for part in parts]
    slots = queue_capacity(settings.max_latency_secs, row.window_s, row.rtf)
    sample_s = SAMPLE_BYTES * WHISPER_SAMPLE_RATE
    memory = row.memory_bytes + DAEMON_BYTES + fullest * (STREAM_BYTES + row.left_s * sample_s)
    memory += row.workers * slots * (row.window_s + row.left_s) * sample_s
    share = wishes.streams / -(-fullest // row.workers)  # of one worker's streams
    finals = share * len(counted.latencies_s) / counted.counted_s * FINAL_BYTES
    partials = 0.0
    if settings.partial_interval_secs:
        partials = wishes.streams * wishes.talk.share / settings.partial_interval_secs * PARTIAL_BYTES
    audio_in = wishes.streams * settings.input.rate * settings.input.frame_bytes
    copies = settings.stream_replicas if settings.jetstream else 0
    stored = audio_in + finals if copies else 0.0
    return Plan(
        model=row.model,
        mode="durable" if settings.durable else "backfill" if settings.backfill else "live",
        streams=wishes.streams,
        replicas=replicas,
        replica_streams=fullest,
        most_streams=most,
        partitions=replicas if settings.jetstream and replicas > 1 else 0,
        workers=row.workers,
        threads=row.threads,
        processes=row.processes,
        cores=min(row.cores, math.ceil(row.workers * row.threads + _ingest_cores(row, fullest))),
        memory_bytes=MEBIBYTE * 64 * math.ceil(HEADROOM * memory / (64 * MEBIBYTE)),
        queue_capacity=slots,
        loss=round(counted.loss, 5),
        loss_low=round(min(losses), 5),
        loss_high=round(max(losses), 5),
        latency_p50_s=round(counted.latency_s(0.5), 2),
        latency_p95_s=round(counted.latency_s(0.95), 2),
        busy=round(counted.busy_s / counted.counted_s, 3),
        shortened=round(counted.shortened / max(1, counted.arrived), 3),
        file_hours_a_day=round(
            24 * replicas * row.workers * counted.file_windows / counted.counted_s * settings.file_window_secs, 1
        ),
        audio_in=round(audio_in),
        text_out=round(finals + partials),
        broker_out=round(audio_in + wishes.listeners * (finals + partials) + max(0, copies - 1) * stored),
        audio_bytes=round(audio_in * settings.audio_max_age_secs) if copies else 0,
        text_bytes=round(finals * settings.transcript_max_age_secs) if copies else 0,
        copies=copies,
    )
