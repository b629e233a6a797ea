"""What the tests of files share: a broker that stores, an office that submits, files, and daemons that are soon given up.

Daemons with ``QUICK`` and a queue made with ``quick`` take as many seconds as others take tens of.
"""

import asyncio
import io
import json
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import av
import numpy as np
import pytest

from tests.support.durable_streams import provisioned
from tests.support.waiting import PATIENCE_S, until
from transcriber.bus.connection import Connection
from transcriber.bus.jetstream import file_streams as provision_files
from transcriber.bus.jetstream.client import JetStream
from transcriber.bus.jetstream.file_streams import FILES_BUCKET, JOBS, RESULTS_BUCKET
from transcriber.bus.object_store.bucket import Bucket
from transcriber.bus.object_store.reader import ObjectReader
from transcriber.config import load_settings
from transcriber.errors import UnansweredError
from transcriber.files.job_store import JobStore
from transcriber.schema.file_jobs import RESULT_FORMS, Submission, new_job_id
from transcriber.schema.messages import Final

RATE = 16_000
ENV = {"FILES": 1, "FILE_WINDOW_SECS": 2, "FAKE_WORD_S": 0.5}
"""A daemon of short windows."""
ACK_WAIT_S = 1.5
QUICK = {
    "FAKE_SET": f"transcriber.bus.jetstream.file_streams:ACK_WAIT_S={ACK_WAIT_S} transcriber.files.work_queue:IN_PROGRESS_S=0.5 "
    "transcriber.files.attempt:RETRY_S=0.3 transcriber.files.progress:RECORD_S=0.5 transcriber.files.progress:PROGRESS_S=0.25"
}
"""A job that is not renewed soon goes to another daemon."""
SLOW_ACK_WAIT_S = 300.0
SLOW = {
    "FAKE_SET": f"transcriber.bus.jetstream.file_streams:ACK_WAIT_S={SLOW_ACK_WAIT_S} transcriber.bus.object_store.upload:LANDING_S=300"
}
"""What is not given back is nobody's for longer than a test has patience: who waits for anything, or leaves it, is found out."""


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(provision_files, "ACK_WAIT_S", ACK_WAIT_S)


@pytest.fixture
def slow(quick, monkeypatch):
    monkeypatch.setattr(provision_files, "ACK_WAIT_S", SLOW_ACK_WAIT_S)


class FileClient:
    """Whoever has files transcribed."""

    def __init__(self, connection, settings):
        jetstream = JetStream(connection)
        self.connection, self.client = connection, connection.client
        self.desk = JobStore(jetstream, settings)
        self.inputs, self.results = Bucket(jetstream, FILES_BUCKET), Bucket(jetstream, RESULTS_BUCKET)

    async def submit(self, data, *, urgent=False, headers=None, **fields):
        """Store a file and have it transcribed; returns the job's id."""
        job = fields.setdefault("job", new_job_id())
        name = fields.setdefault("object", f"{job}.audio")
        await self.inputs.put(name, pieces(data))
        endpoint = "submit.urgent" if urgent else "submit"
        return await self.ask(endpoint, Submission(**fields).model_dump_json().encode(), headers)

    async def ask(self, endpoint, payload, headers=None):
        answer = await self.client.request(f"transcriber.{endpoint}", payload, timeout=PATIENCE_S, headers=headers)
        assert "Nats-Service-Error" not in (answer.headers or {}), answer.headers
        return json.loads(answer.data)["job"]

    async def over(self, job):
        """Wait until a job is over; returns its record."""
        deadline = asyncio.get_running_loop().time() + 2 * PATIENCE_S
        while True:
            with suppress(UnansweredError):
                if (kept := await self.desk.record(job)) and kept.record.over:
                    return kept.record
            assert asyncio.get_running_loop().time() < deadline, kept
            await asyncio.sleep(0.05)

    async def result(self, job, form="json"):
        info = await self.results.info(f"{job}.{form}")
        assert info
        reader = ObjectReader(self.results, info)
        data = b"".join([piece async for piece in reader.pieces()])
        return json.loads(data) if form == "json" else data.decode()


@asynccontextmanager
async def file_client(broker, **settings):
    await provisioned(broker, files=True, **settings)
    as_set = load_settings(nats_url=broker.url, **settings)
    connection = Connection()
    await connection.open(as_set, "office")
    try:
        yield FileClient(connection, as_set)
    finally:
        await connection.close()


async def pieces(data):
    yield data


async def submit_unanswered(desk, data, **fields):
    """As ``desk.submit``, but past the daemons, which may die before they answer."""
    job = new_job_id()
    await desk.inputs.put(job, pieces(data))
    await desk.desk.submit(Submission(job=job, object=job, **fields))
    return job


def wav(samples, rate=RATE):
    """(frames, channels) int16 as a WAV file."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", "wav") as container:
        layout = {1: "mono", 2: "stereo"}.get(samples.shape[1], f"{samples.shape[1]} channels")
        stream = container.add_stream("pcm_s16le", rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples).reshape(1, -1), format="s16", layout=layout)
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return buffer.getvalue()


def stepped_levels(seconds, rate=RATE):
    """A level for every second, as (frames, 1) int16: the fake model transcribes which."""
    levels = (np.arange(seconds) % 900 + 50) * 32.768
    return np.repeat(np.round(levels), rate).astype(np.int16)[:, np.newaxis]


async def finals(listener, stream, count, what="its text"):
    await until(lambda: len(listener.of(Final, stream)) >= count, what)


async def more_text(listener, job, count, what):
    await finals(listener, job, len(listener.of(Final, job)) + count, what)


async def documents(desk, job):
    return [await desk.result(job, form) for form in RESULT_FORMS]


async def queued(desk):
    """Jobs that are not over for the work queue."""
    return (await desk.client.jetstream().stream_info(JOBS)).state.messages


async def until_queue_empty(desk):
    async with asyncio.timeout(PATIENCE_S):
        while await queued(desk):  # noqa: ASYNC110 - the broker does not say
            await asyncio.sleep(0.05)


def before(place, number="SIGKILL"):
    return {"FAKE_BEFORE": f"transcriber.{place} {number}"}


def stopped(daemon):
    return Path(f"/proc/{daemon.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
