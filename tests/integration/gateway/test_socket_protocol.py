"""WebSockets whose client is alive, and one whose is not, at the real server with short limits."""

import asyncio
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.websockets import WebSocket
from uvicorn.server import ServerState

from bench.gateway.web_sockets import BINARY, CLOSE, PING, TEXT, FrameReader, frame, handshake
from tests.support.waiting import PATIENCE_S
from transcriber.gateway import http_protocol, sockets
from transcriber.gateway.http_protocol import GuardedProtocol
from transcriber.gateway.socket_protocol import GuardedSocketProtocol
from transcriber.tasks import cancel
from transcriber.telemetry.gateway_figures import GatewayFigures

PING_S = 0.05


class Served:
    """An application that reads once it is allowed to."""

    port: int

    def __init__(self):
        self.reading = asyncio.Event()

    async def __call__(self, _scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await self.reading.wait()
        for _ in range(2):
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return
        await send({"type": "websocket.send", "text": "both"})


class Flood:
    """An application that sends without end; with ``closes`` it drops its client itself, once that takes nothing."""

    port: int

    def __init__(self, *, closes):
        self._closes, self.blocked, self.ended = closes, asyncio.Event(), asyncio.Event()

    async def __call__(self, scope, receive, send):
        websocket = WebSocket(scope, receive, send)
        await websocket.accept()
        sending = asyncio.create_task(self._send(websocket))
        try:
            await self.blocked.wait()
            if self._closes:
                await cancel([sending])
                await sockets.close(websocket, sockets.POLICY, "slow reader")
            while (await websocket.receive())["type"] != "websocket.disconnect":
                pass
        finally:
            await cancel([sending])
            self.ended.set()

    async def _send(self, websocket):
        while True:
            await websocket.send_bytes(bytes(2**16))


@asynccontextmanager
async def serving(served, ping_s, ws=GuardedSocketProtocol):
    config = uvicorn.Config(
        served, http=GuardedProtocol, ws=ws, lifespan="off", log_config=None,
        ws_ping_interval=ping_s, ws_ping_timeout=ping_s,
    )  # fmt: skip
    config.load()
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: GuardedProtocol(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    served.port = server.sockets[0].getsockname()[1]
    async with server:
        yield served


@pytest.fixture
async def served():
    async with serving(Served(), PING_S) as served:
        yield served


async def frames(served, sent):
    """(opcode, payload) of what comes; pings are not answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(handshake("/"))
    await reader.readuntil(b"\r\n\r\n")
    writer.write(sent)
    found = FrameReader()
    try:
        while data := await reader.read(2**16):
            for one in found.add(data):
                yield one
    finally:
        writer.close()


async def test_a_client_whose_pongs_wait_behind_its_audio_is_not_closed(served):
    pings = 0
    async with asyncio.timeout(PATIENCE_S):
        async for opcode, payload in frames(served, 2 * frame(BINARY, b"audio")):
            pings += opcode == PING
            if pings == 4:
                served.reading.set()
            assert opcode != CLOSE, payload
            if opcode == TEXT:
                break

    assert (opcode, payload) == (TEXT, b"both")


async def test_a_client_that_says_nothing_is_closed(served):
    served.reading.set()
    async with asyncio.timeout(PATIENCE_S):
        found = [one async for one in frames(served, b"")]

    assert [opcode for opcode, _ in found] == [PING, CLOSE]
    assert found[-1][1] == (1011).to_bytes(2, "big") + b"keepalive ping timeout"


@pytest.mark.parametrize(("closes", "counted"), [(False, 1), (True, 0)])
async def test_a_client_that_takes_nothing_is_counted_unless_it_was_dropped_before(monkeypatch, closes, counted):
    """Of one that is dropped already, as by its queue, the close is not taken either; that is counted elsewhere."""
    flood, figures = Flood(closes=closes), GatewayFigures()
    monkeypatch.setattr(http_protocol.Impatient, "figures", figures)
    monkeypatch.setattr(http_protocol, "TAKE_S", 0.3)
    monkeypatch.setattr(sockets, "CLOSE_S", PATIENCE_S)

    class Watched(GuardedSocketProtocol):
        def pause_writing(self):
            super().pause_writing()
            flood.blocked.set()

    async with serving(flood, None, Watched):
        _, writer = await asyncio.open_connection("127.0.0.1", flood.port, limit=1)
        writer.write(handshake("/"))
        async with asyncio.timeout(PATIENCE_S):
            await flood.ended.wait()
        writer.close()

    assert figures.readers_dropped == {"queue": 0, "time": counted}
