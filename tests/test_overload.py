"""More audio than the engine can take: bounded, fair, and said."""

import asyncio

import pytest

from tests.harness import Daemon, level, speak, until
from tests.stopwatch import Stopwatch
from transcriber.schema.messages import End, Final, Gap

RATE = 16_000
WINDOW = RATE // 2
BASE = {"INPUT_SAMPLE_RATE": RATE, "BUFFER_DURATION_SECS": 0.5}


def in_hand(figures):
    """The first window has left the queue, so the worker has it."""
    return figures["transcriber.jobs.enqueued"] == 1 and figures["transcriber.queue.depth"] == 0


@pytest.mark.parametrize("capacity", [1, 4])
async def test_a_burst_drops_exactly_what_has_no_place(broker, tmp_path, mouth, ears, capacity):
    job_s = tmp_path / "job_s"
    job_s.write_text("0")
    async with Daemon(broker.url, tmp_path, **BASE, FAKE_JOB_FILE=job_s, TRANSCRIPTION_QUEUE_CAPACITY=capacity):
        job_s.write_text("3600")
        await speak(mouth, "s", level(1, WINDOW))
        await until(lambda: ears.metrics and in_hand(ears.metrics[-1]))
        await speak(mouth, "s", level(1, 10 * WINDOW), end=1)
        full = await until(lambda: next((m for m in ears.metrics if m["transcriber.jobs.dropped"]["queue_full"]), None))
        job_s.write_text("0")
        (end,) = await ears.ends(1)

    ears.check_accounts()
    dropped = 10 - capacity
    assert end.segments == 1 + capacity
    assert end.dropped_frames == dropped * WINDOW
    told = [(gap.frames, gap.reason, gap.detail) for gap in ears.of(Gap)]
    assert told == [(WINDOW, "queue_full", f"no place in the queue: {capacity} wait")] * dropped
    assert full["transcriber.queue.depth"] == full["transcriber.queue.capacity"] == capacity
    assert full["transcriber.jobs.enqueued"] == 1 + capacity
    assert full["transcriber.jobs.dropped"]["queue_full"] == dropped


async def test_what_comes_before_a_window_is_left_out_before_a_window_is(broker, tmp_path, mouth, ears):
    """The model hears a number each half second; two seconds are a window, heard with four before it unless others wait."""
    job_s = tmp_path / "job_s"
    job_s.write_text("0")
    context = {"BUFFER_DURATION_SECS": 2, "LEFT_CONTEXT_SECS": 4, "HOLD_BACK_SECS": 0.5, "FAKE_WORD_S": 0.5}
    slow = {"FAKE_JOB_FILE": job_s, "TRANSCRIPTION_QUEUE_CAPACITY": 10}
    async with Daemon(broker.url, tmp_path, **BASE | context | slow):
        job_s.write_text("3600")
        for number in range(41):
            await speak(mouth, "s", level(number + 1, WINDOW))
        await until(lambda: ears.metrics and ears.metrics[-1]["transcriber.queue.depth"] == 9)
        job_s.write_text("0")
        await speak(mouth, "s", b"", end=1)
        await ears.ends(1)
        figures = await until(lambda: ears.metrics[-1]["transcriber.jobs.shortened"] and ears.metrics[-1])

    ears.check_accounts()
    assert ears.text("s").split() == [str(number + 1) for number in range(41)]
    # Of the nine that waited, those behind which five others did not.
    assert figures["transcriber.jobs.shortened"] in {3, 4}
    assert not ears.of(Gap)


async def test_a_session_whose_last_window_is_refused_ends_once(broker, tmp_path, mouth, ears):
    async with Daemon(broker.url, tmp_path, **BASE, FAKE_JOB_S=1, TRANSCRIPTION_QUEUE_CAPACITY=1) as daemon:
        for _ in range(3):
            await speak(mouth, "s", level(1, 4 * WINDOW + 100), end=1)
        await ears.ends(3)
        await daemon.stop()

    assert len(ears.of(End)) == 3
    assert any(end.dropped_frames for end in ears.of(End))
    ears.check_accounts()


async def test_an_engine_twice_too_slow_drops_half_and_stays_within_its_latency(broker, tmp_path, mouth, ears):
    """Time goes twice as fast as the audio says."""
    job_s, capacity, windows = 0.5, 3, 24
    async with Daemon(broker.url, tmp_path, **BASE, FAKE_JOB_S=job_s, TRANSCRIPTION_QUEUE_CAPACITY=capacity) as daemon:
        loop = asyncio.get_running_loop()
        watch, start_s, before_mb = Stopwatch(), loop.time(), daemon.rss_mb()
        for number in range(windows * 5):
            await asyncio.sleep(start_s + number * 0.05 - loop.time())
            await speak(mouth, "s", level(1, WINDOW // 5), offset=number * WINDOW // 5)
        after_mb = daemon.rss_mb()
        await speak(mouth, "s", b"", end=1)
        (end,) = await ears.ends(1)
        starved_s = watch.starved_s

    ears.check_accounts()
    # 6 s, in which two windows a second are done: those, and what the queue and the hand still hold.
    expected = windows / 2 + capacity + 1
    assert end.segments == pytest.approx(expected, abs=1 + starved_s / job_s)
    assert end.dropped_frames == (windows - end.segments) * WINDOW
    timings = [final.timing for final in ears.of(Final)]
    assert max(t.queue_ms for t in timings) <= 1000 * job_s * capacity + 100 + 1000 * starved_s
    assert max(t.end_to_end_ms for t in timings) <= 1000 * job_s * (capacity + 1) + 100 + 1000 * starved_s
    assert after_mb - before_mb < 10


async def test_one_flooding_stream_does_not_cost_the_others_a_window(broker, tmp_path, mouth, ears):
    """Four calm streams take 60 % of the engine, or wait for it; the fifth sends more than ten times what there is."""
    env = {"FAKE_JOB_S": 0.075, "TRANSCRIPTION_QUEUE_CAPACITY": 8}
    async with Daemon(broker.url, tmp_path, **BASE, **env):
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        for number in range(60):
            await asyncio.sleep(start_s + number * 0.1 - loop.time())
            if number % 5 == 4:  # their next windows will be full: the ones before are text
                await until(lambda full=number // 5: all(len(ears.of(Final, name)) >= full for name in "abcd"))
            for calm in ("a", "b", "c", "d"):
                await speak(mouth, calm, level(2, WINDOW // 5))
            await speak(mouth, "flood", level(9, 8 * WINDOW))
        for name in ("a", "b", "c", "d", "flood"):
            await speak(mouth, name, b"", end=1)
        ends = {end.stream: end for end in await ears.ends(5)}

    ears.check_accounts()
    assert {name: ends[name].dropped_frames for name in "abcd"} == dict.fromkeys("abcd", 0)
    assert {name: ends[name].segments for name in "abcd"} == dict.fromkeys("abcd", 12)
    assert ends["flood"].dropped_frames > 400 * WINDOW
    assert ends["flood"].segments > 0
