"""Brokers that die, clients that drop, workers that crash: never silence."""

import asyncio
import signal
import socket

import nats
import pytest

from tests.support.audio import level, speak
from tests.support.connections import client_of
from tests.support.daemon import Daemon
from tests.support.ports import free_port
from tests.support.transcripts import TranscriptListener
from tests.support.waiting import settled, until
from transcriber.schema.messages import End, Final, Gap
from transcriber.testing.broker import EmbeddedBroker
from transcriber.testing.faulty_proxy import FaultyProxy

RATE = 16_000
WINDOW = RATE // 2
ENV = {"INPUT_SAMPLE_RATE": RATE, "BUFFER_DURATION_SECS": 0.5}


async def test_a_broker_killed_five_times_costs_gaps_but_never_silence(tmp_path):
    broker = EmbeddedBroker()
    broker.start()
    try:
        async with (
            Daemon(broker.url, tmp_path, **ENV, STREAM_IDLE_SECS=60) as daemon,
            TranscriptListener(broker.url) as listener,
            client_of(broker.url, pending_size=0) as publisher,
        ):
            sent = {"counted": 0, "plain": 0}

            async def speak_on():
                """A counted publisher, whose offsets rise while no daemon listens, and one without offsets."""
                try:
                    await speak(publisher, "counted", level(5, 1_600), offset=sent["counted"])
                    await speak(publisher, "plain", level(6, 1_600))
                except nats.errors.Error:
                    pass
                sent["counted"] += 1_600
                await asyncio.sleep(0.02)

            for kill in range(1, 6):
                heard = len(listener.of(Final))
                while len(listener.of(Final)) < heard + 4:
                    await speak_on()
                port = broker.port
                broker.process.kill()
                broker.stop()
                for _ in range(20):
                    await speak_on()
                broker = EmbeddedBroker(port=port)
                broker.start()
                while not (listener.metrics and listener.metrics[-1]["transcriber.nats.reconnects"] >= kill):
                    await speak_on()
            for _ in range(20):
                await speak_on()
            await speak(publisher, "counted", b"", offset=sent["counted"], end=1)
            await speak(publisher, "plain", b"", end=1)
            ends = {end.stream: end for end in await listener.ends(2)}
            assert daemon.process.poll() is None
    finally:
        broker.stop()

    counted = ends["counted"]
    assert counted.frames == counted.received_frames + counted.lost_frames == sent["counted"]
    assert counted.lost_frames > 0
    assert {gap.reason for gap in listener.of(Gap, "counted")} == {"lost_input"}
    holes = listener.of(Gap, "plain")
    assert [(hole.frames, hole.reason) for hole in holes][:1] == [(0, "lost_input")]
    assert 1 <= len(holes) <= 5


async def test_text_made_while_the_broker_is_away_comes_when_it_is_back(tmp_path):
    """A stream on the broker keeps what arrives, in whichever order the clients connect."""
    jetstream = ("--jetstream", "--store_dir", str(tmp_path / "store"))
    with EmbeddedBroker(*jetstream) as broker:
        async with (
            Daemon(broker.url, tmp_path, **ENV, FAKE_JOB_S=0.5) as daemon,
            TranscriptListener(broker.url) as listener,
        ):
            client = listener.client
            await client.jetstream().add_stream(name="T", subjects=["transcripts.>"])
            await speak(client, "s", level(5, 4 * WINDOW))
            await until(lambda: listener.metrics and listener.metrics[-1]["transcriber.jobs.enqueued"] == 4)
            broker.process.kill()
            await until(lambda: daemon.probe("/readyz")[0] == 503)
            with EmbeddedBroker(*jetstream, port=broker.port):
                await until(lambda: client.is_connected and daemon.probe("/readyz")[0] == 200)
                kept = 0
                for _ in range(200):
                    info = await client.jetstream().stream_info("T", subjects_filter="transcripts.s.final")
                    kept = (info.state.subjects or {}).get("transcripts.s.final", 0)
                    if kept == 4:
                        break
                    await asyncio.sleep(0.05)

    assert kept == 4


async def test_a_loss_is_reported_though_the_first_payload_behind_it_cannot_be_read(tmp_path):
    with EmbeddedBroker() as broker:
        async with Daemon(broker.url, tmp_path, **ENV) as daemon, TranscriptListener(broker.url) as listener:
            await speak(listener.client, "s", level(5, 1_600))
            await until(lambda: listener.messages)
            broker.process.kill()
            await until(lambda: daemon.probe("/readyz")[0] == 503)
            with EmbeddedBroker(port=broker.port):
                # The client is connected a moment before it has subscribed again.
                await until(lambda: listener.client.is_connected and "reconnected" in daemon.log())
                await speak(listener.client, "s", b"?")
                await speak(listener.client, "s", level(5, 1_600))
                await speak(listener.client, "s", b"", end=1)
                (end,) = await listener.ends(1)

    listener.check_accounts()
    assert [(gap.start_frame, gap.frames, gap.reason) for gap in listener.of(Gap)] == [
        (1_600, 0, "bad_input"), (1_600, 0, "lost_input"),
    ]  # fmt: skip
    assert end.frames == 3_200


async def test_what_the_client_drops_is_a_gap_slow_consumer_to_the_frame(broker, tmp_path, publisher, listener):
    chunk, count = 9_600, 200
    async with Daemon(broker.url, tmp_path, **ENV, PENDING_BYTES=65_536, TRANSCRIPTION_QUEUE_CAPACITY=256) as daemon:
        await speak(publisher, "s", level(5, chunk), offset=0)
        await until(lambda: listener.messages)
        daemon.process.send_signal(signal.SIGSTOP)
        for number in range(1, count):
            await speak(publisher, "s", level(5, chunk), offset=number * chunk)
        await settled(publisher)
        daemon.process.send_signal(signal.SIGCONT)
        await until(lambda: listener.metrics[-1:] and taken(listener.metrics[-1]) == count)
        await speak(publisher, "s", b"", offset=count * chunk, end=1)
        (end,) = await listener.ends(1)

    dropped = listener.metrics[-1]["transcriber.chunks.dropped"]["slow_consumer"]
    listener.check_accounts()
    assert end.frames == count * chunk
    assert end.lost_frames == dropped * chunk > 0
    assert {gap.reason for gap in listener.of(Gap)} == {"slow_consumer"}


def taken(metrics):
    """Payloads that were received or dropped."""
    return metrics["transcriber.chunks.received"] + metrics["transcriber.chunks.dropped"]["slow_consumer"]


async def test_an_engine_error_is_a_gap_and_the_stream_continues(broker, tmp_path, publisher, listener):
    async with Daemon(broker.url, tmp_path, **ENV, FAKE_FAIL_AT=13):
        for thousandths in (1, 13, 2):
            await speak(publisher, "s", level(thousandths, WINDOW))
        await speak(publisher, "s", b"", end=1)
        (end,) = await listener.ends(1)

    (gap,) = listener.of(Gap)
    assert (gap.start_frame, gap.frames, gap.reason) == (WINDOW, WINDOW, "engine_error")
    assert gap.detail == "the fake model failed, as requested"
    assert (end.transcribed_frames, end.dropped_frames) == (2 * WINDOW, WINDOW)
    listener.check_accounts()


async def test_a_job_over_its_limit_is_cancelled_and_said(broker, tmp_path, publisher, listener):
    async with Daemon(broker.url, tmp_path, **ENV, FAKE_SLOW_S=20, MAX_LATENCY_SECS=1) as daemon:
        await speak(publisher, "s", level(600, WINDOW))
        await speak(publisher, "s", level(5, WINDOW), end=1)
        (end,) = await listener.ends(1)

    (gap,) = listener.of(Gap)
    assert (gap.start_frame, gap.frames, gap.reason) == (0, WINDOW, "engine_error")
    assert gap.detail == "took longer than 1.0 s"
    assert (end.transcribed_frames, end.segments) == (WINDOW, 1)
    assert "took longer than 1.0 s" in daemon.log()


async def test_a_dead_worker_ends_the_process_with_1_and_says_what_was_lost(broker, tmp_path, publisher, listener):
    async with Daemon(broker.url, tmp_path, **ENV, FAKE_CRASH_AT=13) as daemon:
        await speak(publisher, "s", level(13, WINDOW + 100))
        status = await daemon.ended()
        (end,) = await listener.ends(1)

    assert status == 1
    assert listener.of(Gap)[0].reason == "engine_error"
    assert end.dropped_frames == WINDOW + 100
    assert "the fake model crashed, as requested" in daemon.log()
    listener.check_accounts()


async def test_a_connection_closed_for_good_ends_the_process_with_1(tmp_path):
    def config(password):
        path = tmp_path / "nats.conf"
        path.write_text(f'authorization {{ user: u, password: "{password}" }}')
        return path

    with EmbeddedBroker("--config", str(config("old"))) as broker:
        url = broker.url.replace("//", "//u:old@")
        async with Daemon(url, tmp_path, **ENV) as daemon:
            config("new")
            broker.process.send_signal(signal.SIGHUP)
            status = await daemon.ended()

    assert status == 1
    assert "closed for good" in daemon.log()
    assert "old" not in daemon.log().replace("threshold", "")


@pytest.mark.parametrize("answers", ["refuses", "is silent"])
async def test_a_dead_collector_neither_slows_nor_stops_anything(broker, tmp_path, publisher, listener, answers):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1] if answers == "is silent" else free_port()
        otel = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_METRIC_EXPORT_INTERVAL": 100,
        }
        async with Daemon(broker.url, tmp_path, **ENV, **otel) as daemon:
            for _ in range(10):
                await speak(publisher, "s", level(5, WINDOW))
            await speak(publisher, "s", b"", end=1)
            await listener.ends(1)
            status, took_s = await daemon.stop()

    assert status == 0
    assert took_s <= 2.2
    assert listener.text("s") == " ".join(["5"] * 10)
    listener.check_accounts()
    assert daemon.log().count("opentelemetry") <= 2


async def test_probes_report_loading_ready_and_a_broker_that_is_away(broker, tmp_path):
    daemon = Daemon(broker.url, tmp_path, FAKE_JOB_S=1)
    daemon.start()
    await until(lambda: daemon.probe("/startupz")[0])
    loading = {path: daemon.probe(path)[0] for path in ("/startupz", "/readyz", "/livez")}
    await until(lambda: daemon.probe("/readyz")[0] == 200)
    ready = {path: daemon.probe(path) for path in ("/startupz", "/readyz", "/livez", "/other")}
    broker.process.kill()
    unready = await until(lambda: (found := daemon.probe("/readyz"))[0] == 503 and found)
    alive = daemon.probe("/livez")
    await daemon.__aexit__()

    assert loading == {"/startupz": 503, "/readyz": 503, "/livez": 200}
    assert {path: status for path, (status, _) in ready.items()} == {
        "/startupz": 200, "/readyz": 200, "/livez": 200, "/other": 404,
    }  # fmt: skip
    assert ready["/readyz"][1] == {
        "ok": True, "started": True, "connected": True, "subscribed": True, "not_draining": True,
    }  # fmt: skip
    assert unready[1]["connected"] is False
    assert alive[0] == 200


async def test_liveness_fails_when_a_job_runs_over_its_limit(broker, tmp_path, publisher):
    async with Daemon(broker.url, tmp_path, **ENV, MAX_LATENCY_SECS=0.5) as daemon:
        assert daemon.probe("/livez")[0] == 200
        await speak(publisher, "s", level(666, WINDOW))
        status, body = await until(lambda: (found := daemon.probe("/livez"))[0] == 503 and found)

    assert status == 503
    assert body["worker"] is False
    assert body["loop_ticking"] is True


async def test_idle_time_does_not_run_while_the_broker_is_away(broker, tmp_path, publisher, listener):
    """The broker is out of reach and comes back: the daemon was never restarted for it."""
    async with FaultyProxy(broker.port) as proxy, Daemon(proxy.url, tmp_path, **ENV, STREAM_IDLE_SECS=6) as daemon:
        await speak(publisher, "s", level(5, 100), offset=0)
        await until(lambda: listener.messages)
        proxy.black_hole(True)
        await proxy.cut()
        await until(lambda: daemon.probe("/readyz")[0] == 503)
        await asyncio.sleep(6.5)  # longer than the idle time: it must not run while nothing can come
        assert not listener.of(End)
        proxy.black_hole(False)
        await until(lambda: daemon.probe("/readyz")[0] == 200)
        await speak(publisher, "s", level(5, 100), offset=100)
        await speak(publisher, "s", b"", end=1)
        (end,) = await listener.ends(1)

    assert (end.received_frames, end.lost_frames) == (200, 0)
