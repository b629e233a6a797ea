"""Connections that look alive and are not: brokers that hang, networks that swallow, a client that no longer reads."""

import asyncio
import contextlib
import time

import pytest

from tests.support.ports import free_port
from tests.support.waiting import PATIENCE_S, until
from transcriber.bus import connection as connection_module
from transcriber.bus.client_session import connected
from transcriber.config import load_settings
from transcriber.errors import BrokerError
from transcriber.testing.broker import EmbeddedBroker
from transcriber.testing.faulty_proxy import FaultyProxy


@pytest.fixture
def quick(monkeypatch):
    """Probes ten times as often."""
    monkeypatch.setattr(connection_module, "PROBE_S", 0.1)


async def test_what_is_unsent_does_not_hold_up_a_reconnect(quick, broker):
    """8 MB for a peer that vanished are more than all buffers take: nats-py would wait until they are sent."""
    async with (
        FaultyProxy(broker.port) as one,
        FaultyProxy(broker.port) as other,
        connected(load_settings(nats_url=f"{one.url},{other.url}"), "test") as connection,
    ):
        (one if one.accepted else other).black_hole(True)
        for _ in range(16):
            await connection.publish("audio.unsent", bytes(2**19))
        await until(lambda: connection.reconnects)
        assert await connection.flush(5)


async def test_an_answer_for_which_nobody_waits_any_more_does_no_harm(quick, broker):
    async with FaultyProxy(broker.port) as proxy, connected(load_settings(nats_url=proxy.url), "test") as connection:
        proxy.delay_s = 0.1
        assert not await connection.flush(0.05)
        assert await connection.flush(5)
        proxy.delay_s = 0
        assert await connection.flush(5)
        assert connection.reconnects == 0


async def test_it_is_connected_again_once_the_broker_has_its_subscriptions(broker, monkeypatch):
    """Else who is told that we are ready publishes what nobody hears."""
    async with FaultyProxy(broker.port) as proxy, connected(load_settings(nats_url=proxy.url), "test") as connection:
        client, asked = connection.client, asyncio.Event()
        flush = client.flush

        async def held(*arguments):
            """What nats-py calls right after it has subscribed again and calls itself connected: nothing gets to the broker."""
            if not asked.is_set():
                proxy.black_hole(True)
                asked.set()
            await flush(*arguments)

        monkeypatch.setattr(client, "flush", held)
        await proxy.cut()
        async with asyncio.timeout(PATIENCE_S):
            await asked.wait()
        assert client.is_connected
        assert not connection.connected
        proxy.black_hole(False)
        await until(lambda: connection.connected)
        assert connection.reconnects == 1


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
            received = connection.client.received
            time.sleep(1.0)  # noqa: ASYNC251 - that is what it is about
            await until(lambda received=received: connection.client.received > received)
        assert connection.reconnects == 0
    assert "silent" not in caplog.text


async def test_a_busy_link_on_which_no_ping_is_answered_is_alive(quick):
    """What comes is proof enough."""
    pings = 0

    async def busy_broker(reader, writer):
        nonlocal pings
        writer.write(b'INFO {"max_payload":1048576,"headers":true}\r\n')
        while (line := await reader.readline()) and not line.startswith(b"PING"):
            pass
        writer.write(b"PONG\r\n")
        while pings < 30 and not reader.at_eof():
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
    assert "connecting again" not in caplog.text


async def test_a_first_attempt_that_loses_its_cancellation_ends_all_the_same(monkeypatch):
    """As ``asyncio.wait_for`` of Python 3.11 does, if it comes together with what is waited for."""

    connection = connection_module.Connection()
    connect = connection.client.connect

    async def loses_one(*arguments, **options):
        with contextlib.suppress(asyncio.CancelledError):
            await connect(*arguments, **options)
        await asyncio.Event().wait()

    monkeypatch.setattr(connection.client, "connect", loses_one)

    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(BrokerError, match="no NATS server answers"):
            await connection.open(
                load_settings(nats_url=f"nats://127.0.0.1:{free_port()}", nats_connect_timeout_secs=0.1), "test"
            )


@pytest.mark.parametrize("closes", [True, False], ids=["closed", "superseded"])
async def test_an_attempt_to_reconnect_that_loses_its_cancellation_ends_all_the_same(closes):
    """Else it connects beside its successor, or keeps the process from ending."""
    with EmbeddedBroker() as broker:
        connection = connection_module.Connection()
        await connection.open(load_settings(nats_url=broker.url), "test")
    client = connection.client
    await until(lambda: client.reconnecting)
    lost, client._reconnection_task = client._reconnection_task, None
    assert lost is not None
    if closes:
        await connection.close()
    else:
        client.reconnect()
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.wait([lost])
    await connection.close()


async def test_a_first_attempt_that_breaks_is_followed_by_another(broker):
    """As by a load balancer whose broker is not yet there: nats-py calls itself closed between the two."""
    async with FaultyProxy(broker.port) as proxy:
        proxy.black_hole(True)
        connection = connection_module.Connection()
        opening = asyncio.create_task(connection.open(load_settings(nats_url=proxy.url), "test"))
        await until(lambda: proxy.accepted)
        await proxy.cut()
        proxy.black_hole(False)
        await opening
        assert await connection.flush(5)
        await connection.close()
