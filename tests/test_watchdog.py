"""Connections that look alive and are not: brokers that hang, networks that swallow, a client that no longer reads."""

import asyncio
import signal
import time

import pytest

from tests.harness import Daemon, Ears, level, speak, until
from tests.proxy import Proxy
from tests.stopwatch import Stopwatch
from transcriber.bus import connection as connection_module
from transcriber.bus.client_session import connected
from transcriber.config import load_settings
from transcriber.schema.messages import Final
from transcriber.testing.broker import EmbeddedBroker

RATE = 16_000
WINDOW = RATE // 2
ENV = {"INPUT_SAMPLE_RATE": RATE, "BUFFER_DURATION_SECS": 0.5}
MENDED_S = 10.0


async def transcribes(client, ears, level_thousandths):
    """Speak on a new stream until its text comes."""
    stream = f"s{level_thousandths}"
    while not ears.of(Final, stream):
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
            async with Ears(alive.url) as ears:
                hung.process.send_signal(signal.SIGSTOP)
                watch = Stopwatch()
                await transcribes(ears.client, ears, 5)
                took_s = watch.own_s
                await until(lambda: ears.metrics)
            hung.process.send_signal(signal.SIGCONT)

    assert took_s < MENDED_S
    assert ears.metrics[-1]["transcriber.nats.reconnects"] == 1
    assert silences(daemon) == 1


async def test_where_the_only_broker_hangs_the_daemon_is_unready_and_goes_on_afterwards(broker, tmp_path, mouth, ears):
    async with Daemon(broker.url, tmp_path, **ENV) as daemon:
        await transcribes(mouth, ears, 5)
        broker.process.send_signal(signal.SIGSTOP)
        watch = Stopwatch()
        await until(lambda: daemon.probe("/readyz")[0] == 503)
        unready_s = watch.own_s
        await asyncio.sleep(max(0.0, 12 - unready_s))
        hung = daemon.probe("/readyz")[0], daemon.probe("/livez")[0]
        broker.process.send_signal(signal.SIGCONT)
        await until(lambda: daemon.probe("/readyz")[0] == 200)
        await transcribes(mouth, ears, 6)
        status, _ = await daemon.stop()

    assert unready_s < MENDED_S
    assert hung == (503, 200)
    assert status == 0
    assert silences(daemon) == 1


async def test_a_peer_that_vanished_is_left_for_another_within_ten_seconds(broker, tmp_path, mouth, ears):
    async with (
        Proxy(broker.port) as one,
        Proxy(broker.port) as other,
        Daemon(f"{one.url},{other.url}", tmp_path, **ENV) as daemon,
    ):
        vanished = one if one.accepted else other
        vanished.black_hole(True)
        watch = Stopwatch()
        await transcribes(mouth, ears, 5)
        took_s = watch.own_s

    assert took_s < MENDED_S
    assert (one.accepted, other.accepted) == (1, 1)
    assert silences(daemon) == 1


async def test_a_connection_whose_peer_says_no_more_but_hears_is_made_anew(broker, tmp_path, mouth, ears):
    async with Proxy(broker.port) as proxy, Daemon(proxy.url, tmp_path, **ENV):
        proxy.half_close()
        watch = Stopwatch()
        await transcribes(mouth, ears, 5)
        took_s = watch.own_s

    assert took_s < MENDED_S
    assert proxy.accepted == 2


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("how", ["reader dies", "reader hangs"])
async def test_a_client_that_no_longer_reads_is_mended_within_ten_seconds(broker, tmp_path, mouth, ears, how, cut):
    """Also where the broker then resets the connection, which only who publishes can notice."""
    async with (
        Proxy(broker.port) as proxy,
        Daemon(proxy.url, tmp_path, module="tests.zombie_daemon", **ENV, ZOMBIE=how) as daemon,
    ):
        await transcribes(mouth, ears, 5)
        daemon.process.send_signal(signal.SIGUSR1)
        await until(lambda: "struck" in daemon.log())
        watch = Stopwatch()
        if cut:
            await proxy.cut()
        await transcribes(mouth, ears, 6)
        took_s = watch.own_s
        await until(lambda: ears.metrics[-1]["transcriber.nats.reconnects"] == 1)
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
    async with Daemon(broker.url, tmp_path, module="tests.zombie_daemon", **env) as daemon:
        daemon.process.send_signal(signal.SIGUSR1)
        await until(lambda: silences(daemon))
        status = await daemon.ended()

    assert status == 1
    assert said in daemon.log()
    assert daemon.log().count("connecting again") == 3


@pytest.fixture
def quick(monkeypatch):
    """Probes ten times as often."""
    monkeypatch.setattr(connection_module, "PROBE_S", 0.1)


async def test_what_is_unsent_does_not_hold_up_a_reconnect(quick, broker):
    """8 MB for a peer that vanished are more than all buffers take: nats-py would wait until they are sent."""
    async with (
        Proxy(broker.port) as one,
        Proxy(broker.port) as other,
        connected(load_settings(nats_url=f"{one.url},{other.url}"), "test") as connection,
    ):
        (one if one.accepted else other).black_hole(True)
        for _ in range(16):
            await connection.publish("audio.unsent", bytes(2**19))
        await until(lambda: connection.reconnects)
        assert await connection.flush(5)


async def test_an_answer_for_which_nobody_waits_any_more_does_no_harm(quick, broker):
    async with Proxy(broker.port) as proxy, connected(load_settings(nats_url=proxy.url), "test") as connection:
        proxy.delay_s = 0.1
        assert not await connection.flush(0.05)
        assert await connection.flush(5)
        proxy.delay_s = 0
        assert await connection.flush(5)
        assert connection.reconnects == 0


async def test_what_is_flushed_was_sent_before_the_broker_was_asked(broker, monkeypatch):
    """nats-py's own flush asks first and sends then: an answer to that proves nothing."""
    async with connected(load_settings(nats_url=broker.url), "test") as connection:
        sent = bytearray()

        def noted(send):
            def note(data):
                sent.extend(data if isinstance(data, bytes) else b"".join(data))
                send(data)

            return note

        transport = connection.client._transport
        assert transport
        monkeypatch.setattr(transport, "write", noted(transport.write))
        monkeypatch.setattr(transport, "writelines", noted(transport.writelines))

        await connection.publish("audio.flushed", b"")
        assert await connection.flush(5)

    assert 0 <= sent.find(b"PUB audio.flushed") < sent.rfind(b"PING")


async def test_a_process_that_stood_still_does_not_take_its_broker_for_dead(quick, broker, caplog):
    async with connected(load_settings(nats_url=broker.url), "test") as connection:
        for _ in range(3):
            heard = connection.client.received
            time.sleep(1.0)  # noqa: ASYNC251 - that is what it is about
            await until(lambda heard=heard: connection.client.received > heard)
        assert connection.reconnects == 0
    assert "silent" not in caplog.text


async def test_a_busy_link_on_which_no_ping_is_answered_is_alive(quick):
    """What comes is proof enough."""
    pings = 0

    async def busy_broker(reader, writer):
        nonlocal pings
        writer.write(b'INFO {"max_payload":1048576,"headers":true}\r\n')
        while not (await reader.readline()).startswith(b"PING"):
            pass
        writer.write(b"PONG\r\n")
        while pings < 30:
            writer.write(b"MSG audio.s 1 2\r\nhi\r\n")
            pings += (await reader.readline()).startswith(b"PING")
        writer.close()

    server = await asyncio.start_server(busy_broker, "127.0.0.1", 0)
    url = f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with connected(load_settings(nats_url=url), "test") as connection:
        await until(lambda: pings == 30 or not connection.connected)
        assert pings == 30
        assert connection.client.received >= 30
    server.close()


async def test_a_broker_that_is_away_for_long_is_waited_for(quick, caplog):
    with EmbeddedBroker() as broker:
        url, port = broker.url, broker.port
        async with connected(load_settings(nats_url=url), "test") as connection:
            broker.process.kill()
            broker.process.wait()
            await until(lambda: not connection.connected)
            await asyncio.sleep(0.1 * 30)  # many times what a silent connection is given
            assert not connection.closed.done()
            with EmbeddedBroker(port=port):
                await until(lambda: connection.connected)
                assert await connection.flush(5)
    assert "anew" not in caplog.text
