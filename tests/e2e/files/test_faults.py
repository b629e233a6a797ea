"""Files while daemons stop, die and duel, and the broker with them: the same text and results, once, and nothing left behind."""

import asyncio
import signal
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from nats.errors import NoRespondersError

from bench.chaos.readers import read_texts
from tests.support.clip_requests import ask, clip, text
from tests.support.daemon import PATIENT_STOP, Daemon
from tests.support.durable_streams import Stored
from tests.support.file_jobs import (
    ENV,
    QUICK,
    RATE,
    SLOW,
    before,
    documents,
    file_client,
    finals,
    more_text,
    pieces,
    stepped_levels,
    stopped,
    submit_unanswered,
    until_queue_empty,
    wav,
)
from tests.support.stopwatch import Stopwatch
from tests.support.transcripts import TranscriptListener
from tests.support.waiting import PATIENCE_S, until
from transcriber.bus.jetstream.file_streams import JOB_CONSUMER, JOBS
from transcriber.bus.object_store.bucket import stream_of
from transcriber.files.job_store import StoredRecord
from transcriber.files.work_queue import WorkQueue
from transcriber.schema.file_jobs import RESULT_FORMS, JobRecord, Submission, new_job_id
from transcriber.schema.messages import End
from transcriber.schema.subjects import JOB_SUBJECT
from transcriber.testing.broker import EmbeddedBroker

pytestmark = pytest.mark.usefixtures("quick")


async def subjects(desk, bucket):
    """Of the chunks and descriptions that lie in a bucket."""
    info = await desk.client.jetstream().stream_info(stream_of(bucket.name), subjects_filter=">")
    return sorted(info.state.subjects or {})


async def check(desk, job, seconds, expected):
    """A job is done, its text stored once and in order, its results as ``expected``, and nothing else is left."""
    record = await desk.over(job)
    assert (record.state, record.error) == ("done", None)
    text = Stored(await read_texts(desk.client), job)
    text.check(seconds * RATE)
    assert len(text.of(End)) == 1
    assert await documents(desk, job) == expected
    await until_queue_empty(desk)
    assert await desk.inputs.info(record.submission.object) is None
    return record


async def undisturbed(desk, daemon, audio):
    """The results of a run in which nothing happens."""
    job = await submit_unanswered(desk, audio)
    assert (await desk.over(job)).state == "done"
    return await documents(desk, job)


STAGES = [
    "files.attempt:FileAttempt.run:1",  # taken
    "files.text_stage:TextStage.run:1",  # the record says that it runs
    "files.payloads:FilePayloads._payload:1",  # its first piece
    "durable.transcript_log:TranscriptLog.append:4",
    "files.transcription:check_whole:1",  # its end is stored
    "bus.object_store.bucket:Bucket.put:3",  # some documents are written
    "bus.object_store.bucket:Bucket._announce:2",  # a part of one
    "files.attempt:FileAttempt._end:1",  # all of them
    "files.attempt:FileAttempt._clean_up:1",  # the record says that it is done
    "files.work_queue:TakenJob.done:1",  # the input is removed
]


async def test_death_at_any_stage_changes_nothing(broker, tmp_path):
    audio = wav(stepped_levels(10))
    async with file_client(broker) as desk:
        async with AsyncExitStack() as stack:
            doomed = [Daemon(broker.url, tmp_path, **ENV, **QUICK, **before(stage)) for stage in STAGES]
            for daemon in doomed:
                stack.push_async_exit(daemon)
                daemon.start()
            for daemon in doomed:
                await until(daemon.ready_or_dead, "readiness")
            jobs = [await submit_unanswered(desk, audio) for _ in doomed]
            for stage, daemon in zip(STAGES, doomed, strict=True):
                await until(lambda daemon=daemon: daemon.process.poll() is not None, stage)
                assert daemon.process.returncode == -signal.SIGKILL, daemon.log()
        async with Daemon(broker.url, tmp_path, **ENV, **QUICK) as daemon:
            expected = await undisturbed(desk, daemon, audio)
            for job in jobs:
                await check(desk, job, 10, expected)
        assert all(".M." in name for name in await subjects(desk, desk.inputs))


async def test_what_is_missing_of_a_broken_file_is_said_also_by_who_only_writes_the_results(broker, tmp_path):
    audio = wav(stepped_levels(10))
    doomed = Daemon(broker.url, tmp_path, **ENV, **QUICK, **before("files.transcription:check_whole:1"))
    async with file_client(broker) as desk, doomed:
        job = await submit_unanswered(desk, audio[: len(audio) // 2])
        await until(lambda: doomed.process.poll() is not None, "the place")
        async with Daemon(broker.url, tmp_path, **ENV, **QUICK):
            record = await desk.over(job)

    assert (record.state, record.attempts) == ("done", 2)
    assert record.error == "its header claims 10.0 s, and there are 5.0 s"


@pytest.mark.parametrize(
    "place",
    ["durable.transcript_log:TranscriptLog.append:5", "bus.object_store.bucket:Bucket.put:3"],
    ids=["text", "results"],
)
async def test_a_daemon_that_wakes_late_steps_back(broker, tmp_path, place):
    audio = wav(stepped_levels(16))
    first = Daemon(broker.url, tmp_path, **ENV, **QUICK, **before(place, "SIGSTOP"))
    async with file_client(broker) as desk, TranscriptListener(broker.url) as listener, first:
        job = await submit_unanswered(desk, audio)
        await until(lambda: stopped(first), "the place")
        async with Daemon(broker.url, tmp_path, **ENV, **QUICK, FAKE_JOB_S=0.1) as second:
            if "TranscriptLog" in place:
                await more_text(listener, job, 2, "text of the second")
            else:
                await desk.over(job)
            first.process.send_signal(signal.SIGCONT)
            record = await desk.over(job)
            await check(desk, job, 16, await undisturbed(desk, second, audio))
            assert record.attempts <= 2
            await second.stop()
        after = await submit_unanswered(desk, wav(stepped_levels(2)))
        assert (await desk.over(after)).state == "done"
        assert begun(first, job) == [1]


def begun(daemon, job):
    """The attempts at a job that a daemon has begun."""
    return [line["attempt"] for line in daemon.log_lines() if line["msg"] == "file started" and line["job"] == job]


async def test_text_of_a_daemon_that_wakes_up_as_another_begins_is_kept(broker, tmp_path):
    """The record is the second's, and the next message the first's: the second starts again behind it, at once."""
    audio = wav(stepped_levels(16))
    first = Daemon(
        broker.url, tmp_path, **ENV, **QUICK, **before("durable.transcript_log:TranscriptLog.append:3", "SIGSTOP")
    )
    second = Daemon(
        broker.url, tmp_path, **ENV, **QUICK, **before("durable.transcript_log:TranscriptLog.append:1", "SIGSTOP")
    )
    async with file_client(broker) as desk, TranscriptListener(broker.url) as listener, first:
        job = await submit_unanswered(desk, audio)
        await until(lambda: stopped(first), "the first's place")
        async with second:
            await until(lambda: stopped(second), "the second's place")
            first.process.send_signal(signal.SIGCONT)
            await more_text(listener, job, 1, "text of the first")
            await until(lambda: "file left to another daemon" in first.log(), "the first to step back")
            second.process.send_signal(signal.SIGCONT)
            await desk.over(job)
            await check(desk, job, 16, await undisturbed(desk, second, audio))
            assert "file left to another daemon" not in second.log()


async def test_a_daemon_that_wakes_late_is_not_given_its_own_job_once_more(broker, tmp_path):
    """With a worker free it asks for jobs: what the broker redelivers to it is its own."""
    audio = wav(stepped_levels(16))
    env = ENV | QUICK | {"WHISPER_WORKERS": 2}
    async with (
        file_client(broker) as desk,
        TranscriptListener(broker.url) as listener,
        Daemon(broker.url, tmp_path, **env, FAKE_JOB_S=0.1) as daemon,
    ):
        job = await submit_unanswered(desk, audio)
        await finals(listener, job, 4)
        daemon.process.send_signal(signal.SIGSTOP)
        await until_delivered_again(desk)
        daemon.process.send_signal(signal.SIGCONT)
        await desk.over(job)
        await check(desk, job, 16, await undisturbed(desk, daemon, audio))
        assert len([line for line in daemon.log_lines() if line["msg"] == "file started"]) == 2


async def until_delivered_again(desk):
    async with asyncio.timeout(PATIENCE_S):
        while not (await desk.client.jetstream().consumer_info(JOBS, JOB_CONSUMER)).num_redelivered:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("place", "state"),
    [
        ("files.transcription:check_whole:1", "cancelled"),
        ("bus.object_store.bucket:Bucket.put:3", "cancelled"),
        ("files.attempt:FileAttempt._end:1", "cancelled"),
        ("files.attempt:FileAttempt._clean_up:1", "done"),
    ],
)
async def test_a_job_cancelled_late_leaves_no_results(broker, tmp_path, place, state):
    daemon = Daemon(broker.url, tmp_path, **ENV, **QUICK, **before(place, "SIGSTOP"))
    async with file_client(broker) as desk, daemon:
        job = await submit_unanswered(desk, wav(stepped_levels(4)))
        await until(lambda: stopped(daemon), "the place")
        for _ in range(2):
            assert (await desk.desk.cancel(job)).state == state
        daemon.process.send_signal(signal.SIGCONT)
        await until_queue_empty(desk)
        record = (await desk.desk.record(job)).record
        assert record.state == state
        assert (await desk.desk.cancel(job)).state == state
        left = [form for form in RESULT_FORMS if await desk.results.info(f"{job}.{form}")]
        assert left == (list(RESULT_FORMS) if state == "done" else [])
        assert await desk.inputs.info(record.submission.object) is None
        assert (await desk.over(await submit_unanswered(desk, wav(stepped_levels(1))))).state == "done"


@pytest.mark.parametrize(
    ("place", "kill"),
    [("durable.transcript_log:TranscriptLog.append:5", False), ("bus.object_store.bucket:Bucket.put:3", True)],
    ids=["stopped in the text", "killed in the results"],
)
async def test_a_broker_that_is_away_is_waited_for(broker, tmp_path, place, kill):
    audio = wav(stepped_levels(10))
    async with AsyncExitStack() as stack:
        desk = await stack.enter_async_context(file_client(broker))
        daemon = Daemon(broker.url, tmp_path, **ENV, **QUICK, **before(place, "SIGSTOP"))
        await stack.enter_async_context(daemon)
        job = await submit_unanswered(desk, audio)
        await until(lambda: stopped(daemon), "the place")
        if kill:
            broker.process.kill()
            broker.process.wait()
            daemon.process.send_signal(signal.SIGCONT)
            stack.enter_context(EmbeddedBroker(store=tmp_path / "store", port=broker.port))
        else:
            broker.process.send_signal(signal.SIGSTOP)
            daemon.process.send_signal(signal.SIGCONT)
            await asyncio.sleep(6)  # longer than an answer may take
            broker.process.send_signal(signal.SIGCONT)
        await desk.over(job)
        record = await check(desk, job, 10, await undisturbed(desk, daemon, audio))
        assert record.attempts == 1
        assert "file left to another daemon" not in daemon.log()


async def test_a_full_bucket_is_tried_again_and_then_given_up(broker, tmp_path):
    async with file_client(broker, transcript_max_bytes=2**20) as desk:
        await desk.results.put("somebody's", pieces(bytes(2**20 - 1500)))
        async with Daemon(broker.url, tmp_path, **ENV, **QUICK, MAX_ATTEMPTS=1) as daemon:
            job = await submit_unanswered(desk, wav(stepped_levels(10)))
            record = await desk.over(job)
            assert record.state == "failed"
            assert record.error == "given up after 5 attempts: maximum bytes exceeded"
            await until_queue_empty(desk)
            assert [form for form in RESULT_FORMS if await desk.results.info(f"{job}.{form}")] == []
            assert await desk.inputs.info(record.submission.object)
            assert begun(daemon, job) == [1, 2, 3, 4, 5]


async def test_many_jobs_over_two_daemons_of_which_one_dies(broker, tmp_path):
    audio = wav(stepped_levels(6))
    env = ENV | QUICK | {"WHISPER_WORKERS": 2, "FAKE_JOB_S": 0.05}
    async with file_client(broker) as desk, Daemon(broker.url, tmp_path, **env) as first:
        jobs = [await submit_unanswered(desk, audio) for _ in range(20)]
        async with Daemon(broker.url, tmp_path, **env) as second:
            await desk.over(jobs[3])
            first.process.kill()
            for job in jobs:
                await desk.over(job)
            expected = await undisturbed(desk, second, audio)
            for job in jobs:
                await check(desk, job, 6, expected)


@pytest.mark.parametrize(
    ("place", "hung"),
    [
        ("files.work_queue:TakenJob.__init__:1", False),
        ("files.attempt:FileAttempt.run:1", False),
        ("bus.object_store.reader:ObjectReader.read_at:2", True),
        ("durable.transcript_log:TranscriptLog.append:4", False),
        ("files.transcription:check_whole:1", False),
        ("bus.object_store.bucket:Bucket.put:2", True),
        ("files.attempt:FileAttempt._end:1", False),
    ],
)
@pytest.mark.usefixtures("slow")
async def test_a_stop_at_any_time_waits_for_nobody_and_gives_the_job_back(broker, tmp_path, place, hung):
    async with file_client(broker) as desk:
        env = ENV | SLOW | before(place, "SIGSTOP") | {"SHUTDOWN_GRACE_SECS": 0.2}
        if not hung:
            env["FAKE_SET"] += " " + PATIENT_STOP["FAKE_SET"]
        async with Daemon(broker.url, tmp_path, **env) as daemon:
            job = await submit_unanswered(desk, wav(stepped_levels(20)))
            await until(lambda: stopped(daemon), "the place")
            if hung:
                broker.process.send_signal(signal.SIGSTOP)
            daemon.process.send_signal(signal.SIGTERM)
            daemon.process.send_signal(signal.SIGCONT)
            watch = Stopwatch()
            assert await daemon.ended(watch) == 0, daemon.log()
            took_s = watch.own_s
        broker.process.send_signal(signal.SIGCONT)
        assert took_s < 2.2, daemon.log()
        assert "Traceback" not in daemon.log()
        assert "never retrieved" not in daemon.log()
        if not hung:
            await check_given_back(desk, job)


async def check_given_back(desk, job):
    """Somebody else is given it at once, unless it was over in time."""
    kept = await desk.desk.record(job)
    if kept and kept.record.over:
        await until_queue_empty(desk)
        return
    feed = WorkQueue(desk.connection, desk.desk)
    await feed.start()
    watch = Stopwatch()
    async with asyncio.timeout(PATIENCE_S):
        taken = await feed.next_job()
    assert watch.own_s < 3
    assert taken.job == job
    await taken.abandon()
    assert kept is None or kept.record.attempts == 0


@pytest.mark.usefixtures("slow")
async def test_a_job_that_is_recorded_while_a_daemon_takes_it_is_not_left(broker, tmp_path):
    job = new_job_id()
    async with (
        file_client(broker) as desk,
        Daemon(broker.url, tmp_path, **ENV, **SLOW, **before("files.job_store:JobStore.update:1", "SIGSTOP")) as daemon,
    ):
        await desk.inputs.put(job, pieces(wav(stepped_levels(4))))
        info = await desk.inputs.info(job)
        record = JobRecord(
            submission=Submission(job=job, object=job),
            state="queued",
            size=info.size,
            digest=info.digest,
            submitted_at=datetime.now(UTC),
        )
        await desk.client.jetstream().publish(f"{JOB_SUBJECT}.{job}", record.model_dump_json().encode())
        await until(lambda: stopped(daemon), "the place")
        await desk.desk.update(StoredRecord(record, 0))
        watch = Stopwatch()
        daemon.process.send_signal(signal.SIGCONT)
        assert (await desk.over(job)).state == "done"
        assert watch.own_s < 10


@pytest.mark.parametrize(
    "place", ["files.attempt:FileAttempt._clean_up:1", "files.progress:FileProgress.publish_until:1"]
)
async def test_a_fault_of_ours_costs_an_attempt_and_no_worker(broker, tmp_path, place):
    audio = wav(stepped_levels(4))
    async with (
        file_client(broker) as desk,
        Daemon(broker.url, tmp_path, **ENV, **QUICK, **before(place, "RAISE")) as daemon,
    ):
        job = await submit_unanswered(desk, audio)
        await check(desk, job, 4, await undisturbed(desk, daemon, audio))
        assert "raised, as requested" in daemon.log()


EARLIER_USER = """authorization { default_permissions: { publish: ">", subscribe: [
    "audio.*", "transcriber.streams", "transcriber.admin.>", "transcriber.admin", "_INBOX.>", "$SRV.>", "transcriber.transcribe q", "transcriber.submit q", "transcriber.cancel q"] }
  users: [ {user: daemon, password: d}, {user: client, password: c, permissions: {publish: ">", subscribe: ">"}} ] }"""


async def test_a_broker_as_it_was_before_urgent_files_keeps_its_jobs_and_its_daemon(tmp_path):
    (tmp_path / "nats.conf").write_text(EARLIER_USER)
    with EmbeddedBroker("-c", str(tmp_path / "nats.conf"), store=tmp_path / "store") as guarded:
        url = guarded.url.replace("//", "//{0}:{0[0]}@")
        async with file_client(SimpleNamespace(url=url.format("client"))) as desk:
            admin = desk.client.jetstream()
            await admin.delete_consumer(JOBS, "transcriber-urgent")
            config = (await admin.stream_info(JOBS)).config
            await admin.update_stream(config.evolve(subjects=["transcriber.jobs.*"]))
            job = await submit_unanswered(desk, wav(stepped_levels(2)))
            async with Daemon(url.format("daemon"), tmp_path, **ENV, PROVISION=1) as daemon:
                waited = await desk.over(job)
                submitted = await desk.over(await desk.submit(wav(stepped_levels(2))))
                transcribed = text(await ask(desk.client, clip(5, 0.5)))
                with pytest.raises(NoRespondersError):
                    await desk.client.request("transcriber.submit.urgent", b"", PATIENCE_S)
                warnings = [line["msg"] for line in daemon.log_lines() if line["level"] == "WARNING"]

    assert (waited.state, submitted.state, transcribed) == ("done", "done", "5")
    denied = "the broker denies this user to subscribe to transcriber.submit.urgent"
    assert warnings == [f"submit-urgent is not served: {denied}"]
