"""Durable daemons beside ``transcriber purge``: what is removed is gone, and what follows is whole, with its account right."""

import os
import signal
from datetime import UTC, datetime

from tests.support.audio import level
from tests.support.daemon import Daemon
from tests.support.durable_streams import (
    ENV,
    WINDOW,
    provisioned,
    store,
    stored,
    until_acknowledged,
    until_ended,
    until_stored,
)
from tests.support.waiting import until
from transcriber.config import load_settings
from transcriber.purge.command import Options, purge
from transcriber.purge.target import parse_target
from transcriber.schema.messages import End, Gap, Revision

YES = Options(yes=True)
OPEN = ENV | {"LEFT_CONTEXT_SECS": 0, "HEARTBEAT_TIMEOUT_SECS": 1, "STREAM_IDLE_SECS": 600}
"""Sessions stay open over a restart, and what follows a pause needs no audio from before it."""


async def windows(publisher, stream, session, levels, *, end=False):
    """A payload for each window, without ``Audio-Offset``: a false hole would be a gap."""
    for value in levels:
        await store(publisher, stream, level(value, WINDOW), session=session)
    if end:
        await store(publisher, stream, b"", session=session, end=1)


async def half_a_window(publisher, stream, session, value):
    """It ends when nothing follows for a while; then all audio is acknowledged."""
    await store(publisher, stream, level(value, WINDOW // 2), session=session)


def written_once_it_is_read(fifo):
    """To write to; None while nobody reads."""
    try:
        return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return None


async def purged(broker, target, options=YES):
    return await purge(load_settings(nats_url=broker.url), parse_target(target), options)


async def test_what_is_purged_beside_an_open_session_leaves_no_gap_in_it_for_this_daemon_or_the_next(
    broker, tmp_path, publisher, capsys
):
    await provisioned(broker)
    async with Daemon(broker.url, tmp_path, **OPEN) as daemon:
        await windows(publisher, "s", "one", [11, 12], end=True)
        await windows(publisher, "s", "two", [21, 22])
        await half_a_window(publisher, "s", "two", 23)
        await until_stored(publisher, lambda found: found.text == ["11", "12", "21", "22", "23"])
        await until_acknowledged(publisher)
        # What the next daemon of s would read first is a payload of t.
        await windows(publisher, "t", "three", [31, 32], end=True)
        await until_ended(publisher, "t")
        await until_acknowledged(publisher, "t")

        refused = await purged(broker, "s"), await purged(broker, "s/two")
        errors = capsys.readouterr().err
        assert refused == (1, 1)
        assert errors.count("s/two is open and a daemon reads it: stop its publisher, and give --end to end it") == 2
        assert len((await stored(publisher)).text) == 5

        assert (await purged(broker, "s/one"), await purged(broker, "t")) == (0, 0)
        await half_a_window(publisher, "s", "two", 24)
        await until_stored(publisher, lambda found: found.text == ["21", "22", "23", "24"])
        await until_acknowledged(publisher)
        await windows(publisher, "t", "again", [33], end=True)
        await until_ended(publisher, "t")
        assert await purged(broker, "t") == 0
        await daemon.stop(signal.SIGKILL)
    await windows(publisher, "s", "two", [25], end=True)
    async with Daemon(broker.url, tmp_path, **OPEN):
        found = await until_ended(publisher)
        await until_acknowledged(publisher)

        assert (found.text, found.gaps) == (["21", "22", "23", "24", "25"], [])
        found.check(4 * WINDOW)
        assert (await stored(publisher, "t")).messages == []


async def test_an_open_session_whose_daemon_lags_is_not_purged(broker, tmp_path, publisher, capsys):
    await provisioned(broker)
    async with Daemon(broker.url, tmp_path, **OPEN, FAKE_JOB_S=3) as daemon:
        # More than it takes ahead: no request of its waits at the broker, which answers each at once.
        await windows(publisher, "s", "one", range(1, 400))
        await until_stored(publisher, lambda found: found.text)

        assert await purged(broker, "s") == 1

        assert "s/one is open and a daemon reads it" in capsys.readouterr().err
        assert (await stored(publisher)).text[0] == "1"
        await daemon.stop(signal.SIGKILL)


async def test_a_gap_that_is_transcribed_while_its_session_is_purged_does_not_come_back(
    broker, tmp_path, publisher, capsys
):
    await provisioned(broker)
    job = tmp_path / "job_s"
    job.write_text("0.3")
    env = ENV | {"DURABLE": 0, "BACKFILL": 1, "TRANSCRIPTION_QUEUE_CAPACITY": 2, "FAKE_JOB_FILE": job}
    async with Daemon(broker.url, tmp_path, **env):
        await windows(publisher, "s", "one", range(1, 13))
        await until_stored(publisher, lambda found: len(found.of(Gap)) >= 5)
        job.write_text("2")
        await windows(publisher, "s", "one", [], end=True)
        # One is filled, and so a second end is owed; the next one is transcribed.
        await until_stored(publisher, lambda found: found.of(End) and found.of(Revision))

        assert await purged(broker, "s") == 0

        job.write_text("0")
        for session in ("two", "three"):
            await windows(publisher, "s", session, [21], end=True)
            await until_stored(publisher, lambda found, name=session: any(end.session == name for end in found.of(End)))
        assert {message.session for message in (await stored(publisher)).messages} == {"two", "three"}


async def test_a_passage_that_is_transcribed_again_while_its_session_is_purged_does_not_come_back(
    broker, tmp_path, publisher, capsys
):
    await provisioned(broker)
    job = tmp_path / "job_s"
    job.write_text("0")
    # A window alone is misheard, so that there is something to revise.
    env = ENV | {"SECOND_PASS": 1, "FAKE_WORD_S": 0.5, "FAKE_MISHEARS_S": 1.2, "FAKE_JOB_FILE": job}
    async with Daemon(broker.url, tmp_path, **env):
        await windows(publisher, "s", "one", range(101, 107))
        await until_stored(publisher, lambda found: len(found.text) == 6)
        job.unlink()
        os.mkfifo(job)  # whose reader, a worker that has begun with the passage, waits for what is written
        await windows(publisher, "s", "one", [], end=True)
        held = await until(lambda: written_once_it_is_read(job), "the second pass")

        assert await purged(broker, "s") == 0

        job.unlink()
        job.write_text("0")
        os.write(held, b"0")
        os.close(held)
        await windows(publisher, "s", "two", [21], end=True)
        found = await until_ended(publisher)
        assert {message.session for message in found.messages} == {"two"}


async def test_a_session_is_ended_and_purged_and_its_name_and_its_stream_go_on(broker, tmp_path, publisher, capsys):
    await provisioned(broker)
    async with Daemon(broker.url, tmp_path, **OPEN) as daemon:
        await windows(publisher, "s", "daily", [11, 12])
        await until_stored(publisher, lambda found: found.text == ["11", "12"])

        assert await purged(broker, "s", Options(yes=True, end=True)) == 0

        assert (await stored(publisher)).messages == []
        assert (await publisher.jetstream().stream_info("AUDIO")).state.messages == 0
        # The broker remembers for two minutes that it has stored messages of this session with these ids.
        await windows(publisher, "s", "daily", [13, 14], end=True)
        found = await until_ended(publisher)
        assert (found.text, found.gaps) == (["13", "14"], [])
        found.check(2 * WINDOW)
        await until_acknowledged(publisher)
        await daemon.stop(signal.SIGKILL)

    # Nobody reads it: what is open goes with its state, and the next daemon begins with what comes.
    await windows(publisher, "s", "night", [15])
    assert await purged(broker, "s") == 0
    async with Daemon(broker.url, tmp_path, **ENV):
        await windows(publisher, "s", "next", [16, 17], end=True)
        found = await until_ended(publisher)
    assert (found.text, found.gaps) == (["16", "17"], [])
    found.check(2 * WINDOW)


async def test_retention_of_a_stream_takes_the_old_text_of_an_open_session_which_goes_on_over_a_kill(
    broker, tmp_path, publisher
):
    await provisioned(broker)
    async with Daemon(broker.url, tmp_path, **OPEN) as daemon:
        await windows(publisher, "s", "long", [11, 12])
        await half_a_window(publisher, "s", "long", 13)
        await until_stored(publisher, lambda found: found.text == ["11", "12", "13"])
        await until_acknowledged(publisher)

        assert await purged(broker, "s", Options(yes=True, before=datetime.now(UTC))) == 0

        assert len((await stored(publisher)).messages) == 1
        assert (await publisher.jetstream().stream_info("AUDIO")).state.messages == 0
        await daemon.stop(signal.SIGKILL)
    await windows(publisher, "s", "long", [14], end=True)
    async with Daemon(broker.url, tmp_path, **OPEN):
        found = await until_ended(publisher)

    (end,) = found.of(End)
    assert (found.text[-1], found.gaps) == ("14", [])
    assert (end.frames, end.transcribed_frames) == (WINDOW * 7 // 2, WINDOW * 7 // 2)
