"""What files need of JetStream, made and checked on a real one."""

import asyncio

import nats
import pytest

from tests.support.daemon import run
from tests.support.messages import payloads_on
from tests.support.provisioning import AGAIN, FIRST, provisioned
from transcriber.bus.client_session import connected
from transcriber.bus.jetstream import client as client_module
from transcriber.bus.jetstream.client import JetStream
from transcriber.bus.jetstream.file_streams import FILES_BUCKET, RESULTS_BUCKET, file_streams, job_consumers
from transcriber.bus.jetstream.provision import check_files, ensure_files
from transcriber.bus.object_store.bucket import Bucket
from transcriber.config import load_settings
from transcriber.errors import JetStreamError
from transcriber.testing.broker import EmbeddedBroker

OBJECTS = [
    "stream TRANSCRIPTS",
    "stream OBJ_AUDIO_FILES",
    "stream OBJ_TRANSCRIPTS",
    "stream JOBS",
    "stream JOB_RECORDS",
    "consumer transcriber",
    "consumer transcriber-urgent",
]


async def test_files_alone_need_no_audio_stream_and_a_second_run_changes_nothing(settings):
    checked = await provisioned(settings(files=True), check=True)
    first = await provisioned(settings(files=True))
    second = await provisioned(settings(files=True))
    again = await provisioned(settings(files=True), check=True)

    assert checked == ([f"{name} missing" for name in OBJECTS], False)
    assert first == ([f"{name} created" for name in OBJECTS], True)
    assert second == again == ([f"{name} unchanged" for name in OBJECTS], True)


@pytest.mark.parametrize(("more", "streams"), [({"durable": True}, []), ({"backfill": True}, []), ({}, ["radio-7"])])
async def test_files_beside_durable_mode_need_both(settings, more, streams):
    said, _ = await provisioned(settings(files=True, **more), *streams)

    consumers = [f"consumer transcriber-{name} created" for name in streams]
    assert said == ["stream AUDIO created", *(f"{name} created" for name in OBJECTS), *consumers]


async def test_buckets_are_object_stores_to_nats_py_and_to_us(settings, jetstream):
    await provisioned(settings(files=True, file_max_age_secs=77, files_max_bytes=2**22))

    async with connected(settings(), "test") as connection:
        for name in (FILES_BUCKET, RESULTS_BUCKET):
            theirs = await jetstream.object_store(name)
            await theirs.put("x", b"1")
            found = await Bucket(JetStream(connection), name).info("x")
            assert found is not None
            assert found.size == 1

    status = await (await jetstream.object_store(FILES_BUCKET)).status()
    assert (status.ttl, status.stream_info.config.max_bytes) == (77, 2**22)


async def test_a_bucket_of_another_client_s_making_will_do_when_its_limits_are_ours(settings, jetstream):
    await jetstream.create_object_store(FILES_BUCKET)

    lines, _ = await provisioned(settings(files=True))

    assert lines[1] == "stream OBJ_AUDIO_FILES updated"


async def test_each_job_has_one_record_the_latest(settings, jetstream):
    await provisioned(settings(files=True))

    for payload in (b"1", b"2"):
        await jetstream.publish("transcriber.records.job=1", payload)

    assert (await jetstream.stream_info("JOB_RECORDS")).state.messages == 1
    assert (await jetstream.get_last_msg("JOB_RECORDS", "transcriber.records.job=1")).data == b"2"


async def test_serve_without_provision_names_the_command(settings, jetstream):
    async with connected(settings(), "test") as connection:
        with pytest.raises(JetStreamError, match=r"no stream TRANSCRIPTS: run `transcriber provision --files`"):
            await check_files(connection, settings())
        await asyncio.gather(*(ensure_files(connection, settings()) for _ in range(5)))
        await check_files(connection, settings(file_max_age_secs=5))
        await jetstream.delete_consumer("JOBS", "transcriber")
        with pytest.raises(JetStreamError, match=r"no consumer transcriber: run `transcriber provision --files`"):
            await check_files(connection, settings())


async def test_daemons_that_start_together_need_the_room_once(tmp_path):
    room = f'jetstream {{ store_dir: "{tmp_path}", max_file_store: {12 * 2**30} }}'
    with EmbeddedBroker(config=room) as broker:
        settings = load_settings(nats_url=broker.url)
        async with connected(settings, "test") as connection:
            await asyncio.gather(*(ensure_files(connection, settings) for _ in range(5)))
            await check_files(connection, settings)


@pytest.mark.parametrize(
    ("number", "made", "line"),
    [
        (0, {"allow_rollup_hdrs": False}, "stream OBJ_AUDIO_FILES does not fit: allow_rollup_hdrs must be true"),
        (0, {"allow_direct": False}, "stream OBJ_AUDIO_FILES does not fit: allow_direct must be true"),
        (2, {"retention": "limits"}, 'stream JOBS does not fit: retention must be "workqueue", is "limits"'),
        (3, {"max_msgs_per_subject": -1}, "stream JOB_RECORDS does not fit: max_msgs_per_subject must be 1, is -1"),
    ],
)
async def test_what_a_daemon_cannot_live_with_is_refused(settings, jetstream, number, made, line):
    config = file_streams(settings())[number]
    await jetstream.add_stream(config.evolve(**made))

    async with connected(settings(), "test") as connection:
        with pytest.raises(JetStreamError) as refusal:
            await ensure_files(connection, settings())

    assert str(refusal.value).startswith(line)


async def test_stream_that_is_more_able_than_it_must_be_is_as_good(settings, jetstream):
    await provisioned(settings())
    config = (await jetstream.stream_info("AUDIO")).config
    await jetstream.update_stream(config.evolve(allow_direct=True))

    said, _ = await provisioned(settings())

    assert said == AGAIN


@pytest.mark.parametrize("allowed", [True, False])
async def test_stored_text_is_read_by_pages_and_one_by_one_where_its_stream_does_not_allow_it(
    settings, jetstream, monkeypatch, allowed
):
    monkeypatch.setattr(client_module, "PAGE", 4)
    await provisioned(settings(files=True))
    if not allowed:  # as an earlier version made it
        config = (await jetstream.stream_info("TRANSCRIPTS")).config
        await jetstream.update_stream(config.evolve(allow_direct=False))
    own = []
    for number in range(10):
        own.append((await jetstream.publish("transcripts.a.final", str(number).encode())).seq)
        await jetstream.publish("transcripts.b.final", b"another's")

    async with connected(settings(), "test") as connection:
        await check_files(connection, settings(files=True))
        single = await payloads_on(connection.client, "$JS.API.STREAM.MSG.GET.TRANSCRIPTS")
        found = [message async for message in JetStream(connection).paged("TRANSCRIPTS", "transcripts.a.*")]

    assert [message.seq for message in found] == own
    assert [message.payload for message in found] == [str(number).encode() for number in range(10)]
    assert len(single) == (1 if allowed else 11)


@pytest.fixture
async def earlier_jobs(settings, jetstream):
    """A broker as it was provisioned before urgent jobs, with limits of the operator's and a job that waits."""
    await provisioned(settings(files=True))
    await jetstream.delete_consumer("JOBS", "transcriber-urgent")
    config = (await jetstream.stream_info("JOBS")).config
    await jetstream.update_stream(config.evolve(subjects=["transcriber.jobs.*"], max_bytes=2**20))
    await jetstream.publish("transcriber.jobs.job=1", b"waits")


async def jobs_waiting(jetstream):
    return (await jetstream.get_last_msg("JOBS", "transcriber.jobs.job=1")).data


@pytest.mark.usefixtures("earlier_jobs")
async def test_serve_without_provision_names_the_command_for_an_earlier_queue_which_keeps_its_jobs(settings, jetstream):
    async with connected(settings(), "test") as connection:
        with pytest.raises(JetStreamError, match="stream JOBS does not fit: subjects must be") as refusal:
            await check_files(connection, settings())
        await provisioned(settings(files=True))
        await check_files(connection, settings())

    assert str(refusal.value).endswith(
        "; run `transcriber provision --files`, which changes it, or change the settings"
    )
    assert await jobs_waiting(jetstream) == b"waits"


@pytest.mark.usefixtures("earlier_jobs")
async def test_serve_with_provision_changes_an_earlier_queue_and_keeps_its_jobs_and_limits(settings, jetstream):
    async with connected(settings(), "test") as connection:
        await asyncio.gather(*(ensure_files(connection, settings()) for _ in range(3)))

    config = (await jetstream.stream_info("JOBS")).config
    assert (config.subjects, config.max_bytes) == (["transcriber.jobs.*", "transcriber.jobs.urgent.*"], 2**20)
    assert (await jetstream.consumer_info("JOBS", "transcriber-urgent")).num_pending == 0
    assert await jobs_waiting(jetstream) == b"waits"


async def test_consumer_of_another_kind_is_refused(settings, jetstream):
    await jetstream.add_stream(file_streams(settings())[2])
    await jetstream.add_consumer("JOBS", job_consumers()[0].evolve(deliver_subject="jobs", max_waiting=None))

    with pytest.raises(JetStreamError, match="consumer transcriber does not fit: deliver_subject must be unset"):
        await provisioned(settings(files=True))


def test_command_has_a_flag(broker):
    statuses = [run("provision", "--files", *check, NATS_URL=broker.url)[0] for check in (["--check"], [], ["--check"])]

    assert statuses == [1, 0, 0]


async def test_default_makes_what_durable_mode_needs_alone(settings, jetstream):
    said, _ = await provisioned(settings())

    assert said == FIRST
    with pytest.raises(nats.js.errors.NotFoundError):
        await jetstream.stream_info("JOBS")
