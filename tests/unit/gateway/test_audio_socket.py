"""The end of an audio socket, and live audio while the broker is slow."""

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.websockets import WebSocketDisconnect

from tests.support.waiting import PATIENCE_S
from transcriber.audio.format import AudioFormat
from transcriber.gateway.streams import sinks
from transcriber.gateway.streams.audio_socket import _Socket
from transcriber.gateway.streams.framing import PcmFraming
from transcriber.gateway.streams.sinks import LiveSink
from transcriber.gateway.streams.turns import Turn


class Browser:
    """A WebSocket that sends its messages, as the sink is ready for them, and keeps what it gets."""

    def __init__(self, *messages):
        self.messages, self.sent, self.code = list(messages), [], None
        self.state = SimpleNamespace()

    async def receive(self):
        message = self.messages.pop(0)
        if callable(message):
            await message()
            return await self.receive()
        return {"type": "websocket.receive", **message}

    async def send_text(self, text):
        self.sent.append(json.loads(text))

    async def close(self, code, _reason):
        self.code = code


class LosingSink:
    """Its ``confirm`` loses a cancellation, as ``asyncio.wait_for`` of Python 3.11 does if the answer comes with it."""

    def __init__(self):
        self.confirming = asyncio.Event()
        self.losses = 1
        self.duplicates = 0

    async def put(self, *_):
        pass

    async def confirm(self):
        self.confirming.set()
        while self.losses:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.losses -= 1
        return True


class Runtime:
    class connection:  # noqa: N801 - an attribute
        @staticmethod
        def room(_headers):
            return 10_000


async def test_a_session_ends_although_a_cancellation_is_lost():
    sink = LosingSink()
    browser: Any = Browser({"bytes": bytes(100)}, sink.confirming.wait, {"text": '{"type": "end"}'})
    fmt = AudioFormat()
    runtime: Any = Runtime
    socket = _Socket(browser, runtime, "s", None, sink, PcmFraming(fmt.content_type, fmt))
    socket.always = {"Audio-Session": "one"}

    async with asyncio.timeout(PATIENCE_S):
        await socket.serve(Turn())

    assert browser.code == 1000
    assert browser.sent[-1] == {"type": "position", "frames": 50, "bytes": 100}


class Gone(Browser):
    """It has sent everything and closed: nothing can be sent to it."""

    def __init__(self, error, *messages):
        super().__init__(*messages)
        self.error, self.told = error, asyncio.Event()

    async def send_text(self, _text):
        self.told.set()
        raise self.error


class KeepingSink:
    duplicates = 0

    def __init__(self):
        self.kept = []

    async def put(self, data, headers, _name):
        self.kept.append((data, headers.get("Audio-End")))

    async def confirm(self):
        return True


@pytest.mark.parametrize("error", [WebSocketDisconnect(1006), RuntimeError("after sending 'websocket.close'")])
async def test_what_a_client_sent_before_it_closed_is_published(error):
    sink, fmt = KeepingSink(), AudioFormat()
    browser: Any = Gone(error, {"bytes": b"ab"})
    browser.messages += [browser.told.wait, {"text": "nonsense"}, {"bytes": b"cd"}, {"text": '{"type": "end"}'}]
    runtime: Any = Runtime
    socket = _Socket(browser, runtime, "s", None, sink, PcmFraming(fmt.content_type, fmt))
    socket.always = {"Audio-Session": "one"}

    async with asyncio.timeout(PATIENCE_S):
        await socket.serve(Turn())

    assert sink.kept == [(b"ab", None), (b"cd", None), (b"", "1")]


async def test_a_report_that_fails_ends_the_socket():
    class Failing(KeepingSink):
        async def confirm(self):
            raise RuntimeError("a fault of ours")

    sink, fmt = Failing(), AudioFormat()
    browser: Any = Browser({"bytes": b"ab"}, asyncio.Event().wait)
    runtime: Any = Runtime
    socket = _Socket(browser, runtime, "s", None, sink, PcmFraming(fmt.content_type, fmt))
    socket.always = {"Audio-Session": "one"}

    with pytest.raises(RuntimeError, match="a fault of ours"):
        async with asyncio.timeout(PATIENCE_S):
            await socket.serve(Turn())


class SlowClient:
    """Of NATS: what is pending is written when one waits for it."""

    pending_data_size = sinks.PENDING_BYTES + 1

    async def written(self, _patience_s):
        self.pending_data_size = 0


class SlowConnection:
    connected = True

    def __init__(self):
        self.closed = asyncio.get_running_loop().create_future()
        self.client, self.published = SlowClient(), []

    async def publish(self, *message):
        self.published.append(message)
        return True


async def test_live_audio_goes_on_as_soon_as_the_socket_takes_it(monkeypatch):
    monkeypatch.setattr(sinks, "AWAY_S", 3600.0)
    connection: Any = SlowConnection()

    async with asyncio.timeout(PATIENCE_S):
        await LiveSink(connection, "audio.s").put(b"pcm", {}, "")

    assert len(connection.published) == 1
