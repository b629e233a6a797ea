"""Connections that are held for nothing, at the real server, whose limits are short here."""

import asyncio
import gc

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route
from uvicorn.server import ServerState

from tests.support.waiting import PATIENCE_S, until
from transcriber.gateway import http_protocol
from transcriber.gateway.http_protocol import GuardedProtocol

GET = b"GET /%b HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"


class Served:
    """An application, and what became of its endless answer."""

    port: int

    def __init__(self):
        self.ended, self.state = asyncio.Event(), ServerState()
        self.app = Starlette(routes=[Route("/", self.short, methods=["GET", "POST"]), Route("/endless", self.endless)])

    async def short(self, request):
        await asyncio.sleep(0)
        return PlainTextResponse("here")

    async def endless(self, request):
        return StreamingResponse(self.pieces())

    async def pieces(self):
        try:
            while True:
                yield bytes(2**16)
                await asyncio.sleep(0)
        finally:
            self.ended.set()


@pytest.fixture
async def served(monkeypatch):
    monkeypatch.setattr(http_protocol, "HEADER_S", 0.3)
    monkeypatch.setattr(http_protocol, "TAKE_S", 0.3)
    served = Served()
    config = uvicorn.Config(served.app, http=GuardedProtocol, lifespan="off", log_config=None, timeout_keep_alive=3600)
    config.load()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: GuardedProtocol(config=config, server_state=served.state, app_state={}), "127.0.0.1", 0
    )
    served.port = server.sockets[0].getsockname()[1]
    async with server:
        yield served
        for connection in list(served.state.connections):
            connection.transport.abort()


async def answer_to(served, *pieces):
    """All that comes for ``pieces``, until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    try:
        async with asyncio.timeout(PATIENCE_S):
            first = b""
            for piece in pieces:
                writer.write(piece)
                if not first:
                    first = await reader.readuntil(b"here") if piece.startswith((b"GET / ", b"POST")) else b""
            return first + await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize("stray", [b"\r\n", b"GE", b"GET / HTTP/1.1\r\nX: "])
async def test_bytes_after_an_answer_do_not_hold_a_connection(served, stray):
    assert (await answer_to(served, GET % b"", stray)).count(b"200 OK") == 1


async def test_a_body_that_nobody_reads_does_not_hold_a_connection(served):
    assert (await answer_to(served, POST, b"a")).count(b"200 OK") == 1


async def test_a_request_before_the_answer_ends_the_connection_with_it(served):
    assert (await answer_to(served, (GET % b"") * 100)).count(b"200 OK") == 1


async def test_who_takes_nothing_of_an_answer_is_cut_off(served):
    _, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1)
    writer.write(GET % b"endless")

    async with asyncio.timeout(PATIENCE_S):
        await served.ended.wait()
    writer.close()


async def test_long_headers_are_refused_also_in_one_piece(served):
    answer = await answer_to(served, b"GET /endless HTTP/1.1\r\nHost: localhost\r\n" + b"X: a\r\n" * 20_000 + b"\r\n")

    assert answer.startswith(b"HTTP/1.1 431 ")


async def test_what_is_refused_leaves_nothing(served, monkeypatch):
    monkeypatch.setattr(http_protocol, "LINGER_S", 0.01)
    for _ in range(2):
        await answer_to(served, b"GET /endless HTTP/1.1\r\nHost: localhost\r\n" + b"X: a\r\n" * 20_000 + b"\r\n")
        await answer_to(served, (GET % b"") * 100)
    await until(lambda: not served.state.connections)
    gc.collect()

    assert [one for one in gc.get_objects() if isinstance(one, GuardedProtocol)] == []
