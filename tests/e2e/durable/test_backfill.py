"""Freshness now, completeness later: what was dropped under load is transcribed when the worker idles."""

import asyncio
import signal

import numpy as np
import pytest

from tests.support.daemon import Daemon
from tests.support.durable_streams import (
    ENV,
    WINDOW,
    Restarted,
    provisioned,
    store,
    store_windows,
    stored,
    until_ended,
    until_stored,
)
from tests.support.stopwatch import Stopwatch
from tests.support.waiting import until
from transcriber.schema.messages import End, Final, Gap, Revision

BACKFILL = ENV | {"DURABLE": 0, "BACKFILL": 1, "TRANSCRIPTION_QUEUE_CAPACITY": 2}


@pytest.fixture
def job(tmp_path):
    """Sets how long the worker takes for a window."""
    path = tmp_path / "job_s"

    def takes(seconds):
        fresh = path.with_suffix(".new")
        fresh.write_text(str(seconds))
        fresh.replace(path)
        return path

    takes(0.0)
    return takes


def check(found, levels, *, lost=()):
    """Finals and revisions together say each window once, the last end has it all, and gaps are of the windows not transcribed at first.

    ``lost`` are windows that stay gaps.
    """
    revised = {revision.replaces[0]: revision for revision in found.of(Revision)}
    assert len(revised) == len(found.of(Revision)), "a gap was redone twice"
    gaps = {f"s:{gap.session}:0:{gap.start_frame}:gap:0": gap for gap in found.of(Gap)}
    assert revised.keys() <= gaps.keys()
    for gap_id, revision in revised.items():
        gap = gaps[gap_id]
        assert (revision.start_frame, revision.frames, revision.rev) == (gap.start_frame, gap.frames, 1)
    said = {message.start_frame // WINDOW: message.text for message in found.of(Final) + found.of(Revision)}
    assert said == {number: str(value) for number, value in enumerate(levels) if number not in lost}
    assert len(found.of(Final)) + len(found.of(Gap)) == len(levels)
    first, *more = found.of(End)
    assert (first.rev, first.dropped_frames) == (0, len(gaps) * WINDOW)
    if revised:
        (last,) = more
        assert last.rev == 1
        assert (last.frames, last.received_frames) == (first.frames, first.received_frames)
        assert last.dropped_frames == len(lost) * WINDOW
        assert last.transcribed_frames == (len(levels) - len(lost)) * WINDOW
        assert last.dropped_s == last.dropped_frames / last.rate


async def revised(publisher, ends=2):
    return await until_ended(publisher, sessions=ends)


async def test_what_was_dropped_under_load_is_text_when_the_worker_idles(broker, tmp_path, publisher, listener, job):
    await provisioned(broker)
    levels = range(1, 13)
    async with Daemon(broker.url, tmp_path, **BACKFILL, FAKE_JOB_FILE=job(0.3)):
        watch = Stopwatch()
        await store_windows(publisher, "s", levels)
        await until_stored(publisher, lambda found: len(found.of(Gap)) >= 5)
        await store(publisher, "s", b"", end=1)
        (end, *_) = (await until_ended(publisher)).of(End)
        # Finals waited for the queue and no longer, as in live mode; the rest came after them.
        slowest_ms = max(final.timing.end_to_end_ms for final in (await stored(publisher)).of(Final))
        slowest_ms -= 1000 * watch.starved_s
        job(0.0)
        found = await revised(publisher)
        counted = await until(
            lambda: next((m for m in listener.metrics if m["transcriber.revisions"] == len(found.of(Gap))), None)
        )

    print(f"{len(found.of(Gap))} gaps, slowest final {slowest_ms:.0f} ms")
    assert slowest_ms < 300 * (2 + 1) + 600
    assert end.dropped_frames
    assert counted["transcriber.jobs.dropped"]["queue_full"] == len(found.of(Gap))
    check(found, levels)


async def test_dropped_samples_stay_dropped_when_all_else_is_retried(broker, tmp_path, publisher, job):
    await provisioned(broker)
    floats = f"audio/x-raw;format=F32LE;rate={2 * WINDOW}"
    async with Daemon(broker.url, tmp_path, **BACKFILL, FAKE_JOB_FILE=job(0.3)):
        for number in range(10):
            payload = np.full(WINDOW, np.nan if number == 1 else 0.005, "<f4").tobytes()
            await store(publisher, "s", payload, content_type=floats, offset=number * WINDOW)
        await store(publisher, "s", b"", end=1)
        await until_stored(publisher, lambda found: found.of(End))
        job(0.0)
        found = await revised(publisher)

    first, last = found.of(End)
    assert first.dropped_frames > WINDOW
    assert (last.received_frames, last.transcribed_frames, last.dropped_frames) == (10 * WINDOW, 9 * WINDOW, WINDOW)


async def test_killed_daemon_leaves_its_debts_to_the_next_one(broker, tmp_path, publisher, job):
    await provisioned(broker)
    levels = range(1, 11)
    async with Daemon(broker.url, tmp_path, **BACKFILL, FAKE_JOB_FILE=job(0.3)) as daemon:
        await store_windows(publisher, "s", levels)
        await store(publisher, "s", b"", end=1)
        await until_stored(publisher, lambda found: found.of(End) and found.of(Revision))
        await daemon.stop(signal.SIGKILL)
    before = await stored(publisher)
    assert len(before.of(Revision)) < len(before.of(Gap))
    async with Daemon(broker.url, tmp_path, **BACKFILL, FAKE_JOB_FILE=job(0.0)):
        found = await revised(publisher)

    check(found, levels)


async def test_debts_are_the_next_daemons_after_sigterm_too(broker, tmp_path, publisher, job):
    """With one try only, the job in hand at the stop is not taken for one that failed."""
    await provisioned(broker)
    levels = range(1, 9)
    env = BACKFILL | {"MAX_ATTEMPTS": 1, "SHUTDOWN_GRACE_SECS": 0.1}
    async with Daemon(broker.url, tmp_path, **env, FAKE_JOB_FILE=job(0.2)) as daemon:
        await store_windows(publisher, "s", levels)
        await store(publisher, "s", b"", end=1)
        await until_ended(publisher)
        job(2.0)
        await asyncio.sleep(0.5)  # a job of the backfill is in hand
        status, _ = await daemon.stop()
    assert status == 0
    async with Daemon(broker.url, tmp_path, **env, FAKE_JOB_FILE=job(0.0)):
        found = await revised(publisher)

    check(found, levels)


async def test_gap_whose_audio_is_gone_stays_one_and_the_end_says_so(broker, tmp_path, publisher, job):
    await provisioned(broker)
    levels = range(1, 11)
    async with Daemon(broker.url, tmp_path, **BACKFILL, FAKE_JOB_FILE=job(0.3)) as daemon:
        await store_windows(publisher, "s", levels)
        await store(publisher, "s", b"", end=1)
        await until_ended(publisher)
        await daemon.stop(signal.SIGKILL)
    gaps = sorted(gap.start_frame // WINDOW for gap in (await stored(publisher)).of(Gap))
    kept_from = gaps[-2] - 5  # windows: the left context of that gap is gone
    await publisher.jetstream().purge_stream("AUDIO", seq=kept_from + 1)
    async with Daemon(broker.url, tmp_path, **BACKFILL, FAKE_JOB_FILE=job(0.0)) as daemon:
        found = await revised(publisher)

    heard = {revision.start_frame // WINDOW for revision in found.of(Revision)}
    assert heard
    lost = set(gaps) - heard
    assert lost
    assert daemon.log().count("a gap stays: ") == len(lost)
    check(found, levels, lost=lost)


async def test_window_that_kills_daemons_kills_no_more_of_them_than_may_try(broker, tmp_path, publisher):
    await provisioned(broker)
    await store_windows(publisher, "s", [1, 300, 3, 4])
    await store(publisher, "s", b"", end=1)
    async with Restarted(broker, tmp_path, **BACKFILL | {"TRANSCRIPTION_QUEUE_CAPACITY": 9}, FAKE_CRASH_AT=300,
                         MAX_ATTEMPTS=2) as place:  # fmt: skip
        found = await until_ended(publisher)
        await until(lambda: "a gap stays: " in place.daemon.log(), "the debt to be given up")
        deaths = place.deaths

    assert found.text == ["1", "3", "4"]
    assert found.gaps == [("engine_error", WINDOW, WINDOW)]
    assert deaths <= 4
    assert not (await stored(publisher)).of(Revision)


async def test_job_of_the_backfill_delays_a_final_by_itself_at_most(broker, tmp_path, publisher, job):
    await provisioned(broker)
    async with Daemon(broker.url, tmp_path, **BACKFILL, FAKE_JOB_FILE=job(0.4)):
        await store_windows(publisher, "s", range(1, 13))
        await store(publisher, "s", b"", end=1)
        await until_ended(publisher)
        await until_stored(publisher, lambda found: found.of(Revision))
        # Debts are left; what is new comes in between.
        watch = Stopwatch()
        await store_windows(publisher, "new", [1, 2, 3])
        await store(publisher, "new", b"", end=1)
        fresh = await until_ended(publisher, "new")
        starved_ms = 1000 * watch.starved_s
        left = await stored(publisher)

    assert len(left.of(Revision)) < len(left.of(Gap))
    waited_ms = [final.timing.queue_ms for final in fresh.of(Final)]
    print("new windows waited", waited_ms)
    assert all(number * 400 <= waited + 400 for number, waited in enumerate(waited_ms))
    assert waited_ms[0] < 400 + 100 + starved_ms
