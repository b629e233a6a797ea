"""One file through one daemon, undisturbed and killed on the way. In: a file. Out: speed, cost, memory, what does not add up."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from bench.files.make import LongFile
from bench.files.office import Job, Office, office
from bench.lib.daemon import MeasuredDaemon
from bench.lib.memory_trend import WARM, trend
from bench.lib.report import Results, note
from transcriber.schema.messages import ENDED_STATES, AnyMessage, End, Final, Progress, Silence
from transcriber.tasks import cancel

FILES = {"FILES": "1", "PROVISION": "1"}
SAMPLES_SHOWN = 40

PATIENCE_S = 300.0
"""For a job to be given to another daemon, and its first text."""


async def whole(url: str, daemon: MeasuredDaemon, file: LongFile) -> Results:
    """With a daemon that runs already."""
    await _ready(daemon)
    async with office(url) as desk:
        _, results = await _undisturbed(desk, daemon, file)
    return results


async def undisturbed_and_killed(url: str, daemon: MeasuredDaemon, file: LongFile, parts: tuple[float, ...]) -> Results:
    """Killed when such ``parts`` of the file are text."""
    with daemon:
        await _ready(daemon)
        async with office(url) as desk:
            first, results = await _undisturbed(desk, daemon, file)
            second, killed = await _killed(desk, daemon, file, parts)
            same = await desk.digests(first) == await desk.digests(second)
            return results | {"killed": killed | {"results_are_the_same_to_the_byte": same}}


async def _ready(daemon: MeasuredDaemon) -> None:
    if not await daemon.ready():
        raise SystemExit(daemon.log())


async def _watch(job: Job, daemon: MeasuredDaemon, rss_kb: dict[float, int]) -> None:
    """Resident kB by the seconds that became text or silence."""
    async for message in job.heard():
        if isinstance(message, Final | Silence):
            rss_kb[message.start + message.duration] = daemon.rss_kb


async def _undisturbed(desk: Office, daemon: MeasuredDaemon, file: LongFile) -> tuple[str, Results]:
    """The job, and its figures."""
    megabytes = file.path.stat().st_size / 1e6
    stored_s = await desk.store(file)
    idle_kb = daemon.rss_kb
    daemon.forget_peak()
    rss_kb: dict[float, int] = {}
    began_s, cpu_s, loop_cpu_s = time.monotonic(), daemon.cpu_s, daemon.loop_cpu_s
    async with desk.job(file) as job:
        watching = asyncio.create_task(_watch(job, daemon, rss_kb))
        record = await job.record()
        wall_s = time.monotonic() - began_s
        cpu_s, loop_cpu_s, peak_kb = daemon.cpu_s - cpu_s, daemon.loop_cpu_s - loop_cpu_s, daemon.peak_rss_kb
    await cancel([watching])
    hours = file.seconds / 3600
    shown = [(round(at_s, 1), kb) for at_s, kb in rss_kb.items()]
    results = {
        "audio_hours": round(hours, 3),
        "rate": file.rate,
        "megabytes": round(megabytes, 1),
        "upload_mb_per_s": round(megabytes / stored_s, 1),
        "wall_s": round(wall_s, 1),
        "rtf": round(wall_s / file.seconds, 6),
        "times_real_time": round(file.seconds / wall_s, 1),
        "cpu_s_per_audio_hour": round(cpu_s / hours, 2),
        "loop_cpu_s_per_audio_hour": round(loop_cpu_s / hours, 2),
        "idle_rss_kb": idle_kb,
        "peak_above_idle_kb": peak_kb - idle_kb,
        "after_above_idle_kb": daemon.rss_kb - idle_kb,
        **trend(rss_kb, WARM * file.seconds),
        "rss_kb_by_audio_s": dict(shown[:: max(1, len(shown) // SAMPLES_SHOWN)]),
        "attempts": record.attempts,
        "not_accounted": await desk.account(job.name, file),
        "result_bytes": {form: size for form, (size, _) in (await desk.digests(job.name)).items()},
    }
    note(f"files: {file.kind}, undisturbed: {results}")
    return job.name, results


async def _killed(
    desk: Office, daemon: MeasuredDaemon, file: LongFile, parts: tuple[float, ...]
) -> tuple[str, Results]:
    rows: list[Results] = []
    began_s = time.monotonic()
    async with desk.job(file) as job:
        for part in parts:
            async with asyncio.timeout(PATIENCE_S + file.seconds):
                rows.append(await _kill(daemon, job, part * file.seconds))
            note(f"files: {file.kind}, killed: {rows[-1]}")
        record = await job.record()
    return job.name, {
        "wall_s": round(time.monotonic() - began_s, 1),
        "kills": rows,
        "attempts": record.attempts,
        "not_accounted": await desk.account(job.name, file),
    }


async def _kill(daemon: MeasuredDaemon, job: Job, place_s: float) -> Results:
    """Kill the daemon at a place of the file, start another, and wait for its first text."""
    messages = job.heard()
    place = await _first_final(messages, place_s)
    daemon.process.kill()
    daemon.process.wait()
    started_s, started_at = time.monotonic(), datetime.now(UTC)
    daemon.start()
    await _ready(daemon)
    ready_s = time.monotonic()
    # What the dead one has said is still on its way to us.
    begun = await anext(m async for m in messages if isinstance(m, Progress) and m.received_at > started_at)
    begun_s = time.monotonic()
    row: Results = {
        "after_s": place and round(place.start, 1),
        "ready_after_s": round(ready_s - started_s, 2),
        "given_the_job_after_s": round(begun_s - started_s, 2),
        "attempt": begun.attempt,
    }
    if place and (first := await _first_final(messages, 0.0)):
        row |= {
            "first_text_at_s": round(first.start, 1),
            "first_text_after_that_s": round(time.monotonic() - begun_s, 2),
        }
    return row


async def _first_final(messages: AsyncIterator[AnyMessage], from_s: float) -> Final | None:
    """The first text from there on; None if the file is done before it comes."""
    async for message in messages:
        if isinstance(message, End) or (isinstance(message, Progress) and message.state in ENDED_STATES):
            return None
        if isinstance(message, Final) and message.start >= from_s:
            return message
    return None
