"""A live stream beside a file, and beside a file and requests. In: a daemon with a model. Out: how much later its text comes.

Phases take turns, so that whatever else the machine does falls on all of them. ``processing_ms`` is of the longest job of the
file: requests are of clips that are shorter.
"""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from bench.files.make import LongFile
from bench.files.office import Office, office
from bench.lib.clips import make_clips
from bench.lib.daemon import MeasuredDaemon
from bench.lib.paced import PAYLOAD_S, Plan, publish, publisher_process, speech
from bench.lib.report import Results, note, quantiles
from transcriber.bus.client_session import parse_transcript, subscribe
from transcriber.clients.service_client import call_service
from transcriber.schema.messages import End, Final, Gap
from transcriber.schema.subjects import REQUEST_SUBJECT
from transcriber.tasks import cancel

PHASES = ("alone", "file", "file and requests")
REQUESTS = 16
CLIP = "5 s wav16"
TIMEOUT_S = 60.0


@dataclass(slots=True)
class _Phase:
    """What was seen in all rounds of one phase."""

    rounds_ms: list[list[float]] = field(default_factory=list)  # end to end
    processing_ms: list[float] = field(default_factory=list)
    file_job_ms: list[float] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)
    answered: int = 0

    def summary(self) -> Results:
        every = [ms for row in self.rounds_ms for ms in row]
        p95 = [quantiles(row, p95=0.95)["p95"] or 0.0 for row in self.rounds_ms]
        return {
            "finals": len(every),
            "end_to_end_ms": quantiles(every, p50=0.5, p95=0.95, max=1.0),
            "p95_ms_by_round": p95,
            "p95_ms_median_of_rounds": round(statistics.median(p95), 3),
            "own_processing_ms": quantiles(self.processing_ms, p50=0.5, max=1.0),
            "file_jobs": len(self.file_job_ms),
            "file_job_ms": quantiles(self.file_job_ms, p50=0.5, max=1.0),
            "requests_answered": self.answered,
            "dropped_frames": self.dropped,
        }


async def beside(url: str, daemon: MeasuredDaemon, file: LongFile, rounds: int, seconds: float) -> Results:
    if not await daemon.ready():
        raise SystemExit(daemon.log())
    clip = next(clip.data for clip in make_clips() if clip.name == CLIP)
    seen = {name: _Phase() for name in PHASES}
    with publisher_process() as publisher:
        async with office(url) as desk:
            await desk.store(file)
            for number in range(rounds):
                for name, phase in seen.items():
                    async with (
                        _file(desk, file, phase, wanted="file" in name),
                        _requests(desk, clip, phase, wanted="requests" in name),
                    ):
                        await _live(desk, url, publisher, phase, f"{name.replace(' ', '-')}-{number}", seconds)
                    note(f"files: live, {name}, round {number}: {phase.summary()}")
    alone = seen["alone"].summary()
    job_ms = max(max(phase.file_job_ms, default=0.0) for phase in seen.values())
    return {
        "phases": {name: phase.summary() for name, phase in seen.items()},
        "longest_file_job_ms": round(job_ms, 1),
        "p95_grows_ms": {
            name: round(phase.summary()["p95_ms_median_of_rounds"] - alone["p95_ms_median_of_rounds"], 1)
            for name, phase in seen.items()
            if name != "alone"
        },
    }


async def _live(
    desk: Office, url: str, publisher: ProcessPoolExecutor, phase: _Phase, name: str, seconds: float
) -> None:
    """One stream in real time, from its start to its end."""
    messages = await subscribe(desk.connection, f"transcripts.{name}.*")
    plan = Plan(url, (name,), int(seconds / PAYLOAD_S), 0.0, time.monotonic() + 0.2, pcm=speech(), headers="publish")
    publishing = asyncio.get_running_loop().run_in_executor(publisher, publish, plan)
    row: list[float] = []
    async with asyncio.timeout(seconds + TIMEOUT_S):
        async for received in messages:
            match parse_transcript(received):
                case Final(timing=timing):
                    row.append(timing.end_to_end_ms)
                    phase.processing_ms.append(timing.processing_ms)
                case Gap(reason=reason, frames=frames):
                    phase.dropped[reason] = phase.dropped.get(reason, 0) + frames
                case End():
                    break
    await publishing
    phase.rounds_ms.append(row)


@asynccontextmanager
async def _file(desk: Office, file: LongFile, phase: _Phase, *, wanted: bool) -> AsyncIterator[None]:
    """A file that runs meanwhile, and is cancelled at the end; from its first text on."""
    if not wanted:
        yield
        return
    async with desk.job(file) as job:
        begun = asyncio.Event()

        async def hear() -> None:
            async for message in job.heard():
                if isinstance(message, Final):
                    phase.file_job_ms.append(message.timing.processing_ms)
                    begun.set()

        hearing = asyncio.create_task(hear())
        await asyncio.wait_for(begun.wait(), TIMEOUT_S)
        try:
            yield
        finally:
            await cancel([hearing])
            await desk.cancel(job.name)
            await asyncio.wait_for(job.following.record(), TIMEOUT_S)


@asynccontextmanager
async def _requests(desk: Office, clip: bytes, phase: _Phase, *, wanted: bool) -> AsyncIterator[None]:
    """Requests, each asked again as soon as it is answered."""

    async def keep_asking() -> None:
        while True:
            await call_service(desk.connection, REQUEST_SUBJECT, clip, TIMEOUT_S, setting="SERVICE")
            phase.answered += 1

    asking = [asyncio.create_task(keep_asking()) for _ in range(REQUESTS if wanted else 0)]
    try:
        yield
    finally:
        await cancel(asking)
