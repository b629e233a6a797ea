"""Stopping follows the data: nothing that was received goes missing, and nothing hangs."""

import asyncio
import random
import signal

import pytest

from tests.support.audio import level, speak
from tests.support.daemon import PATIENT_STOP, Daemon
from tests.support.transcripts import TranscriptListener
from tests.support.waiting import until
from transcriber.schema.messages import End, Final, Gap
from transcriber.testing.broker import EmbeddedBroker

RATE = 16_000
WINDOW = RATE // 2
ENV = {"INPUT_SAMPLE_RATE": RATE, "BUFFER_DURATION_SECS": 0.5, "TRANSCRIPTION_QUEUE_CAPACITY": 4}
SEED = random.randrange(2**32)


async def three_streams(publisher, stop):
    """Three publishers at twice real time, until stopped."""
    number = 0
    while not stop.is_set():
        for name in ("a", "b", "c"):
            await speak(publisher, name, level(5, 1_600), offset=1_600 * number)
        number += 1
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("moment", range(20))
async def test_sigterm_at_any_moment_accounts_for_every_frame(broker, tmp_path, publisher, listener, moment):
    rng = random.Random(SEED + moment)
    grace_s = rng.choice([0, 0.2, 1.0])
    job_s = rng.choice([0.01, 0.2, 0.7])
    print(f"seed {SEED + moment}: grace {grace_s} s, jobs {job_s} s")
    enough = asyncio.Event()
    async with Daemon(
        broker.url, tmp_path, **ENV, **PATIENT_STOP, SHUTDOWN_GRACE_SECS=grace_s, FAKE_JOB_S=job_s
    ) as daemon:
        publishing = asyncio.create_task(three_streams(publisher, enough))
        await until(lambda: len({m.stream for m in listener.messages}) == 3)
        await asyncio.sleep(rng.uniform(0, 1.5))
        status, took_s = await daemon.stop()
        enough.set()
        await publishing
        await listener.ends(3)

    assert status == 0
    assert took_s <= grace_s + 2
    listener.check_accounts()
    assert len(listener.of(End)) == 3
    line = daemon.last_line("stopped")
    fates = [gap for gap in listener.of(Gap) if gap.reason in {"queue_full", "shutdown"}]
    assert line["jobs_dropped"] == len(fates)
    assert line["jobs_enqueued"] + line["jobs_dropped"] >= len(listener.of(Final)) + len(fates)
    assert line["queue_depth"] == 0
    assert (line["unsent"], line["flushed"]) == (0, True)


async def test_the_grace_period_is_used_for_what_is_queued(broker, tmp_path, publisher, listener):
    async with Daemon(broker.url, tmp_path, **ENV, SHUTDOWN_GRACE_SECS=10, FAKE_JOB_S=0.2) as daemon:
        await speak(publisher, "s", level(5, 4 * WINDOW + 100))
        await until(lambda: listener.metrics[-1:] and listener.metrics[-1]["transcriber.jobs.enqueued"] >= 4)
        status, _ = await daemon.stop()

    assert status == 0
    assert [final.frames for final in listener.of(Final)] == [WINDOW] * 4 + [100]
    listener.check_accounts()


async def test_a_model_that_never_answers_does_not_hold_the_stop(broker, tmp_path, publisher, listener):
    async with Daemon(broker.url, tmp_path, **ENV) as daemon:
        await speak(publisher, "s", level(666, 2 * WINDOW))
        await until(lambda: listener.metrics[-1:] and listener.metrics[-1]["transcriber.worker.busy"] > 0)
        status, took_s = await daemon.stop(signal.SIGINT)
        (end,) = await listener.ends(1)

    assert status == 0
    assert took_s <= 2.2
    assert {gap.reason for gap in listener.of(Gap)} == {"shutdown"}
    assert end.dropped_frames == 2 * WINDOW
    listener.check_accounts()


async def test_a_second_sigterm_kills_at_once(broker, tmp_path, publisher, listener):
    async with Daemon(broker.url, tmp_path, **ENV, SHUTDOWN_GRACE_SECS=60) as daemon:
        await speak(publisher, "s", level(666, WINDOW))
        await until(lambda: listener.metrics[-1:] and listener.metrics[-1]["transcriber.worker.busy"] > 0)
        daemon.process.send_signal(signal.SIGTERM)
        await until(lambda: any(line["msg"] == "draining" for line in daemon.log_lines()))
        status, _ = await daemon.stop()

    assert status == -signal.SIGTERM


class Held(Daemon):
    """A daemon whose jobs take as long as the test says."""

    def __init__(self, url, folder, **env):
        self._job_file = folder / "job_s"
        self.takes(0)
        super().__init__(url, folder, **ENV, SHUTDOWN_GRACE_SECS=60, FAKE_JOB_FILE=self._job_file, **env)

    def takes(self, seconds):
        fresh = self._job_file.with_suffix(".new")
        fresh.write_text(str(seconds))
        fresh.replace(self._job_file)

    async def dies_while_it_stops(self, publisher, listener, payload, jobs):
        """Its jobs resume only after SIGTERM; returns its status."""
        self.takes(3600)
        await speak(publisher, "s", payload)
        await until(lambda: listener.metrics[-1:] and listener.metrics[-1]["transcriber.jobs.enqueued"] == jobs)
        self.process.send_signal(signal.SIGTERM)
        await until(lambda: any(line["msg"] == "draining" for line in self.log_lines()))
        self.takes(0)
        return await self.ended()


async def test_a_worker_that_dies_while_the_daemon_stops_ends_it_with_1_and_says_what_was_lost(
    broker, tmp_path, publisher, listener
):
    async with Held(broker.url, tmp_path, FAKE_CRASH_AT=13) as daemon:
        payload = level(5, WINDOW) + level(13, WINDOW) + level(6, WINDOW)
        status = await daemon.dies_while_it_stops(publisher, listener, payload, jobs=3)
        await listener.ends(1)

    assert status == 1
    assert "the fake model crashed, as requested" in daemon.log()
    assert daemon.last_line("stopped")["queue_depth"] == 0
    assert listener.text("s") == "5"
    assert [(gap.start_frame, gap.reason) for gap in listener.of(Gap)] == [
        (WINDOW, "engine_error"), (2 * WINDOW, "shutdown"),
    ]  # fmt: skip
    listener.check_accounts()


@pytest.mark.parametrize(
    ("place", "durable"),
    [("bus.publisher:Publisher._send:2", False), ("durable.transcript_log:TranscriptLog.append:2", True)],
)
async def test_whatever_dies_while_the_daemon_stops_ends_it_with_1(tmp_path, publisher_to, place, durable):
    """The first message says that the stream has begun; the second one comes when the daemon stops."""
    env = {"FAKE_BEFORE": f"transcriber.{place} RAISE"} | ({"DURABLE": 1, "PROVISION": 1} if durable else {})
    with EmbeddedBroker(store=tmp_path / "store") as broker:
        async with TranscriptListener(broker.url) as listener, Held(broker.url, tmp_path, **env) as daemon:
            status = await daemon.dies_while_it_stops(await publisher_to(broker), listener, level(5, WINDOW), jobs=1)

    assert status == 1
    assert "raised, as requested" in daemon.log()


async def test_stopping_while_the_broker_is_gone_is_bounded(broker, tmp_path, publisher, listener):
    async with Daemon(broker.url, tmp_path, **ENV) as daemon:
        await speak(publisher, "s", level(5, 100))
        await until(lambda: listener.messages)
        broker.process.send_signal(signal.SIGSTOP)
        status, took_s = await daemon.stop()
        broker.process.send_signal(signal.SIGCONT)

    assert daemon.last_line("stopped")["flushed"] is False
    assert status == 0
    assert took_s <= 2.2


async def test_sigterm_while_the_model_loads_ends_at_once(broker, tmp_path):
    daemon = Daemon(broker.url, tmp_path, FAKE_JOB_S=60)
    daemon.start()
    await until(lambda: daemon.probe("/startupz")[0] == 503)

    status, took_s = await daemon.stop()

    assert status == 0
    assert took_s <= 2.2
