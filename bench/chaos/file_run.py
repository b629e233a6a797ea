"""One run with files. In: a seed. Out: a verdict on their text and results, which must be those of an undisturbed run.

Files are put into the object store and submitted while faults happen, as a client does who tries again. When all is repaired and
all jobs are over, the same files are submitted again: nothing happens then, and the documents must be the same to the byte.
"""

import asyncio
import random
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

import numpy as np

from bench.chaos.faults import BROKER_FAULTS, CLOCK_FAULTS, DAEMON_FAULTS, Fault, Kind, drawn, of_cluster
from bench.chaos.outcome import Outcome
from bench.chaos.proof import StoredText, Verdict
from bench.chaos.readers import read_texts
from bench.chaos.run import brokers, connect, let_happen
from bench.chaos.world import World
from transcriber.bus.connection import Connection
from transcriber.bus.jetstream.client import JetStream
from transcriber.bus.jetstream.file_streams import FILES_BUCKET, RESULTS_BUCKET
from transcriber.bus.object_store.bucket import Bucket
from transcriber.bus.object_store.reader import ObjectReader
from transcriber.config import load_settings
from transcriber.errors import BrokerError, ObjectError, RefusedError, RequestError, UnansweredError
from transcriber.files.job_store import JobStore
from transcriber.schema.file_jobs import RESULT_FORMS, JobRecord, Submission, new_job_id
from transcriber.testing.verify import account_errors

RATE = 16_000
LENGTH_S = 20.0
"""In which the files are submitted."""

PATIENCE_S = 240.0
"""For all jobs to be over once everything is repaired; a job that nobody extends goes to another daemon."""

RETRY_S = 0.5
_UNREADY = UnansweredError, RefusedError, BrokerError, ObjectError, RequestError

SETTINGS = {
    "DURABLE": "",
    "FILES": "1",
    "FILE_WINDOW_SECS": "2",
    "FAKE_WORD_S": "0.5",
    "FILES_MAX_BYTES": str(128 * 2**20),
    "FAKE_SET": "transcriber.bus.jetstream.file_streams:ACK_WAIT_S=6 transcriber.files.work_queue:IN_PROGRESS_S=2 "
    "transcriber.files.attempt:RETRY_S=1",
}


@dataclass(frozen=True, slots=True)
class SubmittedFile:
    """A file: so many seconds long, submitted so many seconds after the start of the run."""

    seconds: int
    first_level: int
    due_s: float
    urgent: bool

    @property
    def data(self) -> bytes:
        """A WAV file with another level every second, which the fake model transcribes."""
        levels = (np.arange(self.seconds) * 7 + self.first_level) % 400 + 50
        samples = np.repeat(np.round(levels * 32.768), RATE).astype("<i2").tobytes()
        head = b"RIFF" + (36 + len(samples)).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little")
        for value, size in ((1, 2), (1, 2), (RATE, 4), (2 * RATE, 4), (2, 2), (16, 2)):
            head += value.to_bytes(size, "little")
        return head + b"data" + len(samples).to_bytes(4, "little") + samples


@dataclass(frozen=True, slots=True)
class FilePlan:
    """One run; as a ``Plan``, with files."""

    name: str
    files: tuple[SubmittedFile, ...]
    hands: tuple[tuple[Fault, ...], ...]
    settings: dict[str, str]
    brokers: int
    command: str

    @property
    def kinds(self) -> set[Kind]:
        """Of all its faults."""
        return {fault.kind for hand in self.hands for fault in hand}


def files_from_seed(seed: int, *, brokers: int, disk: bool, clock: bool) -> FilePlan:
    """The run of ``seed``; ``disk`` and ``clock`` as for streams."""
    rng = random.Random(f"files-{seed}")
    files = tuple(
        SubmittedFile(rng.randint(20, 120), rng.randint(0, 399), rng.uniform(0, LENGTH_S / 2), rng.random() < 0.3)
        for _ in range(rng.randint(2, 4))
    )
    ours = drawn(rng, [*DAEMON_FAULTS, *(CLOCK_FAULTS if clock else ())], LENGTH_S, quick=False)
    extra = {"FAKE_JOB_S": f"{rng.uniform(0.05, 0.2):.3f}"}
    if brokers > 1:
        theirs = of_cluster(rng, seed, LENGTH_S, quick=False)
        changed = Kind.REPLICAS_CHANGED in {fault.kind for fault in theirs}
        extra["STREAM_REPLICAS"] = "1" if changed else str(brokers)
    else:
        kinds = [kind for kind in BROKER_FAULTS if disk or kind is not Kind.DISK_FULL]
        theirs = drawn(rng, kinds, LENGTH_S, quick=False)
    options = f" --brokers {brokers}" if brokers > 1 else ""
    command = f"python -m bench.chaos --files --seeds {seed}{options}"
    return FilePlan(f"files-{seed}", files, (ours, theirs), SETTINGS | extra, brokers, command)


class Client:
    """Who has files transcribed, and tries again until that is accepted. Event loop only."""

    def __init__(self, connection: Connection, url: str) -> None:
        jetstream = JetStream(connection)
        self._jobs = JobStore(jetstream, load_settings(nats_url=url))
        self._inputs, self._results = Bucket(jetstream, FILES_BUCKET), Bucket(jetstream, RESULTS_BUCKET)

    async def submit(self, file: SubmittedFile) -> str:
        """Its job, which is queued."""
        job = new_job_id()

        async def pieces() -> AsyncIterator[bytes]:
            yield file.data

        stored = False
        while True:
            try:
                if not stored:
                    await self._inputs.put(job, pieces())
                    stored = True
                await self._jobs.submit(Submission(job=job, object=job), urgent=file.urgent)
            except _UNREADY:
                await asyncio.sleep(RETRY_S)
            else:
                return job

    async def over(self, job: str, deadline_s: float) -> JobRecord | None:
        """Its record, once it is over; as it is at ``deadline_s`` on the monotonic clock otherwise."""
        record: JobRecord | None = None
        while time.monotonic() < deadline_s and not (record and record.over):
            with suppress(*_UNREADY):
                stored = await self._jobs.record(job)
                record = stored.record if stored else record
            await asyncio.sleep(RETRY_S / 5)
        return record

    async def documents(self, job: str) -> list[bytes]:
        """Its results; empty where there is none."""
        found = []
        for form in RESULT_FORMS:
            info = await self._results.info(f"{job}.{form}")
            reader = ObjectReader(self._results, info) if info else None
            found.append(b"".join([piece async for piece in reader.pieces()]) if reader else b"")
        return found


async def play_files(plan: FilePlan) -> Outcome:
    """Carry out ``plan``."""
    folder = Path(tempfile.mkdtemp(prefix=f"chaos-{plan.name}-"))
    began_s = time.monotonic()
    verdict = Verdict(files=len(plan.files))
    site = brokers(plan.brokers, plan.kinds, folder)
    async with World(folder, "fake", plan.settings, site, clock=Kind.CLOCK_SET_BACK in plan.kinds) as world:
        url = ",".join(world.urls)
        connection = Connection()
        await connection.open(load_settings(nats_url=url), "chaos")
        watching = asyncio.create_task(connection.watch())
        supervisor = asyncio.create_task(world.supervise())
        try:
            client = Client(connection, url)
            jobs = await _submit_through(plan, world, client)
            deadline_s = time.monotonic() + PATIENCE_S
            verdict.errors += await _judge(plan, client, jobs, deadline_s, world, verdict)
        finally:
            for task in (supervisor, watching):
                task.cancel()
        await world.end()
        reader = await connect(world.urls)
        texts = await read_texts(reader)
        await reader.close()
        await connection.close()
    _judge_text(plan, jobs, texts, verdict)
    verdict.errors[:0] = world.errors
    outcome = Outcome(
        name=plan.name,
        command=plan.command,
        audio_s=float(sum(file.seconds for file in plan.files)),
        verdict=verdict,
        faults=world.faults,
        restarts=world.restarts,
        wall_s=time.monotonic() - began_s,
        lags_s=[],
        folder=folder,
    )
    if outcome.errors:
        story = ["errors:", *outcome.errors, "", "faults:", *world.history]
        (folder / "story.txt").write_text("\n".join(story) + "\n")
    else:
        rmtree(folder)
    return outcome


async def _submit_through(plan: FilePlan, world: World, client: Client) -> list[str]:
    """Submit everything while the faults happen; returns the jobs when both are over."""

    async def submit(file: SubmittedFile) -> str:
        await asyncio.sleep(file.due_s)
        return await client.submit(file)

    async with asyncio.TaskGroup() as tasks:
        submitting = [tasks.create_task(submit(file)) for file in plan.files]
        for hand in plan.hands:
            tasks.create_task(let_happen(world, hand))
    return [task.result() for task in submitting]


async def _judge(
    plan: FilePlan, client: Client, jobs: list[str], deadline_s: float, world: World, verdict: Verdict
) -> list[str]:
    """Compare the results with those of an undisturbed run; what is wrong with the jobs."""
    records = [await client.over(job, deadline_s) for job in jobs]
    errors = [
        f"{job} is {record.state if record else 'not recorded'}: {record.error if record else None}"
        for job, record in zip(jobs, records, strict=True)
        if record is None or record.state != "done" or record.error
    ]
    world.set_job_s("0.001")
    again = [await client.submit(file) for file in plan.files]
    for job, calm in zip(jobs, again, strict=True):
        await client.over(calm, time.monotonic() + PATIENCE_S)
        pairs = zip(await client.documents(job), await client.documents(calm), RESULT_FORMS, strict=True)
        wrong = [form for ours, theirs, form in pairs if ours != theirs or not theirs]
        verdict.wrong_results += len(wrong)
        errors += [f"{job}.{form} is not what an undisturbed run makes" for form in wrong]
    return errors


def _judge_text(plan: FilePlan, jobs: list[str], texts: list[StoredText], verdict: Verdict) -> None:
    """Is the text of each job stored once, and complete?"""
    for job, file in zip(jobs, plan.files, strict=True):
        own = [text for text in texts if text.message.stream == job]
        if len({text.id for text in own}) != len(own):
            verdict.errors.append(f"{job} has messages of the same id")
        errors = account_errors([text.message for text in own], file.seconds * RATE)
        verdict.errors += [f"{job}: {error}" for error in errors]
        verdict.frames += file.seconds * RATE
        verdict.windows += sum(text.message.type == "final" for text in own)
