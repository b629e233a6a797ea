"""Connections that look alive and are not: brokers that hang, networks that swallow, a client that no longer reads."""

import asyncio
import time

import pytest

from tests.support.waiting import until
from transcriber.bus import connection as connection_module
from transcriber.bus.client_session import connected
from transcriber.config import load_settings
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
    assert "connecting again" not in caplog.text
