"""What is stored of a file's job: the file, the queued job, its text, its results, its record. In: a job's id. Out: places.

A job that is not over is cancelled first. A daemon that runs it notices when it next changes the record, cleans up, and
acknowledges the job; until then it may store text, so that is waited for. A daemon that does not answer for as long as its lease
would last is dead: the job is then taken from the queue, and one that wakes up later finds neither, and stops.

The daemon's clean-up takes the file out of the stream's index only, and then nobody finds its bytes: so it is erased before that.
"""

from transcriber.bus.jetstream.admin import STREAM_NOT_FOUND
from transcriber.bus.jetstream.client import Stored
from transcriber.bus.jetstream.file_streams import ACK_WAIT_S, FILES_BUCKET, JOBS, RECORDS, RESULTS_BUCKET
from transcriber.bus.object_store.bucket import Bucket
from transcriber.config import Settings
from transcriber.errors import ObjectError, RefusedError
from transcriber.files.job_store import JobStore, parse_record
from transcriber.files.results import result_names
from transcriber.purge.places import Place, Shelves
from transcriber.purge.streams import NotPurgedError, until
from transcriber.schema.audit import PlaceName
from transcriber.schema.file_jobs import JobRecord
from transcriber.schema.subjects import JOB_SUBJECT, RECORD_SUBJECT, URGENT_JOB_SUBJECT

LET_GO_S = 2 * ACK_WAIT_S
"""For a daemon to let go of a cancelled job; it extends its lease until then."""


class JobPurge:
    """Event loop only."""

    def __init__(self, shelves: Shelves, settings: Settings, job: str) -> None:
        self._shelves, self._job = shelves, job
        self._text, self._texts = settings.transcript_stream, f"{settings.transcript_subject_prefix}.{job}.*"
        self._store = JobStore(shelves.jetstream, settings)
        self._files = Bucket(shelves.jetstream, FILES_BUCKET)
        self._results = Bucket(shelves.jetstream, RESULTS_BUCKET)

    async def check(self, *, end: bool) -> None:  # noqa: ARG002 - as of streams: a job is always cancelled
        """Whether the job may be stopped now.

        Raises:
            NotPurgedError: its file is that of another job, which is not over. UnansweredError, RefusedError.
        """
        record = await self._record()
        if record is None:
            return
        async for page in self._store.pages():
            for other in page:
                job, file = other.record.submission.job, other.record.submission.object
                if file == record.submission.object and job != self._job and not other.record.over:
                    raise NotPurgedError(
                        f"its file is also that of {job}, which is {other.record.state}: purge or cancel that first"
                    )

    async def stop(self) -> list[Place]:
        """Cancel the job, if it is not over, and wait until no daemon has it. Returns what had to be removed before that.

        Raises:
            NotPurgedError: its record cannot be read.
            UnansweredError, RefusedError, ObjectError. RequestError: it cannot be cancelled now.
        """
        record = await self._record()
        if record is None:
            return []
        erased: list[Place] = []
        if not record.over:
            erased = [await self._objects("file", self._files, (record.submission.object,), descriptions=False)]
            await self._shelves.erase(erased)
            await self._store.cancel(self._job)
            record = await self._record()  # a daemon may have taken it meanwhile
        if record is None or record.attempts:
            await until(self._is_let_go, LET_GO_S)
        return erased  # of one that was never begun: a daemon that takes it now finds it cancelled

    async def find(self) -> list[Place]:
        """All that is stored now; the record last, by which the rest is found.

        Raises:
            UnansweredError, RefusedError.
        """
        record = await self._record()
        queue = Place("queue", JOBS)
        for stored in await self._queued():
            queue.add(stored)
        text = Place("text", self._text)
        async for one in self._shelves.listed(self._text, self._texts):
            text.add(one)
        results = await self._objects("results", self._results, result_names(self._job))
        file = await self._objects("file", self._files, (record.submission.object,) if record else ())
        kept = Place("record", RECORDS)
        kept.add(await self._shelves.last(RECORDS, f"{RECORD_SUBJECT}.{self._job}"))
        return [queue, text, results, file, kept]

    async def _record(self) -> JobRecord | None:
        """Its record; of a job that waits and has none yet, what it was submitted with.

        Raises:
            NotPurgedError: it cannot be read, and so not be said which file is its own. UnansweredError, RefusedError.
        """
        stored = await self._shelves.last(RECORDS, f"{RECORD_SUBJECT}.{self._job}")
        for one in (stored, *await self._queued()):
            if one:
                if record := parse_record(one.payload):
                    return record
                raise NotPurgedError("its record cannot be read: a newer version wrote it, or it is damaged")
        return None

    async def _is_let_go(self) -> bool | None:
        return not await self._queued() or None

    async def _queued(self) -> list[Stored]:
        found = [
            await self._shelves.last(JOBS, f"{subject}.{self._job}") for subject in (JOB_SUBJECT, URGENT_JOB_SUBJECT)
        ]
        return [stored for stored in found if stored]

    async def _objects(
        self, place: PlaceName, bucket: Bucket, names: tuple[str, ...], *, descriptions: bool = True
    ) -> Place:
        """Chunks and, if wanted, ``descriptions``: also of objects that were deleted, whose names are still stored."""
        found = Place(place, bucket.stream)
        for name in names:
            try:
                described = await bucket.description(name)
            except ObjectError:
                continue  # nothing that a daemon has stored
            except RefusedError as error:
                if error.code != STREAM_NOT_FOUND:
                    raise
                return found
            if described is None:
                continue
            stored, nuid = described
            if nuid:
                async for one in self._shelves.listed(bucket.stream, bucket.chunk_subject(nuid)):
                    found.add(one)
            if descriptions:
                found.add(stored)
        return found
