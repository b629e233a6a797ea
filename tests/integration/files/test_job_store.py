"""The job desk and the feed of jobs, on a real JetStream."""

import asyncio
import json
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.waiting import PATIENCE_S, until
from transcriber.bus.client_session import connected
from transcriber.bus.jetstream.client import JetStream
from transcriber.bus.jetstream.file_streams import FILES_BUCKET, URGENT_JOB_CONSUMER, job_consumers
from transcriber.bus.jetstream.provision import ensure_files
from transcriber.bus.object_store.bucket import Bucket
from transcriber.config import load_settings
from transcriber.engine.job import Lane
from transcriber.errors import FencedError, RequestError, UnansweredError
from transcriber.files.endpoints import MAX_OPEN, JobEndpoints
from transcriber.files.job_store import JobStore
from transcriber.files.runner import FileRunner
from transcriber.files.work_queue import WorkQueue
from transcriber.schema.file_jobs import Answer, Submission
from transcriber.tasks import cancel
from transcriber.testing.broker import EmbeddedBroker

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Office:
    """A connection with a desk and a feed of its own, as a daemon has it."""

    def __init__(self, connection, settings):
        self.connection = connection
        self.jetstream = JetStream(connection)
        self.desk = JobStore(self.jetstream, settings)
        self.feed = WorkQueue(connection, self.desk)

    async def next_job(self):
        async with asyncio.timeout(PATIENCE_S):
            return await self.feed.next_job()

    async def put(self, name, data=b"RIFF"):
        async def pieces():
            yield data

        await Bucket(self.jetstream, FILES_BUCKET).put(name, pieces())

    async def submit(self, name="a.wav", *, urgent=False, **given):
        await self.put(name)
        return await self.desk.submit(Submission(object=name, **given), urgent=urgent)

    async def waiting(self):
        """Jobs in the queue, taken or not."""
        return (await self.jetstream.call("STREAM.INFO.JOBS"))["state"]["messages"]

    async def quicker(self, ack_wait_s):
        config = job_consumers()[0].evolve(ack_wait=ack_wait_s)
        call = f"CONSUMER.CREATE.JOBS.{config.name}.{config.filter_subject}"
        await self.jetstream.call(call, {"stream_name": "JOBS", "config": config.as_dict()})


@asynccontextmanager
async def office_at(url, **given):
    settings = load_settings(nats_url=url, **given)
    async with connected(settings, "test") as connection:
        await ensure_files(connection, settings)
        office = Office(connection, settings)
        await office.feed.start()
        yield office


@pytest.fixture
async def office(broker):
    async with office_at(broker.url) as opened:
        yield opened


@pytest.fixture
async def second(broker):
    async with office_at(broker.url) as opened:
        yield opened


async def refusal(answering):
    with pytest.raises(RequestError) as refused:
        await answering
    assert "\n" not in str(refused.value)
    return refused.value.code


async def test_job_is_recorded_queued_and_taken_once(office):
    answer = await office.submit("a.wav", by="me", keep=True)

    taken = await office.next_job()
    kept = await office.desk.record(answer.job)
    await taken.done()
    await until_empty(office)

    assert answer.state == "queued"
    assert taken.record == kept.record
    assert (kept.record.submission.by, kept.record.submission.keep, kept.record.size) == ("me", True, 4)
    info = await Bucket(office.jetstream, FILES_BUCKET).info("a.wav")
    assert info is not None
    assert kept.record.digest == info.digest


async def until_empty(office):
    async with asyncio.timeout(PATIENCE_S):
        while await office.waiting():  # noqa: ASYNC110 - the broker says nothing by itself
            await asyncio.sleep(0.01)


async def test_same_job_again_is_the_same_job(office, second):
    await office.put("a.wav")
    submission = Submission(object="a.wav")

    first, together = await asyncio.gather(office.desk.submit(submission), second.desk.submit(submission))
    kept = await office.desk.record(submission.job)
    await office.desk.update(kept, state="running")
    later = await office.desk.submit(submission)

    assert first == together == Answer(job=submission.job, state="queued")
    assert later.state == "running"
    assert await office.waiting() == 1


async def test_job_that_is_over_is_not_queued_again(office):
    answer = await office.submit(job="job=1")
    taken = await office.next_job()
    await office.desk.update(await office.desk.record(answer.job), state="done")
    await taken.done()
    await until_empty(office)

    again = await office.submit(job="job=1")

    assert again.state == "done"
    assert await office.waiting() == 0


async def test_job_whose_record_was_lost_on_the_way_gets_it_with_the_second_submission(office, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr(office.desk, "update", lost_record)
        with pytest.raises(ConnectionAbortedError):
            await office.submit(job="job=1")
    assert await office.desk.record("job=1") is None

    again = await office.submit(job="job=1")

    assert again.state == "queued"
    assert (await office.desk.record("job=1")).record.state == "queued"
    assert await office.waiting() == 1


async def lost_record(*_):
    raise ConnectionAbortedError


async def test_job_that_has_no_record_yet_can_be_cancelled(office, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr(office.desk, "update", lost_record)
        with pytest.raises(ConnectionAbortedError):
            await office.submit(job="job=1")

    answer = await office.desk.cancel("job=1")

    assert answer.state == "cancelled"
    assert (await office.desk.record("job=1")).record.over


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"[]", 400),
        (b"{}", 400),
        (b'{"object": "a.wav", "job": "radio-7"}', 400),
        (b'{"object": "a.wav", "job": "job=*"}', 400),
        (b'{"object": "a.wav", "more": 1}', 400),
        (b'{"object": "a.wav", "language": "Englisch"}', 400),
        (b'{"object": "none.wav"}', 404),
        (b'{"object": "large.wav"}', 413),
        (b'{"object": "other.wav", "job": "job=1"}', 409),
    ],
)
async def test_submission_that_cannot_be_done_is_refused_in_one_line(broker, data, code):
    async with office_at(broker.url, file_max_bytes=10) as office:
        await office.put("large.wav", bytes(11))
        await office.submit(job="job=1")

        assert await refusal(JobEndpoints(office.desk).to_submission(data)) == code
        assert await office.waiting() == 1


async def test_requests_are_answered_in_json(office):
    await office.put("a.wav")

    submitted = json.loads(await JobEndpoints(office.desk).to_submission(b'{"object": "a.wav"}'))
    cancelled = json.loads(
        await JobEndpoints(office.desk).to_cancellation(json.dumps({"job": submitted["job"]}).encode())
    )

    assert submitted == {"job": submitted["job"], "state": "queued"}
    assert cancelled == {"job": submitted["job"], "state": "cancelled"}


class Audit:
    """An audit that stores entries here, or fails."""

    def __init__(self):
        self.entries = []
        self.fails = False

    async def write(self, event, *, by, key, **fields):
        if self.fails:
            raise UnansweredError("the audit entry is not stored")
        self.entries.append((event, by, fields["job"]))


async def test_a_job_that_cannot_be_put_on_record_is_neither_queued_nor_cancelled(office):
    audit: Any = Audit()
    endpoints = JobEndpoints(office.desk, audit)
    await office.put("a.wav")
    submission, cancellation = b'{"object": "a.wav", "job": "job=1", "by": "ada"}', b'{"job": "job=1"}'

    audit.fails = True
    assert await refusal(endpoints.to_submission(submission)) == 503
    assert await office.waiting() == 0
    audit.fails = False
    await endpoints.to_submission(submission)
    audit.fails = True
    assert await refusal(endpoints.to_cancellation(cancellation, {"Requested-By": "eve"})) == 503

    assert (await office.desk.record("job=1")).record.state == "queued"
    assert audit.entries == [("submitted", "ada", "job=1")]


async def test_only_who_queued_or_cancelled_a_job_is_on_record_for_it(office):
    audit: Any = Audit()
    endpoints = JobEndpoints(office.desk, audit)
    await office.put("a.wav")

    for by in ("ada", "eve"):
        await endpoints.to_submission(json.dumps({"object": "a.wav", "job": "job=1", "by": by}).encode())
    for by in ("bob", "eve"):
        answer = json.loads(await endpoints.to_cancellation(b'{"job": "job=1"}', {"Requested-By": by}))
        assert answer["state"] == "cancelled"

    assert audit.entries == [("submitted", "ada", "job=1"), ("cancelled", "bob", "job=1")]


@pytest.mark.parametrize(("data", "code"), [(b"{}", 400), (b'{"job": "a"}', 400), (b'{"job": "job=1"}', 404)])
async def test_cancellation_that_cannot_be_done_is_refused(office, data, code):
    assert await refusal(JobEndpoints(office.desk).to_cancellation(data)) == code


async def test_broker_that_is_away_is_503(tmp_path):
    broker = EmbeddedBroker(store=tmp_path / "store")
    broker.start()
    async with office_at(broker.url) as office:
        broker.stop()
        await until(lambda: not office.connection.connected, "the loss")

        assert await refusal(JobEndpoints(office.desk).to_submission(b'{"object": "a.wav"}')) == 503
        assert await refusal(JobEndpoints(office.desk).to_cancellation(b'{"job": "job=1"}')) == 503


async def test_full_queue_is_429(office):
    config = (await office.jetstream.call("STREAM.INFO.JOBS"))["config"]
    await office.jetstream.call("STREAM.UPDATE.JOBS", config | {"max_bytes": 100})
    await office.put("a.wav")

    assert await refusal(JobEndpoints(office.desk).to_submission(b'{"object": "a.wav"}')) == 429
    assert await office.desk.records() == []


async def test_more_than_may_ask_at_once_are_429(office):
    answers = JobEndpoints(office.desk)

    codes = await asyncio.gather(*(refusal(answers.to_cancellation(b'{"job": "job=1"}')) for _ in range(MAX_OPEN + 3)))

    assert sorted(codes) == [404] * MAX_OPEN + [429] * 3
    assert await refusal(answers.to_cancellation(b'{"job": "job=1"}')) == 404


async def test_link_is_400(office):
    bucket = Bucket(office.jetstream, FILES_BUCKET)
    meta = {"name": "x", "nuid": "1", "options": {"link": {"bucket": "OTHER"}}}
    await office.jetstream.store(bucket._meta_subject("x"), json.dumps(meta).encode(), {"Nats-Rollup": "sub"})

    assert await refusal(JobEndpoints(office.desk).to_submission(b'{"object": "x"}')) == 400


@pytest.mark.parametrize("state", ["queued", "running", "done", "failed", "cancelled"])
async def test_cancelling_ends_what_is_not_over(office, state):
    answer = await office.submit()
    kept = await office.desk.update(await office.desk.record(answer.job), state=state)

    cancelled = await office.desk.cancel(answer.job)

    after = await office.desk.record(answer.job)
    if state in {"queued", "running"}:
        assert cancelled.state == after.record.state == "cancelled"
        assert after.record.ended_at is not None
    else:
        assert cancelled.state == state
        assert after == kept


async def test_the_owner_of_a_job_learns_that_it_is_cancelled(office, second):
    answer = await office.submit()
    running = await office.desk.update(await office.desk.record(answer.job), state="running", instance="a")
    await second.desk.cancel(answer.job)

    with pytest.raises(FencedError):
        await office.desk.update(running, done_s=5.0)

    assert (await office.desk.record(answer.job)).record.state == "cancelled"


async def test_change_whose_answer_was_lost_is_ours_all_the_same(office):
    answer = await office.submit()
    kept = await office.desk.record(answer.job)
    at = datetime.now(UTC)

    stored = await office.desk.update(kept, state="running", started_at=at, done_s=0.1)
    again = await office.desk.update(kept, state="running", started_at=at, done_s=0.1)

    assert again == stored


async def test_record_that_its_stream_has_forgotten_is_created_again(office):
    answer = await office.submit()
    kept = await office.desk.record(answer.job)
    await office.jetstream.call("STREAM.PURGE.JOB_RECORDS")

    again = await office.desk.update(kept, state="running")

    assert await office.desk.record(answer.job) == again


async def test_a_job_that_was_purged_is_not_recorded_again_by_the_daemon_that_has_it(office):
    answer = await office.submit()
    kept = await office.desk.record(answer.job)
    for stream in ("JOB_RECORDS", "JOBS"):
        await office.jetstream.call(f"STREAM.PURGE.{stream}")

    with pytest.raises(FencedError):
        await office.desk.update(kept, state="running")

    assert await office.desk.record(answer.job) is None


async def test_records_are_listed_the_latest_first(office, monkeypatch):
    monkeypatch.setattr("transcriber.files.job_store.PAGE", 3)
    jobs = [(await office.submit(f"{n}.wav")).job for n in range(8)]
    await office.desk.cancel(jobs[2])
    await office.jetstream.store("transcriber.records.job=broken", b"{}", {})

    found = await office.desk.records()
    few = await office.desk.records(count=2)

    assert [kept.record.submission.job for kept in found] == jobs[::-1]
    assert [kept.record.state == "cancelled" for kept in found].index(True) == 5
    assert few == found[:2]


async def test_two_takers_never_have_the_same_job(office, second, monkeypatch):
    monkeypatch.setattr("transcriber.files.work_queue.IN_PROGRESS_S", 0.2)
    await office.quicker(3.0)
    jobs = {(await office.submit(f"{n}.wav")).job for n in range(4)}

    taken = [await taker.next_job() for taker in (office, second, office, second)]
    third = asyncio.create_task(office.feed.next_job())
    done, _ = await asyncio.wait({third}, timeout=5)

    assert {job.record.submission.job for job in taken} == jobs
    assert not done
    third.cancel()
    for job in taken:
        await job.done()
    await until_empty(office)


async def test_job_stays_with_the_owner_that_renews_it_and_resumes_when_it_dies(broker, office, monkeypatch):
    monkeypatch.setattr("transcriber.files.work_queue.IN_PROGRESS_S", 0.2)
    async with AsyncExitStack() as life:
        mortal = await life.enter_async_context(office_at(broker.url))
        await office.quicker(3.0)
        answer = await office.submit()
        taken = await mortal.next_job()
        waiting = asyncio.create_task(office.next_job())
        done, _ = await asyncio.wait({waiting}, timeout=5)
        assert not done
        taken._extending.cancel()

    again = await waiting

    assert again.record.submission.job == answer.job
    await again.done()


async def test_job_that_is_to_be_tried_again_comes_when_it_is_time(office, second):
    await office.submit()
    taken = await office.next_job()
    loop = asyncio.get_running_loop()

    await taken.retry(1.0)
    began_s = loop.time()
    again = await second.next_job()

    assert loop.time() - began_s > 0.9
    await again.retry()
    assert (await office.next_job()).record == taken.record


async def test_job_that_comes_when_nobody_asks_any_more_goes_to_another(office, second):
    asking = asyncio.create_task(office.feed.next_job())
    await until(lambda: office.feed._open, "the request")
    await office.connection.flush(1)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)

    answer = await second.submit()
    taken = await second.next_job()

    assert taken.record.submission.job == answer.job
    await taken.done()


@pytest.mark.parametrize("payload", [b"", b"{}", b"\xff", b'{"submission": {"object": "a"}}'])
async def test_what_is_no_job_is_dropped_with_a_warning(office, caplog, payload):
    await office.jetstream.store("transcriber.jobs.x", payload, {})
    answer = await office.submit()

    taken = await office.next_job()
    await taken.done()
    await until_empty(office)

    assert taken.record.submission.job == answer.job
    assert "invalid job record" in caplog.text


LATER = {"submission": {"job": "job=later", "object": "a", "later": 1}, "state": "queued", "size": 1, "digest": ""}
"""What a daemon of a later version may queue."""


@pytest.mark.parametrize(
    ("record", "kept"), [(LATER, "failed"), (None, "failed"), (LATER | {"state": "cancelled"}, "cancelled")]
)
async def test_a_job_that_cannot_be_read_is_failed_and_not_queued_for_ever(office, caplog, record, kept):
    if record:
        await office.jetstream.store("transcriber.records.job=later", json.dumps(record).encode(), {})
    await office.jetstream.store("transcriber.jobs.job=later", json.dumps(LATER).encode(), {})
    answer = await office.submit()

    taken = await office.next_job()
    await taken.done()
    await until_empty(office)

    stored = await office.jetstream.message("JOB_RECORDS", last_by_subj="transcriber.records.job=later")
    assert taken.job == answer.job
    after = json.loads(stored.payload)
    assert (after["state"], after["submission"]) == (kept, LATER["submission"])
    assert ("cannot read the job" in after.get("error", "")) is (kept == "failed")
    assert [one.job for one in caplog.records if "it cannot be read" in one.message] == ["job=later"]


async def test_a_job_that_cannot_be_read_waits_until_its_record_can_say_so(office, monkeypatch):
    async def unanswered(*_):
        monkeypatch.undo()
        raise UnansweredError("no answer")

    monkeypatch.setattr(office.desk, "fail_unread", unanswered)
    await office.jetstream.store("transcriber.jobs.job=later", json.dumps(LATER).encode(), {})
    asking = asyncio.create_task(office.next_job())
    await until_empty(office)

    stored = await office.jetstream.message("JOB_RECORDS", last_by_subj="transcriber.records.job=later")
    assert json.loads(stored.payload)["state"] == "failed"
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)


async def test_jobs_come_again_after_the_broker_was_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("transcriber.files.work_queue.SILENCE_S", 1.0)
    monkeypatch.setattr("transcriber.files.work_queue.HEARTBEAT_S", 0.3)
    broker = EmbeddedBroker(store=tmp_path / "store")
    broker.start()
    async with office_at(broker.url) as office:
        asking = asyncio.create_task(office.next_job())
        await until(lambda: office.feed._open, "the request")
        await office.connection.flush(1)
        broker.process.kill()
        broker.process.wait()
        await until(lambda: not office.connection.connected, "the loss")
        with EmbeddedBroker(store=tmp_path / "store", port=broker.port):
            await until(lambda: office.connection.connected, "the broker")
            answer = await office.submit()

            taken = await asking

            assert taken.record.submission.job == answer.job
            await taken.done()
            await until_empty(office)
    broker.stop()


async def test_feed_without_a_consumer_warns_and_waits(office, caplog):
    await office.jetstream.call("CONSUMER.DELETE.JOBS.transcriber")
    asking = asyncio.create_task(office.next_job())

    await until(lambda: "no jobs can be had" in caplog.text, "the warning")
    await office.quicker(15)
    answer = await office.submit()

    assert (await asking).record.submission.job == answer.job


async def test_urgent_jobs_have_a_queue_of_their_own(office):
    urgent_feed = WorkQueue(office.connection, office.desk, URGENT_JOB_CONSUMER)
    await urgent_feed.start()
    first = await office.submit("a.wav")
    await office.put("b.wav")
    answers = JobEndpoints(office.desk)
    urgent = Answer.model_validate_json(await answers.to_submission(b'{"object": "b.wav"}', urgent=True))

    async with asyncio.timeout(PATIENCE_S):
        taken = await urgent_feed.next_job()
    other = await office.next_job()
    await taken.retry()
    async with asyncio.timeout(PATIENCE_S):
        again = await urgent_feed.next_job()

    assert (taken.job, taken.record.urgent) == (again.job, again.record.urgent) == (urgent.job, True)
    assert (other.job, other.record.urgent) == (first.job, False)
    await again.done()
    await other.done()
    await until_empty(office)


async def test_a_job_that_came_into_both_queues_at_once_leaves_the_one_that_its_record_does_not_name(office):
    await office.submit("a.wav", job="job=1")
    await office.jetstream.call("STREAM.PURGE.JOB_RECORDS", {})
    record = (await office.desk._waiting("job=1")).record
    await office.desk._queue(record.model_copy(update={"urgent": True}))
    again = await office.submit("a.wav", job="job=1", urgent=True)
    queue = WorkQueue(office.connection, office.desk, URGENT_JOB_CONSUMER)
    pool: Any = SimpleNamespace(workers=[SimpleNamespace(queue=None, on_room=[])])
    shared: Any = SimpleNamespace(jobs=office.desk)
    runner = FileRunner(pool, {Lane.URGENT_FILE: queue}, shared)
    assert await office.waiting() == 2

    await runner.start()
    running = asyncio.create_task(runner.run())
    async with asyncio.timeout(PATIENCE_S):
        while await office.waiting() > 1:
            assert not running.done(), running.exception()
            await asyncio.sleep(0.01)
    await cancel([running])

    assert again.state == "queued"
    assert (await office.next_job()).record.urgent is (await office.desk.record("job=1")).record.urgent is False


@pytest.mark.parametrize("urgent", [False, True])
async def test_a_job_that_waits_without_its_record_is_not_put_into_the_other_queue_too(office, urgent):
    await office.submit("a.wav", job="job=1", urgent=urgent)
    await office.put("b.wav")
    await office.jetstream.call("STREAM.PURGE.JOB_RECORDS", {})

    refused = await refusal(office.desk.submit(Submission(object="b.wav", job="job=1"), urgent=not urgent))
    again = await office.submit("a.wav", job="job=1", urgent=not urgent)

    assert (refused, again.state, await office.waiting()) == (409, "queued", 1)
    assert (await office.desk.record("job=1")).record.urgent is urgent


async def test_an_urgent_job_whose_record_is_not_stored_yet_can_be_cancelled(office):
    answer = await office.submit("a.wav", urgent=True)
    await office.jetstream.call("STREAM.PURGE.JOB_RECORDS", {})

    cancelled = await office.desk.cancel(answer.job)

    assert cancelled.state == "cancelled"
    assert (await office.desk.record(answer.job)).record.urgent


@pytest.mark.parametrize(("given", "kept"), [(PARENT, PARENT), ("rubbish", None), (None, None)])
async def test_the_trace_of_a_submission_is_in_its_record(office, given, kept):
    await office.put("a.wav")
    headers = {"TraceParent": given} if given else None

    answer = Answer.model_validate_json(await JobEndpoints(office.desk).to_submission(b'{"object": "a.wav"}', headers))

    assert (await office.desk.record(answer.job)).record.traceparent == kept
