"""How fast is this machine, and how many real-time streams can it transcribe? Measured with real workers on bundled speech.

In: settings, models, arrangements of workers and threads, encoder contexts. Out: a row for each, as a table or as JSON.
"""

import asyncio
import contextlib
import ctypes
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE
from rich.table import Table

from transcriber.audio.headers import NO_HEADERS
from transcriber.audio.stream import Stream
from transcriber.config import Settings
from transcriber.config.sizing import available_cores
from transcriber.engine.job import WHISPER_SAMPLE_RATE, Job, Outcome, SpeechModel
from transcriber.engine.pool import WorkerPool
from transcriber.engine.warm_up import Label, self_test_speech
from transcriber.engine.worker import Worker
from transcriber.errors import EngineError, ModelError
from transcriber.models.catalog import model_name

FULL_CONTEXT = 0
MIN_JOBS = 3
"""Of each worker, whatever the time."""

QUANTILES = tuple(n / 20 for n in range(21))
"""From the shortest to the longest time, in steps of 5 %."""

PAYLOAD_S = 0.02
READ_S = 15e-6
"""Processor time of a payload before it is audio and after, of NATS and the event loop. An assumption: ``bench.ingest`` found 23 µs for all of
it with plain windows, and what is timed here takes 8 to 10 µs with those, by a later measurement."""

INGESTED_S = 20.0
"""Seconds of speech whose ingest is timed."""

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
        processes: whether each worker has a process of its own.
        window_s, left_s: duration of the window and of its left context.
        times_ms, plain_times_ms: ``QUANTILES`` of a window's time, with its left context and without.
        file_ms: the median of one window of a file, where there are files; else 0.
        ingest_ms: processor time of the event loop for a second of one stream, at the format of the settings.
        memory_bytes: of the process that measured, and of its children, with all models loaded.
        cores: of the machine.
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
    processes: bool = False
    window_s: float = 5.0
    left_s: float = 0.0
    times_ms: tuple[float, ...] = ()
    plain_times_ms: tuple[float, ...] = ()
    file_ms: float = 0.0
    ingest_ms: float = 0.0
    memory_bytes: int = 0
    cores: int = 1

    @property
    def as_settings(self) -> str:
        """The environment that gives this row."""
        return (
            f"{'WHISPER_PROCESSES' if self.processes else 'WHISPER_WORKERS'}={self.workers} WHISPER_THREADS={self.threads}"
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
    label: Label | None = None,
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
        label: finds the speakers of a window, if voices are distinguished.

    Raises:
        ModelError: a model cannot be loaded, or fails.
    """
    ingest_ms = round(1000 * ingest_s(settings), 3)
    for path in models:
        for audio_ctx in contexts or _contexts(settings):
            for workers, count in [(1, n) for n in threads] or _arrangements(settings):
                follows = settings.whisper_audio_ctx == "auto" and audio_ctx == settings.audio_ctx
                varied = _arranged(settings, workers, count, "auto" if follows else audio_ctx)
                (times_s, memory_bytes), (plain_s, _), (file_s, _) = _timed(
                    settings, varied, path, load, seconds, label
                )
                rtf = statistics.median(times_s) / settings.buffer_duration_secs
                yield Measurement(
                    model=model_name(path),
                    workers=workers,
                    threads=count,
                    audio_ctx=audio_ctx,
                    follows=follows,
                    **_times_ms(times_s, plain_s, file_s),
                    rtf=round(rtf, 4),
                    queue_capacity=settings.queue_capacity(rtf),
                    streams=streams_held(plain_s, workers, settings.buffer_duration_secs, loss),
                    shipped=(workers, count, audio_ctx)
                    == (settings.whisper_workers, settings.threads, settings.audio_ctx),
                    processes=bool(settings.whisper_processes),
                    window_s=settings.buffer_duration_secs,
                    left_s=settings.left_context_s,
                    ingest_ms=ingest_ms,
                    memory_bytes=memory_bytes,
                    cores=available_cores(),
                )


def _timed(
    settings: Settings,
    varied: Settings,
    path: Path,
    load: Callable[[Path, Settings], SpeechModel],
    seconds: float,
    label: Label | None,
) -> "list[Times]":
    """A window with its left context, without, and one of a file, if there are any."""
    _return_memory()
    return [
        asyncio.run(_time_jobs(each, partial(load, path, each), seconds, label)) if each else Times([0.0], 0)
        for each in (varied, _plain(varied), _file(varied) if settings.files else None)
    ]


def _arranged(settings: Settings, workers: int, threads: int, audio_ctx: int | str) -> Settings:
    """With so many workers and threads, and that encoder context."""
    return settings.model_copy(
        update={
            "whisper_workers": workers,
            "whisper_threads": threads,
            "whisper_audio_ctx": audio_ctx,
            "transcription_queue_capacity": 1,  # not used here; set, so that it is not computed
        }
    )


def _plain(settings: Settings) -> Settings:
    """Without left context."""
    return settings.model_copy(update={"left_context_secs": 0.0})


def _file(settings: Settings) -> Settings:
    """For a window of a file."""
    return _plain(settings).model_copy(
        update={"buffer_duration_secs": settings.file_window_secs, "whisper_audio_ctx": "auto"}
    )


def _times_ms(times_s: Sequence[float], plain_s: Sequence[float], file_s: Sequence[float]) -> dict[str, Any]:
    """The fields of a ``Measurement`` that end in ``_ms`` and are of whisper."""
    (times_ms, plain_ms, file_ms) = (
        tuple(round(1000 * float(time_s), 1) for time_s in np.quantile(found_s, QUANTILES))
        for found_s in (times_s, plain_s, file_s)
    )
    half, most = QUANTILES.index(0.5), QUANTILES.index(0.95)
    return {
        "median_ms": times_ms[half],
        "p95_ms": times_ms[most],
        "plain_ms": plain_ms[half],
        "times_ms": times_ms,
        "plain_times_ms": plain_ms,
        "file_ms": file_ms[half],
    }


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


@dataclass(frozen=True, slots=True)
class _FoundSpeakers:
    """``Speakers`` of a job that are found, and not kept."""

    label: Label
    samples: NDArray[np.float32]
    left_s: float

    def find(self, *, busy: bool, should_abort: Callable[[], bool]) -> None:  # noqa: ARG002 - nothing waits here
        self.label(self.samples, self.left_s)


def ingest_s(settings: Settings) -> float:
    """Processor time of the event loop for a second of one stream of speech, in payloads of 20 ms, at the format of the settings."""
    from transcriber.audio.vad.silero import Silero  # noqa: PLC0415 - its runtime takes time and memory

    policy, fmt = settings.window_policy, settings.input
    stream = Stream(
        fmt, policy, Silero() if policy.needs_detector else None, max_hole_s=settings.max_hole_secs, new_id=str
    )
    # Bytes of any format will do: what a payload costs does not depend on what it holds.
    payloads = [os.urandom(int(PAYLOAD_S * fmt.rate) * fmt.frame_bytes)] * int(INGESTED_S / PAYLOAD_S)
    began_s = time.thread_time()
    for payload in payloads:
        stream.feed(payload, NO_HEADERS)
    return (time.thread_time() - began_s) / INGESTED_S + READ_S / PAYLOAD_S


def _return_memory() -> None:
    """Let the C library return what the row before has freed: a daemon has never had it."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc alone
    if trim:
        trim(0)


def resident_bytes() -> int:
    """Memory of this process and of the processes that it has started."""
    pids, pages = ["self"], 0
    for children in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has just ended
            pids += children.read_text(encoding="ascii").split()
    for pid in pids:
        with contextlib.suppress(OSError):  # the process has
            pages += int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class Times(NamedTuple):
    """Seconds of each job, and the memory that was in use."""

    times_s: list[float]
    memory_bytes: int


async def _time_jobs(
    settings: Settings, load: Callable[[], SpeechModel], seconds: float, label: Label | None = None
) -> Times:
    """Seconds of each job, a whole window with its left context, while every worker of the settings runs one after the other.

    With ``label`` the speakers of each are found.

    Raises:
        ModelError: the model cannot be loaded, or fails.
    """
    pool = await WorkerPool.start(settings, load, label)
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

    speakers = _FoundSpeakers(label, samples, settings.left_context_s) if label else None

    def put(worker: Worker) -> None:
        worker.queue.try_put(Job("calibrate", samples, "en", partial(settle, worker), speakers=speakers))

    for worker in pool.workers:
        put(worker)
    await done.wait()
    memory_bytes = resident_bytes()
    measured_s, failure = times_s[:], next(iter(failed), None)  # jobs that end later ran beside fewer others
    await pool.stop(grace_s=PATIENCE_S)
    if failure:
        raise ModelError(f"model {pool.model.name} failed: {failure}")
    return Times(measured_s, memory_bytes)
