"""``transcriber purge`` on a real JetStream: what it removes is neither in the streams nor on the disk."""

import json
import os
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import nats
import pytest

from tests.support.client_commands import command, output
from tests.support.durable_streams import provisioned
from tests.support.file_jobs import file_client
from tests.support.jetstream_broker import on_disk
from tests.support.terminal import Terminal
from transcriber.config import load_settings
from transcriber.errors import ConfigError
from transcriber.purge.command import Options, purge
from transcriber.purge.target import Target, parse_age, parse_target
from transcriber.schema.audit import AuditEntry
from transcriber.schema.file_jobs import Submission
from transcriber.schema.messages import End, Final, Status
from transcriber.schema.subjects import AUDIT_SUBJECT

YES = Options(yes=True, by="ada")


@pytest.fixture
def settings(broker):
    return load_settings(nats_url=broker.url)


async def spoken(publisher, stream, session, said, payloads=4, *, ended=True):
    """A session as a durable daemon stores it, and its audio; returns the audio's sequences, and what no purge may leave."""
    pcm = [os.urandom(200) for _ in range(payloads)]
    js = publisher.jetstream()
    seqs = [(await js.publish(f"audio.{stream}", data)).seq for data in pcm]
    common = {
        "stream": stream, "session": session, "rate": 16_000, "frames": 100, "duration": 0.1, "received_at": datetime.now(UTC),
        "start": 0.0, "start_frame": 0, "first_seq": seqs[0], "last_seq": seqs[-1],
    }  # fmt: skip
    messages: list[Any] = [
        Status(**common | {"last_seq": seqs[0]}, state="started"),
        Final.model_construct(**common, type="final", text=said),
    ]
    if ended:
        messages.append(End.model_construct(**common, type="end"))
    for message in messages:
        await js.publish(f"transcripts.{stream}.{message.type}", message.model_dump_json(warnings=False).encode())
    return seqs, [*pcm, said.encode()]


async def subjects(publisher):
    """Messages of every stream, by subject."""
    found: dict[str, int] = {}
    for info in await publisher.jetstream().streams_info():
        with_subjects = await publisher.jetstream().stream_info(info.config.name, subjects_filter=">")
        found |= with_subjects.state.subjects or {}
    return found


async def test_a_stream_is_gone_from_its_streams_and_from_the_disk_and_others_are_as_they_were(
    broker, publisher, settings, tmp_path, capsys
):
    await provisioned(broker, "radio-7", "news")
    seqs, words = await spoken(publisher, "radio-7", "one", "the quick brown fox")
    _, others = await spoken(publisher, "news", "two", "nobody asked")
    more, more_words = await spoken(publisher, "radio-7", "three", "jumps over")
    stored = [*words, *more_words]
    assert on_disk(tmp_path, *stored) == stored

    status = await purge(settings, Target("radio-7"), YES)

    assert status == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("radio-7: 14 messages, ")
    js = publisher.jetstream()
    for seq in [*seqs, *more]:
        with pytest.raises(nats.js.errors.NotFoundError):
            await js.get_msg("AUDIO", seq)
    assert await subjects(publisher) == {
        "audio.news": 4, "transcripts.news.status": 1, "transcripts.news.final": 1, "transcripts.news.end": 1,
    }  # fmt: skip
    assert on_disk(tmp_path, *stored, *others) == others
    assert await purge(settings, Target("radio-7"), YES) == 1
    assert "radio-7: nothing is stored of it" in capsys.readouterr().err


async def test_one_session_goes_and_the_others_of_its_stream_stay(broker, publisher, settings, tmp_path, capsys):
    await provisioned(broker, "radio-7")
    _, before = await spoken(publisher, "radio-7", "one", "before it")
    _, words = await spoken(publisher, "radio-7", "take 2", "the secret")
    _, after = await spoken(publisher, "radio-7", "three", "after it")

    status = await purge(settings, Target("radio-7", "take 2"), Options(yes=True, as_json=True))

    assert status == 0
    said = json.loads(capsys.readouterr().out)
    assert {one["place"]: one["messages"] for one in said["removed"]} == {"audio": 4, "text": 3}
    assert said["removed"][0]["bytes"] == 800
    assert on_disk(tmp_path, *before, *words, *after) == [*before, *after]
    assert (await publisher.jetstream().stream_info("AUDIO")).state.messages == 8


async def test_a_session_id_of_two_recordings_is_refused_unless_both_are_meant(broker, publisher, settings, capsys):
    await provisioned(broker, "radio-7")
    for said in ("first", "second"):
        await spoken(publisher, "radio-7", "daily", said)
        await spoken(publisher, "radio-7", f"between-{said}", said)

    refused = await purge(settings, Target("radio-7", "daily"), YES)
    error = capsys.readouterr().err
    both = await purge(settings, Target("radio-7", "daily"), Options(yes=True, every=True))

    assert (refused, both) == (1, 0)
    assert "2 recordings of radio-7 have the session id 'daily': --every purges them all" in error
    found = await subjects(publisher)
    assert (found["audio.radio-7"], found["transcripts.radio-7.final"]) == (8, 2)


async def test_a_dry_run_says_what_would_go_and_removes_nothing(broker, publisher, settings, capsys):
    await provisioned(broker, "radio-7")
    await spoken(publisher, "radio-7", "one", "words")
    before = await subjects(publisher)

    assert await purge(settings, Target("radio-7"), Options(dry_run=True)) == 0

    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[:1]] == [["audio", "AUDIO", "4", "messages", "800", "bytes"]]
    assert lines[-1].startswith("radio-7: 7 messages, ")
    assert lines[-1].endswith("bytes would be removed")
    assert await subjects(publisher) == before


async def test_only_what_is_older_goes_and_of_audio_what_no_daemon_waits_for(broker, publisher, settings, tmp_path):
    await provisioned(broker)
    _, old = await spoken(publisher, "radio-7", "one", "a while ago")
    between = datetime.now(UTC)
    _, young = await spoken(publisher, "radio-7", "two", "just now")
    await provisioned(broker, "news")
    waiting, of_news = await spoken(publisher, "news", "three", "old news")

    async def purged(stream, before):
        return await purge(settings, Target(stream), Options(yes=True, before=before))

    assert await purged("radio-7", between - timedelta(hours=1)) == 0
    assert on_disk(tmp_path, *old, *young) == [*old, *young]
    assert await purged("radio-7", between) == 0
    assert on_disk(tmp_path, *old, *young) == young
    # The consumer of this one has acknowledged nothing.
    assert await purged("news", datetime.now(UTC)) == 0
    assert on_disk(tmp_path, *of_news) == of_news[: len(waiting)]


async def test_a_job_goes_with_its_file_its_text_its_results_and_its_record(broker, publisher, tmp_path, capsys):
    async with file_client(broker) as desk:
        kept = uuid4().hex.encode()
        file, text, result = (uuid4().hex.encode() * 9_000, uuid4().hex.encode(), uuid4().hex.encode())
        job = f"job={uuid4().hex}"
        for name, data in ((job, file), ("job=other", kept)):
            await desk.inputs.put(f"{name}-patient.wav", once(data))
            await publisher.jetstream().publish(f"transcripts.{name}.final", text if name == job else kept)
            await desk.results.put(f"{name}.txt", once(result if name == job else kept))
            await desk.desk.submit(Submission(job=name, object=f"{name}-patient.wav"))

        status = await purge(load_settings(nats_url=broker.url), Target(job=job), Options(yes=True, as_json=True))

        said = json.loads(capsys.readouterr().out)
        assert status == 0
        assert {one["place"] for one in said["removed"]} == {"queue", "text", "results", "file", "record"}
        found = await subjects(publisher)
        assert [subject for subject in found if job in subject] == []
        assert on_disk(tmp_path, file[:32], text, result, kept) == [kept]
        assert await desk.desk.record("job=other")
        assert await desk.inputs.info("job=other-patient.wav")
        assert not await desk.inputs.info(f"{job}-patient.wav")


async def once(data):
    yield data


async def test_it_asks_and_removes_only_what_is_named_in_the_answer(broker, publisher):
    await provisioned(broker, "radio-7")
    await spoken(publisher, "radio-7", "one", "words")
    before = await subjects(publisher)

    with command(broker, "purge", "radio-7") as process:
        status, _, error = await output(process, b"radio-7\n")
    assert status == 2
    assert "stdin is no terminal that could be asked: --yes removes without asking" in error
    assert await subjects(publisher) == before

    for typed, expected, left in ((b"yes\n", 1, before), (b"radio-7\n", 0, {})):
        with Terminal() as terminal, command(broker, "purge", "radio-7", stdin=terminal.end) as process:
            terminal.started()
            terminal.type(typed)
            status, _, error = await output(process)
        assert (status, await subjects(publisher)) == (expected, left)
        assert "remove all of it, for good? Type radio-7 to confirm: " in error


async def test_what_it_does_is_in_the_audit_which_nothing_is_removed_from(broker, publisher, capsys):
    settings = load_settings(nats_url=broker.url, audit=True)
    await provisioned(broker, "radio-7", audit=True)
    await spoken(publisher, "radio-7", "one", "the secret")

    assert await purge(settings, Target("radio-7", "one"), YES) == 0

    js = publisher.jetstream()
    stored = [await js.get_msg("AUDIT", seq) for seq in (1, 2)]
    entries = [AuditEntry.model_validate_json(one.data) for one in stored]
    assert [one.subject for one in stored] == [f"{AUDIT_SUBJECT}.purged"] * 2
    assert [(e.phase, e.by, e.known_by, e.stream, e.session) for e in entries] == [
        (phase, "ada", "stated", "radio-7", "one") for phase in ("begun", "done")
    ]
    assert sum(removed.messages for removed in entries[1].removed) == 7
    assert b"secret" not in b"".join(one.data for one in stored)
    with pytest.raises(nats.js.errors.APIError, match="not permitted"):
        await js.delete_msg("AUDIT", 1)
    with pytest.raises(nats.js.errors.APIError, match="not permitted"):
        await js.purge_stream("AUDIT")


async def test_without_its_audit_stream_nothing_is_removed(broker, publisher, capsys):
    await provisioned(broker, "radio-7")
    await spoken(publisher, "radio-7", "one", "words")
    before = await subjects(publisher)

    assert await purge(load_settings(nats_url=broker.url, audit=True), Target("radio-7"), YES) == 1

    assert "the audit entry is not stored" in capsys.readouterr().err
    assert await subjects(publisher) == before


@pytest.mark.parametrize("text", ["radio.7", "*", "", "/one", "radio-7/", "job=", "audio.>", "a b"])
def test_what_names_no_single_thing_is_refused(text):
    with pytest.raises(ConfigError, match="must be a stream"):
        parse_target(text)


@pytest.mark.parametrize("text", ["", "-1", "1w", "h", "1e3", "inf", "1 d", "999999d"])
def test_what_is_no_age_is_refused(text):
    with pytest.raises(ValueError, match="such as 36h or 7d"):
        parse_age(text)
