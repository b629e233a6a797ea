"""Connections that look alive and are not: brokers that hang, networks that swallow, a client that no longer reads."""

import asyncio
import signal

import pytest

from tests.support.audio import level, speak
from tests.support.daemon import Daemon
from tests.support.stopwatch import Stopwatch
from tests.support.transcripts import TranscriptListener
from tests.support.waiting import until
from transcriber.schema.messages import Final
from transcriber.testing.broker import EmbeddedBroker
from transcriber.testing.faulty_proxy import FaultyProxy

RATE = 16_000
WINDOW = RATE // 2
ENV = {"INPUT_SAMPLE_RATE": RATE, "BUFFER_DURATION_SECS": 0.5}
MENDED_S = 10.0


async def transcribes(client, listener, level_thousandths):
    """Speak on a new stream until its text comes."""
    stream = f"s{level_thousandths}"
    while not listener.of(Final, stream):
        await speak(client, stream, level(level_thousandths, WINDOW))
        await asyncio.sleep(0.05)


def server_of(daemon):
    """Where the daemon is, as a port."""
    return int(daemon.last_line("connected")["server"].rpartition(":")[2])


def silences(daemon):
    return daemon.log().count("connecting again: the broker is silent")


async def test_a_broker_that_hangs_is_left_for_another_within_ten_seconds(tmp_path):
    with EmbeddedBroker() as one, EmbeddedBroker() as other:
        async with Daemon(f"{one.url},{other.url}", tmp_path, **ENV) as daemon:
            hung, alive = (one, other) if server_of(daemon) == one.port else (other, one)
            async with TranscriptListener(alive.url) as listener:
                hung.process.send_signal(signal.SIGSTOP)
                watch = Stopwatch()
                await transcribes(listener.client, listener, 5)
                took_s = watch.own_s
                await until(lambda: listener.metrics)
            hung.process.send_signal(signal.SIGCONT)

    assert took_s < MENDED_S
    assert listener.metrics[-1]["transcriber.nats.reconnects"] == 1
    assert silences(daemon) == 1


async def test_where_the_only_broker_hangs_the_daemon_is_unready_and_resumes_afterwards(
    broker, tmp_path, publisher, listener
):
    async with Daemon(broker.url, tmp_path, **ENV) as daemon:
        await transcribes(publisher, listener, 5)
        broker.process.send_signal(signal.SIGSTOP)
        watch = Stopwatch()
        await until(lambda: daemon.probe("/readyz")[0] == 503)
        unready_s = watch.own_s
        await asyncio.sleep(max(0.0, 12 - unready_s))
        hung = daemon.probe("/readyz")[0], daemon.probe("/livez")[0]
        broker.process.send_signal(signal.SIGCONT)
        await until(lambda: daemon.probe("/readyz")[0] == 200)
        await transcribes(publisher, listener, 6)
        status, _ = await daemon.stop()

    assert unready_s < MENDED_S
    assert hung == (503, 200)
    assert status == 0
    assert silences(daemon) == 1


async def test_a_peer_that_vanished_is_left_for_another_within_ten_seconds(broker, tmp_path, publisher, listener):
    async with (
        FaultyProxy(broker.port) as one,
        FaultyProxy(broker.port) as other,
        Daemon(f"{one.url},{other.url}", tmp_path, **ENV) as daemon,
    ):
        vanished = one if one.accepted else other
        vanished.black_hole(True)
        watch = Stopwatch()
        await transcribes(publisher, listener, 5)
        took_s = watch.own_s

    assert took_s < MENDED_S
    assert (one.accepted, other.accepted) == (1, 1)
    assert silences(daemon) == 1


async def test_a_connection_whose_peer_sends_no_more_but_receives_is_replaced(broker, tmp_path, publisher, listener):
    async with FaultyProxy(broker.port) as proxy, Daemon(proxy.url, tmp_path, **ENV):
        proxy.half_close()
        watch = Stopwatch()
        await transcribes(publisher, listener, 5)
        took_s = watch.own_s

    assert took_s < MENDED_S
    assert proxy.accepted == 2


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("how", ["reader dies", "reader hangs"])
async def test_a_client_that_no_longer_reads_is_mended_within_ten_seconds(
    broker, tmp_path, publisher, listener, how, cut
):
    """Also where the broker then resets the connection, which only who publishes can notice."""
    async with (
        FaultyProxy(broker.port) as proxy,
        Daemon(proxy.url, tmp_path, module="tests.support.broken_client_daemon", **ENV, ZOMBIE=how) as daemon,
    ):
        await transcribes(publisher, listener, 5)
        daemon.process.send_signal(signal.SIGUSR1)
        await until(lambda: "struck" in daemon.log())
        watch = Stopwatch()
        if cut:
            await proxy.cut()
        await transcribes(publisher, listener, 6)
        took_s = watch.own_s
        await until(lambda: listener.metrics[-1]["transcriber.nats.reconnects"] == 1)
        status, _ = await daemon.stop()

    assert took_s < MENDED_S
    assert status == 0
    assert silences(daemon) == (not cut)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("readers die", "dead after 3 repairs: the broker is silent"),
        ("nobody tries", "dead after 3 repairs: the client no longer reconnects"),
    ],
)
async def test_a_client_that_cannot_be_mended_ends_the_process_with_1(broker, tmp_path, how, said):
    env = ENV | {"ZOMBIE": how, "FAKE_SET": "transcriber.bus.connection:PROBE_S=0.2"}
    async with Daemon(broker.url, tmp_path, module="tests.support.broken_client_daemon", **env) as daemon:
        daemon.process.send_signal(signal.SIGUSR1)
        await until(lambda: silences(daemon))
        status = await daemon.ended()

    assert status == 1
    assert said in daemon.log()
    assert daemon.log().count("connecting again") == 3
