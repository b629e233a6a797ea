"""Jobs from the work queue: one at a time, when asked, each to one daemon.

In: what the broker delivers. Out: jobs. A job stays ours for as long as the broker hears of it every few seconds; what it hears
nothing of for ``ACK_WAIT_S`` it gives to another. Requests for a job are lost when the broker restarts, without a word, so each
is heard of every few seconds, too, or made anew.
"""

import asyncio
import json
import logging
import time
from collections.abc import Mapping
from contextlib import suppress

from transcriber.bus.connection import Connection, Message
from transcriber.bus.jetstream.file_streams import ACK_WAIT_S, JOB_CONSUMER, JOBS
from transcriber.files.job_store import parse_record
from transcriber.logs import RateLimited
from transcriber.schema.file_jobs import JobRecord
from transcriber.tasks import cancel

log = logging.getLogger(__name__)

PULL_S = 30.0
"""How long a request waits at the broker."""

HEARTBEAT_S = 2.0
SILENCE_S = 3 * HEARTBEAT_S
"""A request of which nothing was heard for so long is lost."""

RETRY_S = 0.5

IN_PROGRESS_S = ACK_WAIT_S / 3

_OURS_TO_EXPECT = frozenset({"404", "408"})
"""A request's time is up."""


class TakenJob:
    """A job that is ours, until ``done``, ``retry`` or ``leave``. Event loop only.

    Attributes:
        record: as it was submitted; the record that is stored may say more.
    """

    def __init__(self, connection: Connection, record: JobRecord, reply: str) -> None:
        self.record = record
        self._connection, self._reply = connection, reply
        self._telling = asyncio.create_task(self._tell())

    @property
    def job(self) -> str:
        """Its id."""
        return self.record.submission.job

    async def done(self) -> None:
        """Nobody needs to do it any more: it is done, failed for good, or cancelled."""
        await self._end(b"+ACK")

    async def retry(self, after_s: float = 0.0) -> None:
        """Somebody, perhaps we, is to try it again, in so many seconds."""
        await self._end(_later(after_s))

    async def leave(self) -> None:
        """It is another's already."""
        await cancel([self._telling])

    async def _end(self, word: bytes) -> None:
        await self.leave()
        await self._connection.publish(self._reply, word)

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(IN_PROGRESS_S)
            await self._connection.publish(self._reply, b"+WPI")


class WorkQueue:
    """Event loop only; one asks at a time."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._inbox = connection.client.new_inbox()
        self._warnings = RateLimited(log)
        self._pull = 0
        self._heard_s = 0.0
        self._news = asyncio.Event()
        self._wanted = False
        self._open = False  # whether a request waits at the broker, as far as is known
        self._job: Message | None = None

    async def start(self) -> None:
        """Be ready to ask.

        Raises:
            BrokerError: the broker denies our inbox.
        """
        await self._connection.subscribe(f"{self._inbox}.*", self._deliver)

    async def next_job(self) -> TakenJob:
        """The next job, however long that takes. When cancelled, one that comes all the same goes to another."""
        self._wanted = True
        try:
            while True:
                if self._job is None:
                    await self._ask()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(HEARTBEAT_S):
                            await self._news.wait()
                    self._open &= time.monotonic() - self._heard_s < SILENCE_S
                    self._news.clear()
                elif job := await self._take(self._job):
                    return job
        finally:
            self._wanted = False
            if self._job:
                await self._connection.publish(self._job.reply, _later(0))
                self._job = None

    async def _take(self, message: Message) -> TakenJob | None:
        self._job = None
        if record := parse_record(message.data):
            return TakenJob(self._connection, record, message.reply)
        await self._connection.publish(message.reply, b"+TERM")  # nobody else could read it either
        return None

    async def _ask(self) -> None:
        """Request a job, unless a request is open."""
        if self._open or not self._connection.connected:
            return
        self._pull += 1
        self._open, self._heard_s = True, time.monotonic()
        request = {"batch": 1, "expires": int(PULL_S * 1e9), "idle_heartbeat": int(HEARTBEAT_S * 1e9)}
        await self._connection.publish(
            f"$JS.API.CONSUMER.MSG.NEXT.{JOBS}.{JOB_CONSUMER}",
            json.dumps(request).encode(),
            reply=f"{self._inbox}.{self._pull}",
        )

    async def _deliver(self, message: Message) -> None:
        """Something came for us: a job, or word of a request."""
        if message.reply.startswith("$JS.ACK."):
            # It may be an older request's: then two will be open, and what the other brings is handed on.
            self._open = False
            if not self._wanted or self._job:
                await self._connection.publish(message.reply, _later(0))
                return
            self._job = message
            self._news.set()
        elif message.subject == f"{self._inbox}.{self._pull}":
            self._hear(message.headers or {})

    def _hear(self, headers: Mapping[str, str]) -> None:
        self._heard_s = time.monotonic()
        status = headers.get("Status")
        if status == "100":
            return
        if status in _OURS_TO_EXPECT:
            self._open = False
            self._news.set()
            return
        # The consumer is gone, or has a new leader, or is asked by too many: the next heartbeat is early enough.
        self._heard_s = time.monotonic() - SILENCE_S
        said = f"{status} {headers.get('Description', '')}".strip()
        self._warnings.warning("no jobs", "no jobs can be had: %s", said)


def _later(after_s: float) -> bytes:
    return b"-NAK " + json.dumps({"delay": int(after_s * 1e9)}).encode() if after_s else b"-NAK"
