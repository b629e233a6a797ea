"""The bad network is as bad as it says."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.support.waiting import PATIENCE_S
from transcriber.testing.faulty_proxy import FaultyProxy


@pytest.fixture
async def echo_port() -> AsyncIterator[int]:
    async def echo(reader, writer):
        try:
            while piece := await reader.read(1024):
                writer.write(piece)
                await writer.drain()
        except OSError:
            pass
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def test_what_is_sent_comes_back_in_order_and_late(echo_port):
    async with FaultyProxy(echo_port) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        proxy.delay_s = 0.1
        sent = bytes(range(256)) * 2000
        began_s = asyncio.get_running_loop().time()
        writer.write(sent)
        assert await reader.readexactly(len(sent)) == sent
        assert asyncio.get_running_loop().time() - began_s >= 0.2
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()


async def test_a_black_hole_keeps_old_and_new_connections_and_gives_all_back(echo_port):
    async with FaultyProxy(echo_port) as proxy:
        links = [await asyncio.open_connection("127.0.0.1", proxy.port)]
        links[0][1].write(b"before")
        assert await links[0][0].readexactly(6) == b"before"
        proxy.black_hole(True)
        links.append(await asyncio.open_connection("127.0.0.1", proxy.port))
        for reader, writer in links:
            writer.write(b"held")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await reader.read(1)
        proxy.black_hole(False)
        for reader, writer in links:
            assert await reader.readexactly(4) == b"held"
            writer.close()
        assert proxy.accepted == 2


async def test_a_cut_is_a_reset_and_the_next_connection_works(echo_port):
    async with FaultyProxy(echo_port) as proxy:
        for _ in range(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
            await proxy.cut()
            with pytest.raises(ConnectionResetError):
                await reader.readexactly(1)
            writer.close()


async def test_half_closed_the_broker_sends_nothing_more_but_receives():
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def listen(reader, writer):
        while byte := await reader.read(1):
            writer.write(b"" if byte == b"a" else b"what the client never reads")
            heard.put_nowait(byte)

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    async with asyncio.timeout(PATIENCE_S), FaultyProxy(server.sockets[0].getsockname()[1]) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"a")
        assert await heard.get() == b"a"
        proxy.half_close()
        assert await reader.read() == b""
        for byte in (b"b", b"c"):
            writer.write(byte)
            assert await heard.get() == byte
        writer.close()
    server.close()
