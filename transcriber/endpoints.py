"""What is not a stream: endpoints for clips, for submitting and cancelling files, and the work on files.

In: settings. Out: the endpoints of the micro service and the consumers of the work queue, started and stopped together.
"""

import asyncio
import logging

from transcriber.bus.audit import AuditLog
from transcriber.bus.connection import Connection
from transcriber.bus.jetstream import provision
from transcriber.bus.jetstream.client import JetStream
from transcriber.bus.jetstream.file_streams import FILES_BUCKET, RESULTS_BUCKET, URGENT_JOB_CONSUMER
from transcriber.bus.micro_service import Endpoint, MicroService
from transcriber.bus.object_store.bucket import Bucket
from transcriber.clips.handler import ClipHandler
from transcriber.engine.job import Lane
from transcriber.engine.pool import WorkerPool
from transcriber.errors import DeniedError
from transcriber.files.endpoints import JobEndpoints
from transcriber.files.job_store import JobStore
from transcriber.files.runner import FileRunner
from transcriber.files.transcription import FileRuntime
from transcriber.files.work_queue import WorkQueue
from transcriber.pipeline.runtime import Runtime
from transcriber.schema.subjects import CANCEL_SUBJECT, REQUEST_SUBJECT, SUBMIT_SUBJECT, SUBMIT_URGENT_SUBJECT

log = logging.getLogger(__name__)


class Endpoints:
    """Event loop only."""

    def __init__(self, connection: Connection, pool: WorkerPool, runtime: Runtime) -> None:
        settings, telemetry = runtime.settings, runtime.telemetry
        self._connection, self._settings = connection, settings
        self._clips = ClipHandler(connection, pool, runtime) if settings.service else None
        self._files: FileRunner | None = None
        self._endpoints: dict[str, Endpoint] = {}
        if self._clips:
            self._endpoints["transcribe"] = Endpoint(REQUEST_SUBJECT, self._clips.answer, telemetry.record_request)
        if settings.files:
            jetstream = JetStream(connection)
            jobs = JobStore(jetstream, settings, runtime.model)
            buckets = Bucket(jetstream, FILES_BUCKET), Bucket(jetstream, RESULTS_BUCKET)
            queues = {
                Lane.URGENT_FILE: WorkQueue(connection, jobs, URGENT_JOB_CONSUMER),
                Lane.FILE: WorkQueue(connection, jobs),
            }
            self._files = FileRunner(pool, queues, FileRuntime(jetstream, jobs, *buckets, runtime))
            job_endpoints = JobEndpoints(jobs, AuditLog(jetstream, settings, telemetry.instance))
            self._endpoints["submit"] = Endpoint(
                SUBMIT_SUBJECT, lambda message, _: job_endpoints.to_submission(message.data, message.headers)
            )
            self._endpoints["submit-urgent"] = Endpoint(
                SUBMIT_URGENT_SUBJECT,
                lambda message, _: job_endpoints.to_submission(message.data, message.headers, urgent=True),
                optional=True,  # a user with the rights of an earlier version keeps the others
            )
            self._endpoints["cancel"] = Endpoint(
                CANCEL_SUBJECT, lambda message, _: job_endpoints.to_cancellation(message.data, message.headers)
            )
        self._metadata = self._clips.metadata if self._clips else {}
        self._micro = MicroService(connection, self._metadata)

    def model_swapped(self) -> None:
        """Say of the micro service which model there is now."""
        if self._clips:
            self._metadata.update(self._clips.metadata)

    @property
    def files_running(self) -> int:
        """Files in progress."""
        return self._files.running if self._files else 0

    async def start(self) -> None:
        """Accept requests and files; if the broker denies the endpoints, warn and continue without them.

        Raises:
            StartError: JetStream lacks what files need, or the broker is gone again.
        """
        if self._files:
            ready = provision.ensure_files if self._settings.provision else provision.check_files
            await ready(self._connection, self._settings)
        if self._files or self._settings.admin_requests:
            await provision.ready_audit(self._connection, self._settings)
        if self._files:
            await self._files.start()
        if self._endpoints:
            try:
                await self._micro.start(self._endpoints)
            except DeniedError as error:
                log.warning("requests are not answered: %s; SERVICE=0 is to have none", error)

    async def run(self) -> None:
        """Work on files until cancelled. Any exception is a crash."""
        if self._files:
            await self._files.run()
        await asyncio.get_running_loop().create_future()

    async def drain(self) -> None:
        """Accept no more."""
        await self._micro.stop()
        if self._files:
            await self._files.drain()

    async def answer(self, grace_s: float) -> None:
        """Wait for the clips that were accepted: some are still being decoded, or have more windows."""
        if self._clips:
            await self._clips.stop(grace_s)

    async def finish(self, timeout_s: float) -> None:
        """After the workers have stopped: reply, and return files to the work queue."""
        files = [self._files.finish(timeout_s)] if self._files else []
        await asyncio.gather(self._micro.finish(timeout_s), *files)
        if self._clips:
            self._clips.close()
