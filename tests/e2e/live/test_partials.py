"""Guesses at open windows: they come while the worker has nothing better to do, and nobody waits for them."""

import asyncio

from tests.support.audio import level, speak
from tests.support.daemon import Daemon
from tests.support.stopwatch import Stopwatch
from tests.support.transcripts import until_heard
from tests.support.waiting import PATIENCE_S, until
from transcriber.schema.messages import Final, Gap, Partial

RATE = 16_000
HALF = RATE // 2
ENV = {"INPUT_SAMPLE_RATE": RATE, "BUFFER_DURATION_SECS": 2, "PARTIAL_INTERVAL_SECS": 0.5, "FAKE_WORD_S": 0.25}


async def guesses(publisher, listener, stream, count):
    async with asyncio.timeout(PATIENCE_S):
        return await until_heard(
            publisher, stream, lambda: len(listener.of(Partial, stream)) >= count and listener.of(Partial, stream)
        )


async def test_an_open_window_is_guessed_at_again_and_again_until_its_final(broker, tmp_path, publisher, listener):
    async with Daemon(broker.url, tmp_path, **ENV):
        for number in range(3):
            await speak(publisher, "s", level(7, HALF))
            await guesses(publisher, listener, "s", number + 1)
        await speak(publisher, "s", level(7, HALF))
        await until(lambda: listener.of(Final), "the final")
        await speak(publisher, "s", level(8, HALF))
        await guesses(publisher, listener, "s", 4)
        await speak(publisher, "s", b"", end=1)
        await listener.ends(1)
        counted = await until(
            lambda: next((m for m in listener.metrics if m["transcriber.partials"] == 4), None), "four partials counted"
        )

    listener.check_accounts()
    partials, finals = listener.of(Partial), listener.of(Final)
    assert [(p.segment, p.rev, p.start_frame, p.frames) for p in partials] == [
        (0, 1, 0, HALF), (0, 2, 0, 2 * HALF), (0, 3, 0, 3 * HALF), (1, 1, 4 * HALF, HALF),
    ]  # fmt: skip
    assert [p.text for p in partials] == ["7 7", "7 7 7 7", "7 7 7 7 7 7", "8 8"]
    assert [(f.segment, f.rev, f.text) for f in finals] == [(0, 0, " ".join("7" * 8)), (1, 0, "8 8")]
    assert [word.start for word in partials[3].words] == [2.0, 2.25]
    assert all(p.speaker is None and p.suppressed is None and not p.speech_final for p in partials)
    assert [i for i in listener.ids if ":partial:" in i] == [
        f"s:{finals[0].session}:0:{start}:partial:{rev}" for start, rev in [(0, 1), (0, 2), (0, 3), (4 * HALF, 1)]
    ]
    assert counted["transcriber.jobs.enqueued"] == 2


async def test_without_news_there_is_no_other_guess(broker, tmp_path, publisher, listener):
    async with Daemon(broker.url, tmp_path, **ENV):
        await speak(publisher, "s", level(7, HALF))
        await guesses(publisher, listener, "s", 1)
        await speak(publisher, "s", level(7, HALF - 1_600))
        for _ in range(20):
            await speak(publisher, "s", b"")
        await speak(publisher, "s", b"", end=1)
        await listener.ends(1)

    assert [p.frames for p in listener.of(Partial)] == [HALF]


async def test_an_interval_of_0_switches_guesses_off(broker, tmp_path, publisher, listener):
    async with Daemon(broker.url, tmp_path, **ENV | {"PARTIAL_INTERVAL_SECS": 0}):
        for _ in range(6):
            await speak(publisher, "s", level(7, HALF))
        await speak(publisher, "s", b"", end=1)
        await listener.ends(1)

    assert listener.of(Partial) == []


async def test_nobody_guesses_while_the_worker_is_busy(broker, tmp_path, publisher, listener):
    async with Daemon(broker.url, tmp_path, **ENV, FAKE_SLOW_S=2, METRICS_NATS_SECS=0.1):
        await speak(publisher, "busy", level(600, 4 * HALF), end=1)
        await until(
            lambda: listener.metrics[-1:] and listener.metrics[-1]["transcriber.worker.busy"] > 0, "a busy worker"
        )
        for _ in range(3):
            await speak(publisher, "s", level(7, HALF))
        await until(lambda: listener.metrics[-1]["transcriber.chunks.received"] == 4, "all payloads")
        meanwhile = list(listener.of(Final, "busy"))
        await until(lambda: listener.of(Final, "busy"), "the busy worker's final")
        early = list(listener.of(Partial, "s"))
        (partial,) = await guesses(publisher, listener, "s", 1)

    assert meanwhile == early == []
    assert (partial.rev, partial.frames) == (1, 3 * HALF)


async def test_a_guess_gives_way_to_a_window(broker, tmp_path, publisher, listener):
    async with Daemon(broker.url, tmp_path, **ENV, FAKE_SLOW_S=25) as daemon:
        watch = Stopwatch()
        await speak(publisher, "s", level(600, HALF))
        for number in range(20):
            await speak(publisher, "other", level(5, 4 * HALF), end=1)
            await listener.ends(number + 1)
        starved_s = watch.starved_s
        await until(lambda: listener.metrics[-1]["transcriber.jobs.enqueued"] == 20, "the count")
        status, took_s = await daemon.stop()

    finals = listener.of(Final, "other")
    assert len(finals) == 20
    assert max(final.timing.queue_ms for final in finals) < 1000 * (5 + starved_s)
    assert [p for p in listener.of(Partial) if p.stream == "s"] == []
    assert (status, took_s < 3) == (0, True)
    assert {gap.stream for gap in listener.of(Gap)} == {
        "s"
    }  # its own window needs 25 s, and the grace period is shorter
    listener.check_accounts()


async def test_stopping_does_not_wait_for_a_guess(broker, tmp_path, publisher, listener):
    async with Daemon(broker.url, tmp_path, **ENV, FAKE_SLOW_S=25) as daemon:
        await speak(publisher, "s", level(600, HALF))
        await until(lambda: listener.messages, "the stream")
        status, took_s = await daemon.stop()
        (end,) = await listener.ends(1)

    assert (status, took_s < 3) == (0, True)
    assert (end.dropped_frames, listener.of(Partial)) == (HALF, [])
    listener.check_accounts()
