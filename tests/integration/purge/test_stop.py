"""``transcriber purge`` of what is at work, or cannot be read: what it stops first, what is on record before, and what it refuses."""

import asyncio
import json
from datetime import UTC, datetime

import pytest

from tests.support.durable_streams import provisioned
from tests.support.file_jobs import file_client, pieces
from transcriber.bus.jetstream.file_streams import JOBS
from transcriber.config import load_settings
from transcriber.errors import RequestError
from transcriber.files.job_store import JobStore
from transcriber.purge import jobs
from transcriber.purge.command import Options, purge
from transcriber.purge.streams import until
from transcriber.purge.target import Target
from transcriber.schema.file_jobs import Submission

YES = Options(yes=True)
JOB = "job=1"


@pytest.fixture
async def desk(broker):
    """With a job that waits."""
    async with file_client(broker) as ours:
        await ours.inputs.put("patient.wav", pieces(b"audio"))
        await ours.desk.submit(Submission(job=JOB, object="patient.wav"))
        yield ours


@pytest.fixture
def purged(broker):
    async def call(target, **settings):
        return await purge(load_settings(nats_url=broker.url, **settings), target, YES)

    return call


async def test_a_job_that_a_daemon_takes_while_it_is_cancelled_is_waited_for(desk, purged, monkeypatch):
    cancel, jetstream = JobStore.cancel, desk.client.jetstream()
    waited = []

    async def taken_meanwhile(store, job):
        await store.update(await store.record(job), state="running", attempts=1)
        return await cancel(store, job)

    async def daemon_lets_go(found, patience_s):
        waited.append(patience_s)
        await jetstream.publish(f"transcripts.{JOB}.final", b"its last text")
        last = await jetstream.get_last_msg(JOBS, f"transcriber.jobs.{JOB}")
        await jetstream.delete_msg(JOBS, last.seq)
        return await until(found, patience_s)

    monkeypatch.setattr(JobStore, "cancel", taken_meanwhile)
    monkeypatch.setattr(jobs, "until", daemon_lets_go)

    assert await purged(Target(job=JOB)) == 0

    assert waited == [jobs.LET_GO_S]
    assert (await jetstream.stream_info("TRANSCRIPTS")).state.messages == 0


async def test_a_job_that_cannot_be_cancelled_is_one_line(desk, purged, monkeypatch, capsys):
    async def too_fast(store, job):
        raise RequestError(503, f"{job!r} changes too fast; retry")

    monkeypatch.setattr(JobStore, "cancel", too_fast)

    assert await purged(Target(job=JOB)) == 1
    assert capsys.readouterr().err == "transcriber: job=1: 'job=1' changes too fast; retry\n"


async def test_without_its_audit_stream_no_job_is_cancelled(desk, purged, capsys):
    assert await purged(Target(job=JOB), audit=True) == 1

    assert "the audit entry is not stored" in capsys.readouterr().err
    assert (await desk.desk.record(JOB)).record.state == "queued"
    assert await desk.inputs.info("patient.wav")


async def test_a_file_that_is_also_that_of_one_of_many_jobs_stays(desk, purged, capsys):
    record = (await desk.desk.record(JOB)).record
    jetstream = desk.client.jetstream()
    later = record.model_copy(
        update={"submitted_at": datetime.now(UTC), "state": "done", "ended_at": datetime.now(UTC)}
    )
    for numbers in (range(2, 600), range(600, 1100)):
        await asyncio.gather(
            *(jetstream.publish(f"transcriber.records.job={number}", as_job(later, number)) for number in numbers)
        )
    await jetstream.publish("transcriber.records.job=1100", as_job(later, 1100))

    assert await purged(Target(job="job=1100")) == 1

    assert "its file is also that of job=1, which is queued" in capsys.readouterr().err
    assert await desk.inputs.info("patient.wav")


def as_job(record, number):
    submission = record.submission.model_copy(update={"job": f"job={number}"})
    return record.model_copy(update={"submission": submission}).stored()


async def test_a_job_whose_record_cannot_be_read_is_refused(desk, purged, capsys):
    jetstream = desk.client.jetstream()
    await jetstream.publish(f"transcriber.records.{JOB}", b'{"schema": 99}')

    assert await purged(Target(job=JOB)) == 1

    assert "its record cannot be read: a newer version wrote it" in capsys.readouterr().err
    assert await desk.inputs.info("patient.wav")


@pytest.mark.parametrize("session", [None, "one"])
async def test_a_stream_whose_last_checkpoint_cannot_be_read_is_refused(broker, publisher, purged, session, capsys):
    await provisioned(broker, "radio-7")
    jetstream = publisher.jetstream()
    newer = {"type": "final", "session": "one", "checkpoint": {"of": "a newer version"}}
    await jetstream.publish("audio.radio-7", b"1234")
    await jetstream.publish("transcripts.radio-7.final", json.dumps(newer).encode())

    assert await purged(Target("radio-7", session)) == 1

    assert "message 1 of its text cannot be read: a newer version stored it" in capsys.readouterr().err
    assert [(await jetstream.stream_info(name)).state.messages for name in ("AUDIO", "TRANSCRIPTS")] == [1, 1]
