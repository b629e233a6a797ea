"""``transcriber provision`` and what ``serve`` uses of it, on a real JetStream."""

import asyncio
import json
import subprocess
import sys
from collections import Counter, defaultdict

import nats
import pytest
from hypothesis import given, strategies as st

from tests.support.daemon import run
from tests.support.provisioning import AGAIN, FIRST, provisioned
from tests.support.waiting import PATIENCE_S
from transcriber.bus.client_session import connected
from transcriber.bus.jetstream.provision import (
    STORED_TYPES,
    check_consumer,
    check_streams,
    consumer_config,
    ensure_consumer,
    ensure_streams,
    stored_subject,
    stream_configs,
)
from transcriber.config import load_settings
from transcriber.errors import BrokerError, JetStreamError
from transcriber.testing.broker import EmbeddedBroker


async def test_second_run_changes_nothing(settings):
    first = await provisioned(settings(), "radio-7")
    second = await provisioned(settings(), "radio-7")
    checked = await provisioned(settings(), "radio-7", check=True)

    assert first == ([*FIRST, "consumer transcriber-radio-7 created"], True)
    assert second == checked == ([*AGAIN, "consumer transcriber-radio-7 unchanged"], True)


async def test_the_audit_has_a_stream_of_which_nothing_is_deleted_only_if_it_is_wanted(settings, jetstream):
    without, _ = await provisioned(settings())
    said, _ = await provisioned(settings(audit=True, durable=True))
    checked = await provisioned(settings(audit=True), check=True)

    assert (without, said) == (FIRST, [*AGAIN, "stream AUDIT created"])
    assert checked == (["stream AUDIT unchanged"], True)
    config = (await jetstream.stream_info("AUDIT")).config
    assert (config.subjects, config.deny_delete, config.deny_purge) == (["transcriber.audit.*"], True, True)


async def test_beside_live_daemons_the_audit_and_the_bucket_are_made_and_no_audio_or_text_is_stored(
    settings, jetstream
):
    said, right = await provisioned(settings(audit=True, config_bucket="TRANSCRIBER_CONFIG"))

    assert (said, right) == (["stream AUDIT created", "stream KV_TRANSCRIBER_CONFIG created"], True)
    assert {info.config.name for info in await jetstream.streams_info()} == {"AUDIT", "KV_TRANSCRIBER_CONFIG"}


@pytest.mark.parametrize(("streams", "more"), [(["radio-7"], {}), ([], {"partitions": 4}), ([], {"backfill": True})])
async def test_with_durable_daemons_audio_and_text_are_stored_beside_the_audit(settings, streams, more):
    said, _ = await provisioned(settings(audit=True, **more), *streams)

    assert said[:3] == [*FIRST, "stream AUDIT created"]


async def test_check_makes_nothing(settings, jetstream):
    said = await provisioned(settings(), "radio-7", check=True)

    assert said == (
        ["stream AUDIO missing", "stream TRANSCRIPTS missing", "consumer transcriber-radio-7 missing"],
        False,
    )
    assert await jetstream.streams_info() == []


async def test_what_is_stored_and_what_is_not(settings, jetstream):
    await provisioned(settings())

    await jetstream.publish("audio.radio-7", b"1")
    for kind in STORED_TYPES:
        await jetstream.publish(f"transcripts.radio-7.{kind}", b"1")

    with pytest.raises(nats.js.errors.NoStreamResponseError):
        await jetstream.publish("transcripts.radio-7.partial", b"1")
    assert (await jetstream.stream_info("AUDIO")).state.messages == 1
    assert (await jetstream.stream_info("TRANSCRIPTS")).state.messages == len(STORED_TYPES)


async def test_without_names_every_stream_with_audio_has_a_consumer(settings, jetstream):
    await provisioned(settings())
    for name in ("radio-7", "parliament", "radio-7"):
        await jetstream.publish(f"audio.{name}", b"1")

    said, _ = await provisioned(settings())

    assert said == [*AGAIN, "consumer transcriber-parliament created", "consumer transcriber-radio-7 created"]


async def test_stream_by_name_has_its_consumer_before_any_audio(settings):
    said, _ = await provisioned(settings(audio_subject="audio.radio-7"))

    assert said == [*FIRST, "consumer transcriber-radio-7 created"]


async def test_limits_are_updated_and_what_others_set_stays(settings, jetstream):
    await provisioned(settings())
    await jetstream.update_stream((await jetstream.stream_info("AUDIO")).config, description="by hand")
    changed = settings(audio_max_age_secs=60, audio_max_bytes=2**21)

    checked = await provisioned(changed, check=True)
    said = await provisioned(changed)

    lines, right = checked
    assert not right
    assert lines[0].startswith("stream AUDIO differs: ")
    assert "max_age must be 60 s, is 3600 s" in lines[0]
    assert said == (["stream AUDIO updated", "stream TRANSCRIPTS unchanged"], True)
    config = (await jetstream.stream_info("AUDIO")).config
    assert (config.max_age, config.max_bytes, config.description) == (60, 2**21, "by hand")


@pytest.mark.parametrize(
    ("made", "line"),
    [
        ({"retention": "workqueue"}, 'retention must be "limits", is "workqueue"'),
        ({"retention": "interest"}, 'retention must be "limits", is "interest"'),
        ({"storage": "memory"}, 'storage must be "file", is "memory"'),
    ],
)
async def test_stream_that_cannot_be_mended_is_refused(settings, jetstream, made, line):
    await jetstream.add_stream(stream_configs(settings())[0].evolve(**made))

    with pytest.raises(JetStreamError) as refusal:
        await provisioned(settings())

    assert str(refusal.value).startswith(f"stream AUDIO does not fit: {line}")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("made", "line"),
    [
        ({"ack_policy": "explicit"}, 'ack_policy must be "all", is "explicit"'),
        ({"filter_subject": "audio.parliament"}, 'filter_subject must be "audio.radio-7", is "audio.parliament"'),
        ({"deliver_policy": "new"}, 'deliver_policy must be "all", is "new"'),
    ],
)
async def test_consumer_that_cannot_be_mended_is_refused(settings, jetstream, made, line):
    await provisioned(settings())
    await jetstream.add_consumer("AUDIO", consumer_config(settings(), "radio-7").evolve(**made))

    with pytest.raises(JetStreamError) as refusal:
        await provisioned(settings(), "radio-7")

    assert str(refusal.value).startswith(f"consumer transcriber-radio-7 does not fit: {line}")


async def test_consumer_is_updated_where_it_can_be(settings, jetstream):
    await provisioned(settings())
    await jetstream.add_consumer("AUDIO", consumer_config(settings(), "radio-7").evolve(ack_wait=1, max_ack_pending=7))

    said, _ = await provisioned(settings(), "radio-7")

    assert said[-1] == "consumer transcriber-radio-7 updated"
    config = (await jetstream.consumer_info("AUDIO", "transcriber-radio-7")).config
    assert (config.ack_wait, config.max_ack_pending) == (120, 100_000)


async def test_consumer_made_again_at_a_sequence_is_as_good(settings, jetstream):
    await provisioned(settings())
    again = consumer_config(settings(), "radio-7").evolve(deliver_policy="by_start_sequence", opt_start_seq=1)
    await jetstream.add_consumer("AUDIO", again)

    said, _ = await provisioned(settings(), "radio-7")

    assert said[-1] == "consumer transcriber-radio-7 unchanged"


async def test_audio_is_spread_over_the_partitions_and_each_stream_lies_in_one(settings, jetstream):
    parted = settings(partitions=4)
    await provisioned(parted)
    names = [f"stream-{i}" for i in range(20)]
    for name in names * 2:
        await jetstream.publish(f"audio.{name}", b"1")

    said, _ = await provisioned(parted)

    stored = (await jetstream.stream_info("AUDIO", subjects_filter=">")).state.subjects
    parts = defaultdict(set)
    for subject in stored:
        _, part, name = subject.split(".")
        parts[name].add(part)
    assert stored == {f"audio.{part}.{name}": 2 for name, found in parts.items() for part in found}
    assert {name: len(found) for name, found in parts.items()} == dict.fromkeys(names, 1)
    assert set(Counter(min(found) for found in parts.values())) == {"0", "1", "2", "3"}
    assert len(said) == 2 + len(names)
    pending = [(await jetstream.consumer_info("AUDIO", f"transcriber-{name}")).num_pending for name in names]
    assert pending == [2] * len(names)


async def test_daemons_of_all_partitions_share_the_streams(settings, jetstream):
    await provisioned(settings(partitions=3))
    names = sorted(f"stream-{i}" for i in range(12))
    for name in names:
        await jetstream.publish(f"audio.{name}", b"1")

    served = []
    for part in range(3):
        said, _ = await provisioned(settings(partitions=3, partition=part, durable=True))
        served += [line.split()[1].removeprefix("transcriber-") for line in said[2:]]

    assert sorted(served) == names


@given(st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True), st.integers(0, 9))
def test_consumer_is_named_after_its_stream_and_reads_nothing_else(name, partitions):
    settings = load_settings(partitions=partitions)
    config = consumer_config(settings, name)

    assert config.durable_name == config.name == f"transcriber-{name}"
    assert config.filter_subject == stored_subject(settings, name)
    assert config.filter_subject.split(".") == (["audio", "*", name] if partitions else ["audio", name])


async def test_serve_without_provision_names_the_command(settings):
    async with connected(settings(), "test") as connection:
        with pytest.raises(JetStreamError, match=r"no stream AUDIO: run `transcriber provision`"):
            await check_streams(connection, settings())
        await ensure_streams(connection, settings())
        await check_streams(connection, settings())
        with pytest.raises(
            JetStreamError, match=r"no consumer transcriber-radio-7: run `transcriber provision radio-7`"
        ):
            await check_consumer(connection, settings(), "radio-7")
        await ensure_consumer(connection, settings(), "radio-7")
        await check_consumer(connection, settings(), "radio-7")


async def test_serve_lives_with_other_limits_but_not_with_other_subjects(settings, jetstream):
    async with connected(settings(), "test") as connection:
        await ensure_streams(connection, settings(transcript_max_age_secs=60))

        await ensure_streams(connection, settings())
        with pytest.raises(JetStreamError, match="stream AUDIO does not fit: subject_transform must be"):
            await ensure_streams(connection, settings(partitions=4))

    assert (await jetstream.stream_info("TRANSCRIPTS")).config.max_age == 60


async def test_daemons_that_start_together_all_find_the_streams(settings):
    async def start():
        async with connected(settings(), "test") as connection:
            await ensure_streams(connection, settings())
            await ensure_consumer(connection, settings(), "radio-7")

    await asyncio.gather(*(start() for _ in range(8)))

    assert (await provisioned(settings(), "radio-7", check=True))[1]


def test_command_says_a_line_an_object_and_check_is_its_status(broker):
    def provision_command(*arguments):
        command = [sys.executable, "-m", "transcriber", "provision", "--nats-url", broker.url, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        return done.returncode, done.stdout.splitlines()

    before = provision_command("--check", "radio-7")
    made = provision_command("radio-7")
    after = provision_command("--check", "radio-7")

    assert before[0] == 1
    assert made == (0, [*FIRST, "consumer transcriber-radio-7 created"])
    assert after == (0, [*AGAIN, "consumer transcriber-radio-7 unchanged"])


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            {"AUDIO_MAX_BYTES": 2**49},
            "the broker has no room for the stream AUDIO: AUDIO_MAX_BYTES=562949953421312 is more than it has left",
        ),
        (
            {"STREAM_REPLICAS": 3},
            "JetStream refuses STREAM.CREATE.AUDIO: replicas > 1 not supported in non-clustered mode (10074)",
        ),
    ],
)
def test_what_the_broker_cannot_keep_is_one_line_and_status_3(broker, settings, line):
    status, said = run("provision", NATS_URL=broker.url, **settings)

    assert (status, said) == (3, f"transcriber: {line}")


def test_name_that_is_none_is_status_2(broker):
    assert run("provision", "radio.7", NATS_URL=broker.url)[0] == 2


def test_broker_without_jetstream_is_one_line_and_status_3():
    with EmbeddedBroker() as plain:
        said = run("provision", NATS_URL=plain.url)

    assert said == (3, "transcriber: JetStream is off on this broker, or for this account")


RIGHTS = """
authorization {{ users: [
  {{ user: u, password: p, permissions: {{ publish: {publish}, subscribe: {subscribe} }} }} ] }}
"""


@pytest.mark.parametrize(
    ("publish", "subscribe", "line"),
    [
        ('["audio.>"]', '["_INBOX.>"]', "denies this user to publish to $JS.API.STREAM.INFO.AUDIO"),
        ('["$JS.API.STREAM.INFO.*"]', '["_INBOX.>"]', "denies this user to publish to $JS.API.STREAM.CREATE.AUDIO"),
        ('["$JS.API.>"]', '["_INBOX_u.>"]', "denies this user to subscribe to _INBOX.>"),
    ],
    ids=["nothing", "look", "another inbox"],
)
def test_rights_that_do_not_suffice_are_one_line_and_status_3(tmp_path, publish, subscribe, line):
    (tmp_path / "nats.conf").write_text(RIGHTS.format(publish=publish, subscribe=subscribe))
    with EmbeddedBroker("--config", str(tmp_path / "nats.conf"), store=tmp_path / "store") as guarded:
        status, said = run("provision", NATS_URL=guarded.url.replace("//", "//u:p@"))

    assert status == 3
    assert line in said
    assert len(said.splitlines()) == 1


async def test_inbox_of_our_own_is_used(tmp_path):
    (tmp_path / "nats.conf").write_text(RIGHTS.format(publish='["$JS.API.>"]', subscribe='["_INBOX_u.>"]'))
    with EmbeddedBroker("--config", str(tmp_path / "nats.conf"), store=tmp_path / "store") as guarded:
        own = load_settings(nats_url=guarded.url.replace("//", "//u:p@"), nats_inbox_prefix="_INBOX_u")

        said, _ = await provisioned(own)

    assert said == FIRST


async def test_server_that_ignores_the_fence_is_refused():
    async def old_server(reader, writer):
        info = {"server_id": "old", "version": "2.10.29", "headers": True, "max_payload": 2**20, "proto": 1}
        writer.write(b"INFO " + json.dumps(info).encode() + b"\r\n")
        while line := await reader.readline():
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")
        writer.close()

    async with await asyncio.start_server(old_server, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]

        with pytest.raises(JetStreamError, match=r"nats-server 2\.10\.29 is too old .* 2\.11 or newer"):
            await provisioned(load_settings(nats_url=f"nats://127.0.0.1:{port}"))


async def test_subscription_with_capitals_that_is_denied_is_seen(tmp_path):
    (tmp_path / "nats.conf").write_text(RIGHTS.format(publish="[]", subscribe='["audio.other"]'))

    async def take(_):
        raise AssertionError

    with EmbeddedBroker("--config", str(tmp_path / "nats.conf")) as guarded:
        async with connected(load_settings(nats_url=guarded.url.replace("//", "//u:p@")), "test") as connection:
            with pytest.raises(BrokerError, match=r"denies this user to subscribe to audio\.Radio-7"):
                await connection.subscribe("audio.Radio-7", take)
