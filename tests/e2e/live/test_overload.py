"""More audio than the engine can take: bounded, fair, and said."""

import asyncio

import pytest

from tests.support.audio import level, speak
from tests.support.daemon import Daemon
from tests.support.stopwatch import Stopwatch
from tests.support.waiting import until
from transcriber.schema.messages import End, Final, Gap

RATE = 16_000
WINDOW = RATE // 2
BASE = {"INPUT_SAMPLE_RATE": RATE, "BUFFER_DURATION_SECS": 0.5}


def in_hand(figures):
    """The first window has left the queue, so the worker has it."""
    return figures["transcriber.jobs.enqueued"] == 1 and figures["transcriber.queue.depth"] == 0


@pytest.mark.parametrize("capacity", [1, 4])
async def test_a_burst_drops_exactly_what_has_no_place(broker, tmp_path, publisher, listener, capacity):
    job_s = tmp_path / "job_s"
    job_s.write_text("0")
    async with Daemon(broker.url, tmp_path, **BASE, FAKE_JOB_FILE=job_s, TRANSCRIPTION_QUEUE_CAPACITY=capacity):
        job_s.write_text("3600")
        await speak(publisher, "s", level(1, WINDOW))
        await until(lambda: listener.metrics and in_hand(listener.metrics[-1]))
        await speak(publisher, "s", level(1, 10 * WINDOW), end=1)
        full = await until(
            lambda: next((m for m in listener.metrics if m["transcriber.jobs.dropped"]["queue_full"]), None)
        )
        job_s.write_text("0")
        (end,) = await listener.ends(1)

    listener.check_accounts()
    dropped = 10 - capacity
    assert end.segments == 1 + capacity
    assert end.dropped_frames == dropped * WINDOW
    gaps = [(gap.frames, gap.reason, gap.detail) for gap in listener.of(Gap)]
    assert gaps == [(WINDOW, "queue_full", f"no place in the queue: {capacity} wait")] * dropped
    assert full["transcriber.queue.depth"] == full["transcriber.queue.capacity"] == capacity
    assert full["transcriber.jobs.enqueued"] == 1 + capacity
    assert full["transcriber.jobs.dropped"]["queue_full"] == dropped


async def test_what_comes_before_a_window_is_left_out_before_a_window_is(broker, tmp_path, publisher, listener):
    """The model transcribes a number each half second; a window has two seconds, and four of left context unless others wait."""
    job_s = tmp_path / "job_s"
    job_s.write_text("0")
    context = {"BUFFER_DURATION_SECS": 2, "LEFT_CONTEXT_SECS": 4, "HOLD_BACK_SECS": 0.5, "FAKE_WORD_S": 0.5}
    slow = {"FAKE_JOB_FILE": job_s, "TRANSCRIPTION_QUEUE_CAPACITY": 10}
    async with Daemon(broker.url, tmp_path, **BASE | context | slow):
        job_s.write_text("3600")
        for number in range(41):
            await speak(publisher, "s", level(number + 1, WINDOW))
        await until(lambda: listener.metrics and listener.metrics[-1]["transcriber.queue.depth"] == 9)
        job_s.write_text("0")
        await speak(publisher, "s", b"", end=1)
        await listener.ends(1)
        figures = await until(lambda: listener.metrics[-1]["transcriber.jobs.shortened"] and listener.metrics[-1])

    listener.check_accounts()
    assert listener.text("s").split() == [str(number + 1) for number in range(41)]
    # Of the nine that waited, those behind which five others did not.
    assert figures["transcriber.jobs.shortened"] in {3, 4}
    assert not listener.of(Gap)


async def test_a_session_whose_last_window_is_refused_ends_once(broker, tmp_path, publisher, listener):
    async with Daemon(broker.url, tmp_path, **BASE, FAKE_JOB_S=1, TRANSCRIPTION_QUEUE_CAPACITY=1) as daemon:
        for _ in range(3):
            await speak(publisher, "s", level(1, 4 * WINDOW + 100), end=1)
        await listener.ends(3)
        await daemon.stop()

    assert len(listener.of(End)) == 3
    assert any(end.dropped_frames for end in listener.of(End))
    listener.check_accounts()


async def test_an_engine_twice_too_slow_drops_half_and_stays_within_its_latency(broker, tmp_path, publisher, listener):
    """Time goes twice as fast as the audio says."""
    job_s, capacity, windows = 0.5, 3, 24
    async with Daemon(broker.url, tmp_path, **BASE, FAKE_JOB_S=job_s, TRANSCRIPTION_QUEUE_CAPACITY=capacity) as daemon:
        loop = asyncio.get_running_loop()
        watch, start_s, before_mb = Stopwatch(), loop.time(), daemon.rss_mb()
        for number in range(windows * 5):
            await asyncio.sleep(start_s + number * 0.05 - loop.time())
            await speak(publisher, "s", level(1, WINDOW // 5), offset=number * WINDOW // 5)
        after_mb = daemon.rss_mb()
        await speak(publisher, "s", b"", end=1)
        (end,) = await listener.ends(1)
        starved_s = watch.starved_s

    listener.check_accounts()
    # 6 s, in which two windows a second are done: those, and what the queue and the hand still hold.
    expected = windows / 2 + capacity + 1
    assert end.segments == pytest.approx(expected, abs=1 + starved_s / job_s)
    assert end.dropped_frames == (windows - end.segments) * WINDOW
    timings = [final.timing for final in listener.of(Final)]
    assert max(t.queue_ms for t in timings) <= 1000 * job_s * capacity + 100 + 1000 * starved_s
    assert max(t.end_to_end_ms for t in timings) <= 1000 * job_s * (capacity + 1) + 100 + 1000 * starved_s
    assert after_mb - before_mb < 10


async def test_one_flooding_stream_does_not_cost_the_others_a_window(broker, tmp_path, publisher, listener):
    """Four calm streams take 60 % of the engine, or wait for it; the fifth sends more than ten times what there is."""
    env = {"FAKE_JOB_S": 0.075, "TRANSCRIPTION_QUEUE_CAPACITY": 8}
    async with Daemon(broker.url, tmp_path, **BASE, **env):
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        for number in range(60):
            await asyncio.sleep(start_s + number * 0.1 - loop.time())
            if number % 5 == 4:  # their next windows will be full: the ones before are text
                await until(lambda full=number // 5: all(len(listener.of(Final, name)) >= full for name in "abcd"))
            for calm in ("a", "b", "c", "d"):
                await speak(publisher, calm, level(2, WINDOW // 5))
            await speak(publisher, "flood", level(9, 8 * WINDOW))
        for name in ("a", "b", "c", "d", "flood"):
            await speak(publisher, name, b"", end=1)
        ends = {end.stream: end for end in await listener.ends(5)}

    listener.check_accounts()
    assert {name: ends[name].dropped_frames for name in "abcd"} == dict.fromkeys("abcd", 0)
    assert {name: ends[name].segments for name in "abcd"} == dict.fromkeys("abcd", 12)
    assert ends["flood"].dropped_frames > 400 * WINDOW
    assert ends["flood"].segments > 0
