"""Jobs of a bench. In: files. Out: they are stored, submitted, watched; and what became of them, checked to the frame."""

import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.files.make import LongFile
from transcriber.bus.client_session import connected, parse_transcript, subscribe
from transcriber.bus.connection import Connection, NatsMessage
from transcriber.bus.jetstream.client import JetStream
from transcriber.clients.jobs_api import Jobs, JobWatch
from transcriber.config import Settings, load_settings
from transcriber.files.results import stored_messages
from transcriber.schema.file_jobs import RESULT_FORMS, JobRecord, Submission
from transcriber.schema.messages import AnyMessage
from transcriber.testing.verify import account_errors

READ_BYTES = 2**20


class Office:
    """Event loop only."""

    def __init__(self, connection: Connection, settings: Settings) -> None:
        self.connection = connection
        self._settings, self._jobs = settings, Jobs(connection, settings)

    async def store(self, file: LongFile) -> float:
        """Store it under the name of its path; returns the seconds that took."""
        began_s = time.monotonic()
        await self._jobs.upload(file.path.name, _bytes(file.path), lambda _: None)
        return time.monotonic() - began_s

    @asynccontextmanager
    async def job(self, file: LongFile) -> AsyncIterator["Job"]:
        """Have a stored file done; it stays stored."""
        submission = Submission(object=file.path.name, keep=True)
        messages = await subscribe(self.connection, f"transcripts.{submission.job}.*")
        async with self._jobs.watch(submission.job, lambda *_: None) as following:
            await self._jobs.submit(submission)
            yield Job(submission.job, following, messages)

    async def cancel(self, job: str) -> None:
        await self._jobs.cancel(job)

    async def digests(self, job: str) -> dict[str, tuple[int, str]]:
        """Size and hash of each result."""
        found = {}
        for form in RESULT_FORMS:
            size, digest = 0, hashlib.sha256()
            async for piece in self._jobs.result(job, form):
                size += len(piece)
                digest.update(piece)
            found[form] = size, digest.hexdigest()
        return found

    async def messages(self, job: str) -> list[AnyMessage]:
        return [message async for message in stored_messages(JetStream(self.connection), self._settings, job)()]

    async def account(self, job: str, file: LongFile) -> list[str]:
        """What does not add up."""
        return account_errors(await self.messages(job), file.frames)


@dataclass(frozen=True, slots=True)
class Job:
    """One that was submitted."""

    name: str
    following: JobWatch
    received: AsyncIterator[NatsMessage]

    async def record(self) -> JobRecord:
        """Its record, once it is done.

        Raises:
            SystemExit: it ended otherwise.
        """
        record = await self.following.record()
        if record.state != "done":
            raise SystemExit(f"{record.submission.object}: {record.state}: {record.error}")
        return record

    async def heard(self) -> AsyncIterator[AnyMessage]:
        """Its messages as they come."""
        async for received in self.received:
            if message := parse_transcript(received):
                yield message


@asynccontextmanager
async def office(url: str) -> AsyncIterator[Office]:
    """Ready as soon as a daemon is."""
    settings = load_settings(nats_url=url)
    async with connected(settings, "bench files") as connection:
        yield Office(connection, settings)


async def _bytes(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while data := file.read(READ_BYTES):
            yield data
