"""How fast is this machine, and how many real-time streams can it transcribe? Measured with real workers on bundled speech.

In: settings, models, arrangements of workers and threads, encoder contexts. Out: a row for each, as a table or as JSON.
"""

import asyncio
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from rich.box import SIMPLE
from rich.table import Table

from transcriber.config import Settings
from transcriber.config.sizing import available_cores
from transcriber.engine.job import WHISPER_SAMPLE_RATE, Job, Outcome, SpeechModel
from transcriber.engine.pool import WorkerPool
from transcriber.engine.warm_up import self_test_speech
from transcriber.engine.worker import Worker
from transcriber.errors import EngineError, ModelError
from transcriber.models.catalog import model_name

FULL_CONTEXT = 0
MIN_JOBS = 3
"""Of each worker, whatever the time."""

PATIENCE_S = 600.0
"""Grace for jobs still running: they must not overlap the next row."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One arrangement of workers, threads and encoder context, measured.

    Attributes:
        model: its name.
        workers: models that work at the same time.
        threads: of each.
        audio_ctx: encoder positions of a window without left context; 0 is the full context.
        follows: whether a window with left context gets as many more as it needs.
        median_ms, p95_ms: one window with its left context in one worker, while all of them work.
        plain_ms: the median without left context, as under load.
        rtf: the median over the duration of a window.
        queue_capacity: windows that may wait for one worker.
        streams: real-time streams that all workers together transcribe, at the stated loss; without left context.
        shipped: whether this is the arrangement of the settings.
    """

    model: str
    workers: int
    threads: int
    audio_ctx: int
    follows: bool
    median_ms: float
    p95_ms: float
    plain_ms: float
    rtf: float
    queue_capacity: int
    streams: int
    shipped: bool

    @property
    def as_settings(self) -> str:
        """The environment that gives this row."""
        return (
            f"WHISPER_WORKERS={self.workers} WHISPER_THREADS={self.threads}"
            f" WHISPER_AUDIO_CTX={'auto' if self.follows else self.audio_ctx}"
        )

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def calibrate(
    settings: Settings,
    models: Sequence[Path],
    load: Callable[[Path, Settings], SpeechModel],
    *,
    threads: Sequence[int] = (),
    contexts: Sequence[int] = (),
    loss: float = 0.0,
    seconds: float = 2.0,
) -> Iterator[Measurement]:
    """Measure each model, arrangement and context in turn, some six seconds each.

    Args:
        settings: what is not varied.
        models: files.
        load: loads a model; called in the thread that uses it.
        threads: numbers of threads to try with one worker; default: arrangements that fill the machine.
        contexts: encoder contexts to try; default: that of the settings, and the full one.
        loss: share of windows that may be dropped, 0 <= loss < 1.
        seconds: of measuring one row.

    Raises:
        ModelError: a model cannot be loaded, or fails.
    """
    for path in models:
        for audio_ctx in contexts or _contexts(settings):
            for workers, count in [(1, n) for n in threads] or _arrangements(settings):
                follows = settings.whisper_audio_ctx == "auto" and audio_ctx == settings.audio_ctx
                varied = settings.model_copy(
                    update={
                        "whisper_workers": workers,
                        "whisper_threads": count,
                        "whisper_audio_ctx": "auto" if follows else audio_ctx,
                        "transcription_queue_capacity": 1,  # not used here; set, so that it is not computed
                    }
                )
                plain = varied.model_copy(update={"left_context_secs": 0.0})
                times_s, plain_s = (
                    asyncio.run(job_times_s(each, partial(load, path, each), seconds)) for each in (varied, plain)
                )
                rtf = statistics.median(times_s) / settings.buffer_duration_secs
                yield Measurement(
                    model=model_name(path),
                    workers=workers,
                    threads=count,
                    audio_ctx=audio_ctx,
                    follows=follows,
                    median_ms=round(1000 * statistics.median(times_s), 1),
                    p95_ms=round(1000 * float(np.quantile(times_s, 0.95)), 1),
                    plain_ms=round(1000 * statistics.median(plain_s), 1),
                    rtf=round(rtf, 4),
                    queue_capacity=settings.queue_capacity(rtf),
                    streams=streams_held(plain_s, workers, settings.buffer_duration_secs, loss),
                    shipped=(workers, count, audio_ctx)
                    == (settings.whisper_workers, settings.threads, settings.audio_ctx),
                )


def streams_held(times_s: Sequence[float], workers: int, duration_s: float, loss: float) -> int:
    """How many real-time streams ``workers`` transcribe if a share ``loss`` of the windows may be dropped.

    Each stream completes a window every ``duration_s`` seconds, and a worker takes the mean of ``times_s`` for one. Streams are
    regular, so nothing is dropped below full load, and above it only the excess; provided that the queue may hold
    a window or two of each (L_max at least twice D). Ingest is not included (``bench.capacity`` measures the whole daemon).

    >>> streams_held([0.1, 0.1], workers=2, duration_s=5.0, loss=0.0)
    100
    >>> streams_held([0.8], workers=1, duration_s=5.0, loss=0.2)
    7
    """
    # The tiny term keeps 5 / 0.1 at 50 where floating point is just below.
    return workers * int(duration_s / (statistics.fmean(times_s) * (1 - loss)) + 1e-9)


def as_table(rows: Iterable[Measurement], loss: float) -> Table:
    """A table for the terminal; the arrangement of the settings is marked, the one with the most streams is bold."""
    rows = list(rows)
    table = Table(title=f"one window of speech; streams at a loss of {loss:.0%}", box=SIMPLE, collapse_padding=True)
    for name in ("model", "workers", "threads", "context", "ms", "p95", "plain", "RTF", "queue", "streams", ""):
        table.add_column(name, justify="left" if name in {"model", ""} else "right")
    for row in rows:
        table.add_row(
            row.model,
            str(row.workers),
            str(row.threads),
            str(row.audio_ctx or "full"),
            f"{row.median_ms:.0f}",
            f"{row.p95_ms:.0f}",
            f"{row.plain_ms:.0f}",
            f"{row.rtf:.3f}",
            str(row.queue_capacity),
            str(row.streams),
            "as set" if row.shipped else "",
            style="bold" if row == best(rows, row.model) else None,
        )
    return table


def best(rows: Iterable[Measurement], model: str) -> Measurement:
    """The row of ``model`` with the most streams, at the context of the settings if that was measured.

    A tighter context is always faster, but costs accuracy. Between equal rows the one with the lower latency wins.
    """
    rows = [row for row in rows if row.model == model]
    contexts = {row.audio_ctx for row in rows if row.shipped} or {row.audio_ctx for row in rows}
    return max((row for row in rows if row.audio_ctx in contexts), key=lambda row: (row.streams, -row.median_ms))


def _contexts(settings: Settings) -> list[int]:
    """That of the settings, and the full one as the reference."""
    return list(dict.fromkeys((settings.audio_ctx, FULL_CONTEXT)))


def _arrangements(settings: Settings) -> list[tuple[int, int]]:
    """(workers, threads of each): one with one, those that use all cores, and that of the settings."""
    cores = available_cores()
    fill = {(workers, cores // workers) for workers in (1, 2, 4, 8, 16, cores) if workers <= cores}
    return sorted({(1, 1), (settings.whisper_workers, settings.threads)} | fill)


async def job_times_s(settings: Settings, load: Callable[[], SpeechModel], seconds: float) -> list[float]:
    """Seconds of each job, a whole window with its left context, while every worker of the settings runs one after the other.

    Raises:
        ModelError: the model cannot be loaded, or fails.
    """
    pool = await WorkerPool.start(settings, load)
    job_s = settings.left_context_s + settings.buffer_duration_secs
    samples = np.resize(self_test_speech(), int(job_s * WHISPER_SAMPLE_RATE))
    times_s: list[float] = []
    failed: list[EngineError] = []
    stop_s = time.monotonic() + seconds
    enough = MIN_JOBS * len(pool.workers)
    done = asyncio.Event()

    def settle(worker: Worker, job: Job, outcome: Outcome) -> None:
        if isinstance(outcome, EngineError):
            failed.append(outcome)
        times_s.append(job.finished_s - job.started_s)
        if failed or (time.monotonic() >= stop_s and len(times_s) >= enough):
            done.set()
        if not done.is_set():
            put(worker)

    def put(worker: Worker) -> None:
        worker.queue.try_put(Job("calibrate", samples, "en", partial(settle, worker)))

    for worker in pool.workers:
        put(worker)
    await done.wait()
    measured_s, failure = times_s[:], next(iter(failed), None)  # jobs that end later ran beside fewer others
    await pool.stop(grace_s=PATIENCE_S)
    if failure:
        raise ModelError(f"model {pool.model.name} failed: {failure}")
    return measured_s
