"""Jobs from the work queue, urgent ones or the others: one at a time, on request, each to one daemon.

In: what the broker delivers. Out: jobs. A job is leased: its daemon extends the lease every few seconds, and after ``ACK_WAIT_S``
without that the broker gives it to another. Requests are lost without notice when the broker restarts, so the broker sends
heartbeats for an open one, and without them it is made again.
"""

import asyncio
import json
import logging
import time
from collections.abc import Mapping
from contextlib import suppress

from transcriber.bus.connection import Connection, NatsMessage
from transcriber.bus.jetstream.file_streams import ACK_WAIT_S, JOB_CONSUMER, JOBS
from transcriber.errors import FencedError, RefusedError, UnansweredError
from transcriber.files.job_store import JobStore, parse_record
from transcriber.logs import RateLimited
from transcriber.schema.file_jobs import JobRecord
from transcriber.tasks import cancel

log = logging.getLogger(__name__)

PULL_S = 30.0
"""How long a request waits at the broker."""

HEARTBEAT_S = 2.0
SILENCE_S = 3 * HEARTBEAT_S
"""A request without a heartbeat for so long is lost."""

RETRY_S = 0.5

IN_PROGRESS_S = ACK_WAIT_S / 3
"""How often the lease of a job is extended."""

_EXPIRED = frozenset({"404", "408"})
"""Statuses of a request that has expired."""


class TakenJob:
    """A job that this daemon has leased, until ``done``, ``retry`` or ``abandon``. Event loop only.

    Attributes:
        record: as it was submitted; the record that is stored may say more.
    """

    def __init__(self, connection: Connection, record: JobRecord, reply: str) -> None:
        self.record = record
        self._connection, self._reply = connection, reply
        self._extending = asyncio.create_task(self._extend_lease())

    @property
    def job(self) -> str:
        """Its id."""
        return self.record.submission.job

    async def done(self) -> None:
        """It is done, failed for good, or cancelled."""
        await self._end(b"+ACK")

    async def retry(self, after_s: float = 0.0) -> None:
        """Any daemon is to retry it in so many seconds."""
        await self._end(_later(after_s))

    async def abandon(self) -> None:
        """Another daemon has it already: extend the lease no more."""
        await cancel([self._extending])

    async def _end(self, answer: bytes) -> None:
        await self.abandon()
        await self._connection.publish(self._reply, answer)

    async def _extend_lease(self) -> None:
        while True:
            await asyncio.sleep(IN_PROGRESS_S)
            await self._connection.publish(self._reply, b"+WPI")


class WorkQueue:
    """Event loop only; one caller at a time."""

    def __init__(self, connection: Connection, jobs: JobStore, consumer: str = JOB_CONSUMER) -> None:
        """``consumer`` has the jobs: the urgent ones, or the others. ``jobs``: where one that cannot be read is failed."""
        self._connection, self._jobs, self._consumer = connection, jobs, consumer
        self._inbox = connection.client.new_inbox()
        self._warnings = RateLimited(log)
        self._pull = 0
        self._arrived_s = 0.0
        self._arrived = asyncio.Event()
        self._wanted = False
        self._open = False  # whether a request waits at the broker, as far as is known
        self._job: NatsMessage | None = None

    async def start(self) -> None:
        """Subscribe the inbox of the requests.

        Raises:
            BrokerError: the broker denies our inbox.
        """
        await self._connection.subscribe(f"{self._inbox}.*", self._deliver)

    async def next_job(self) -> TakenJob:
        """The next job, however long that takes. When cancelled, one that still arrives goes back to the queue."""
        self._wanted = True
        try:
            while True:
                if self._job is None:
                    await self._request()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(HEARTBEAT_S):
                            await self._arrived.wait()
                    self._open &= time.monotonic() - self._arrived_s < SILENCE_S
                    self._arrived.clear()
                elif job := await self._take(self._job):
                    return job
        finally:
            self._wanted = False
            if self._job:
                await self._connection.publish(self._job.reply, _later(0))
                self._job = None

    async def _take(self, message: NatsMessage) -> TakenJob | None:
        self._job = None
        if record := parse_record(message.data):
            return TakenJob(self._connection, record, message.reply)
        await self._connection.publish(message.reply, await self._drop(message))
        return None

    async def _drop(self, message: NatsMessage) -> bytes:
        """The answer to a job that cannot be read, after its record says that it failed."""
        job = message.subject.rpartition(".")[2]
        try:
            await self._jobs.fail_unread(job, message.data)
        except (FencedError, UnansweredError, RefusedError) as error:
            self._warnings.warning(
                "unread", "a job that cannot be read is not recorded as failed yet: %s", error, job=job
            )
            return _later(RETRY_S)
        log.error("job failed: it cannot be read", extra={"job": job})
        return b"+TERM"

    async def _request(self) -> None:
        """Request a job, unless a request is open."""
        if self._open or not self._connection.connected:
            return
        self._pull += 1
        self._open, self._arrived_s = True, time.monotonic()
        body = {"batch": 1, "expires": int(PULL_S * 1e9), "idle_heartbeat": int(HEARTBEAT_S * 1e9)}
        await self._connection.publish(
            f"$JS.API.CONSUMER.MSG.NEXT.{JOBS}.{self._consumer}",
            json.dumps(body).encode(),
            reply=f"{self._inbox}.{self._pull}",
        )

    async def _deliver(self, message: NatsMessage) -> None:
        """A job, a heartbeat, or the end of a request."""
        if message.reply.startswith("$JS.ACK."):
            # It may be an older request's: then two are open, and the other's job goes back to the queue.
            self._open = False
            if not self._wanted or self._job:
                await self._connection.publish(message.reply, _later(0))
                return
            self._job = message
            self._arrived.set()
        elif message.subject == f"{self._inbox}.{self._pull}":
            self._on_status(message.headers or {})

    def _on_status(self, headers: Mapping[str, str]) -> None:
        self._arrived_s = time.monotonic()
        status = headers.get("Status")
        if status == "100":
            return
        if status in _EXPIRED:
            self._open = False
            self._arrived.set()
            return
        # The consumer is gone, or has a new leader, or too many requests: the next heartbeat is early enough.
        self._arrived_s = time.monotonic() - SILENCE_S
        reason = f"{status} {headers.get('Description', '')}".strip()
        self._warnings.warning("no jobs", "no jobs can be had: %s", reason)


def _later(after_s: float) -> bytes:
    return b"-NAK " + json.dumps({"delay": int(after_s * 1e9)}).encode() if after_s else b"-NAK"
