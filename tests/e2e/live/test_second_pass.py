"""The second pass: published text is transcribed again in one piece, and revised or left as it is."""

import numpy as np
import pytest

from tests.support.audio import level, speak
from tests.support.daemon import Daemon
from tests.support.durable_streams import ENV, Restarted, provisioned, store, stored, until_stored
from tests.support.waiting import until
from transcriber.schema.messages import End, Final, Gap, Revision, Status, message_id
from transcriber.testing.broker import EmbeddedBroker
from transcriber.testing.verify import account_errors

RATE = 16_000
HALF = RATE // 2


@pytest.fixture
def broker(tmp_path):
    with EmbeddedBroker(store=tmp_path / "store") as running:
        yield running


# With a daemon: the model transcribes a number each half second, and wrongly those of even level in less than 1.2 s.

HEARS = {
    "INPUT_SAMPLE_RATE": RATE,
    "BUFFER_DURATION_SECS": 1,
    "FAKE_WORD_S": 0.5,
    "FAKE_MISHEARS_S": 1.2,
    "SECOND_PASS": 1,
}
LEVELS = range(101, 113)
"""Six seconds."""

STORED = ENV | HEARS


async def test_live_text_is_revised_from_memory_before_the_session_ends(broker, tmp_path, publisher, listener):
    async with Daemon(broker.url, tmp_path, **HEARS):
        for number in LEVELS:
            await speak(publisher, "s", level(number, HALF))
        await speak(publisher, "s", b"", end=1)
        await listener.ends(1)
        figures = await until(lambda: next((m for m in listener.metrics if m["transcriber.revisions"]), None))

    listener.check_accounts()
    assert listener.text("s").split()[:4] == ["101", "1020", "103", "1040"]
    (revision,) = listener.of(Revision)
    finals = listener.of(Final)
    assert revision.text.split() == [str(number) for number in LEVELS]
    assert revision.replaces == tuple(message_id("s", f.session, f.start_frame, "final", 0) for f in finals)
    assert (revision.segment, revision.last_segment, revision.rev) == (0, 5, 1)
    assert (revision.start, revision.duration) == (0, 6)
    assert [word.start for word in revision.words][:3] == [0, 0.5, 1.0]
    assert isinstance(listener.messages[-1], End)
    assert figures["transcriber.revisions"] == 1


async def test_speakers_apart_are_revised_apart(broker, tmp_path, publisher, listener):
    async with Daemon(broker.url, tmp_path, **HEARS, SPEAKERS="channels", INPUT_CHANNELS=2):
        for number in LEVELS:
            both = np.stack([np.frombuffer(level(n, HALF), "<i2") for n in (number, number + 100)], axis=1)
            await speak(publisher, "s", both.tobytes())
        await speak(publisher, "s", b"", end=1)
        await listener.ends(1)

    said_by = {revision.speaker: revision.text for revision in listener.of(Revision)}
    assert said_by == {str(n): " ".join(str(number + 100 * n) for number in LEVELS) for n in (0, 1)}


async def test_under_load_no_second_pass_runs_and_the_end_does_not_wait(broker, tmp_path, publisher, listener):
    """Four streams take turns, so that when one has ended the others still wait; but for the last."""
    job_s = tmp_path / "job_s"
    job_s.write_text("0.2")
    env = HEARS | {"FAKE_JOB_FILE": job_s, "TRANSCRIPTION_QUEUE_CAPACITY": 64}
    fast = {"FAKE_SET": "transcriber.pipeline.second_pass:END_S=0"}
    async with Daemon(broker.url, tmp_path, **env, **fast):
        for number in LEVELS:
            for stream in "abcd":
                await speak(publisher, stream, level(number, HALF))
        for stream in "abcd":
            await speak(publisher, stream, b"", end=1)
        await listener.ends(4)
        figures = await until(
            lambda: next((m for m in listener.metrics if m["transcriber.revisions.left_out"]["busy"] >= 3), None)
        )

    listener.check_accounts()
    assert not listener.of(Gap)
    assert len(listener.of(Revision)) + figures["transcriber.revisions.left_out"]["busy"] <= 4


async def test_a_passage_that_waits_behind_a_file_does_not_keep_the_end(broker, tmp_path, publisher, listener):
    """A pass is in hand that takes long; another stream's waits in the queue behind it."""
    job_s = tmp_path / "job_s"
    job_s.write_text("0")
    fast = {"FAKE_SET": "transcriber.pipeline.second_pass:END_S=0.5"}
    async with Daemon(broker.url, tmp_path, **HEARS, FAKE_JOB_FILE=job_s, **fast):
        for stream in "ab":
            for number in LEVELS:
                await speak(publisher, stream, level(number, HALF))
        await until(lambda: len(listener.of(Final)) == 12)
        job_s.write_text("3600")
        await speak(publisher, "a", b"", end=1)
        await until(lambda: listener.metrics and listener.metrics[-1]["transcriber.streams.active"] == 1)
        await speak(publisher, "b", b"", end=1)
        (end,) = await listener.ends(1)
        assert end.stream == "b"
        job_s.write_text("0")
        await listener.ends(2)

    assert [revision.stream for revision in listener.of(Revision)] == ["a"]
    listener.check_accounts()


async def test_at_a_stop_nothing_waits_for_the_second_pass(broker, tmp_path, publisher, listener):
    job_s = tmp_path / "job_s"
    job_s.write_text("0")
    async with Daemon(broker.url, tmp_path, **HEARS, FAKE_JOB_FILE=job_s) as daemon:
        for number in LEVELS:
            await speak(publisher, "s", level(number, HALF))
        await until(lambda: len(listener.of(Final)) == 6)
        job_s.write_text("3600")
        await speak(publisher, "s", b"", end=1)
        status, _ = await daemon.stop()
        await listener.ends(1)

    assert status == 0
    assert not listener.of(Revision)
    listener.check_accounts()


@pytest.mark.parametrize("mode", [{}, {"DURABLE": 0, "BACKFILL": 1}])
async def test_stored_text_is_revised_from_stored_audio(broker, tmp_path, publisher, mode):
    await provisioned(broker)
    async with Daemon(broker.url, tmp_path, **STORED | mode):
        for n, number in enumerate(LEVELS):
            await store(publisher, "s", level(number, HALF), offset=n * HALF)
        await store(publisher, "s", b"", end=1)
        found = await until_stored(publisher, lambda found: found.of(End) and found.of(Revision))

    (revision,) = found.of(Revision)
    assert revision.text.split() == [str(number) for number in LEVELS]
    assert len(revision.replaces) == 6
    assert (revision.first_seq, revision.last_seq) == (found.of(Final)[0].first_seq, found.of(Final)[-1].last_seq)
    assert len(found.of(End)) == 1


async def test_what_a_daemon_died_of_is_left_and_the_rest_is_revised_by_the_next_one(
    broker, tmp_path, publisher, listener
):
    await provisioned(broker)
    levels = [101 + n % 200 for n in range(3 * 46)]
    death = {"FAKE_BEFORE": "transcriber.durable.second_pass:StoredSecondPass._transcribe:1 SIGKILL"}
    async with Daemon(broker.url, tmp_path, **STORED, **death) as daemon:
        for n, number in enumerate(levels):
            await store(publisher, "s", level(number, HALF), offset=n * HALF)
        await daemon.ended()
    before = await stored(publisher)
    async with Daemon(broker.url, tmp_path, **STORED):
        await store(publisher, "s", b"", end=1)
        found = await until_stored(publisher, lambda found: found.of(End) and len(found.of(Revision)) == 2)
        figures = await until(lambda: listener.metrics[-1]["transcriber.revisions"] == 2 and listener.metrics[-1])

    assert not before.of(Revision)
    assert figures["transcriber.revisions.left_out"]["suspect"] == 1
    assert [(revision.start, revision.duration) for revision in found.of(Revision)] == [(23, 23), (46, 23)]
    for revision in found.of(Revision):
        first = round(revision.start * 2)
        assert revision.text.split() == [str(number) for number in levels[first : first + 46]]
    assert account_errors(found.messages, len(levels) * HALF) == []


async def test_daemons_that_die_of_every_passage_come_to_an_end(broker, tmp_path, publisher):
    await provisioned(broker)
    levels = [101 + n % 200 for n in range(3 * 46)]
    death = {"FAKE_BEFORE": "transcriber.durable.second_pass:StoredSecondPass._transcribe:1 SIGKILL"}
    async with Restarted(broker, tmp_path, **STORED, **death) as place:
        for n, number in enumerate(levels):
            await store(publisher, "s", level(number, HALF), offset=n * HALF)
        await store(publisher, "s", b"", end=1)
        found = await until_stored(publisher, lambda found: found.of(End) and len(resumed(found)) == 3)
        await until(lambda: place.daemon.probe("/readyz")[0] == 200)
        deaths = place.deaths

    assert deaths == 3
    assert not found.of(Revision)
    assert account_errors(found.messages, len(levels) * HALF) == []


def resumed(found):
    """Where passages were left, one after the other."""
    return {
        one.start_frame for one in found.of(Status) if one.state == "resumed" and one.start_frame % (23 * RATE) == 0
    }


async def test_of_two_speakers_each_passage_is_revised_once_across_a_crash(broker, tmp_path, publisher):
    """The windows of channel 0 are published before those of channel 1; the daemon dies after the first revision."""
    await provisioned(broker)
    levels = [101 + n % 99 for n in range(2 * 46)]
    death = {"FAKE_BEFORE": "transcriber.durable.second_pass:StoredSecondPass._transcribe:2 SIGKILL"}
    two = STORED | {"SPEAKERS": "channels", "INPUT_CHANNELS": 2}

    async def store_both(numbers, first):
        for n, number in enumerate(numbers, first):
            both = np.stack([np.frombuffer(level(one, HALF), "<i2") for one in (number, number + 100)], axis=1)
            await store(publisher, "s", both.tobytes(), offset=n * HALF)

    async with Daemon(broker.url, tmp_path, **two, **death) as daemon:
        await store_both(levels[:60], 0)
        await daemon.ended()
    async with Daemon(broker.url, tmp_path, **two):
        await store_both(levels[60:], 60)
        await store(publisher, "s", b"", end=1)
        found = await until_stored(publisher, lambda found: found.of(End) and len(found.of(Revision)) >= 3)

    replaced = [name for revision in found.of(Revision) for name in revision.replaces]
    assert len(set(replaced)) == len(replaced)
    for revision in found.of(Revision):
        first = round(revision.start * 2)
        own = levels[first : first + round(revision.duration * 2)]
        assert revision.text.split() == [str(number + 100 * int(revision.speaker)) for number in own]
