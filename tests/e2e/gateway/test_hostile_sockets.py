"""WebSockets of clients that mean no good, or are unlucky: each gets a reason, and the log no traceback."""

import asyncio
import json
import socket
from datetime import UTC, datetime
from urllib.parse import urlsplit

import httpx
import nats
import pytest
import websockets
from websockets.asyncio.client import connect

from tests.support.gateway import GatewayProcess, shared_broker
from tests.support.waiting import PATIENCE_S, settled, until
from transcriber.schema.messages import MAX_DETAIL, Gap
from transcriber.tasks import cancel

__all__ = ["shared_broker"]

RATE = 16_000
MOST = 50_000
"""Messages that no kernel keeps for a client with a small buffer."""
REALTIME = "/v1/realtime?intent=transcription"
AUDIO = "/v1/streams/s/audio"


@pytest.fixture(scope="module")
def gateway(broker):
    with GatewayProcess(broker.url, limits={"sockets.CLOSE_S": PATIENCE_S}) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def small(broker):
    """Two connections, and a fifth of a second to take something."""
    with GatewayProcess(
        broker.url,
        GATEWAY_MAX_CONNECTIONS=2,
        limits={"http_protocol.TAKE_S": 0.2, "event_stream.SEND_S": PATIENCE_S},
    ) as small:
        yield small


@pytest.fixture
async def client(small):
    async with httpx.AsyncClient(base_url=small.url, timeout=PATIENCE_S) as client:
        yield client


@pytest.fixture
async def daemon(broker):
    """Somebody who takes streams; the messages."""
    client = await nats.connect(broker.url)
    taken = []

    async def take(message):
        taken.append(message)

    await client.subscribe("audio.*", cb=take)
    await settled(client)
    yield taken
    await client.close()


def errors(gateway):
    return [line for line in gateway.lines if line["level"] in {"ERROR", "CRITICAL"}] + gateway.other_lines


def small_socket(gateway, size_bytes=2**16):
    """A connection for whose client the kernel keeps little."""
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size_bytes)
    found.connect(("127.0.0.1", urlsplit(gateway.url).port))
    return found


async def closing(opened):
    """Code and reason, once it is closed."""
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(websockets.ConnectionClosed) as closed:  # noqa: PT012 - whenever it comes
            while True:
                await opened.recv()
    return closed.value.rcvd and (closed.value.rcvd.code, closed.value.rcvd.reason)


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/v1/streams/a.b/audio", {}, 400),
        ("/v1/streams/%3E/audio", {}, 400),
        ("/v1/streams/*/transcript", {}, 400),
        ("/v1/streams/s%0A/transcript", {}, 400),
        ("/v1/streams/job=01ARZ3NDEKTSV4RRFFQ69G5FAV/transcript", {}, 400),
        ("/v1/streams/a%2Fb/audio", {}, 404),
        ("/v1/models", {}, 404),
        ("/v1/streams/s/audio?session=a%0D%0AAudio-End:%201", {}, 400),
        ("/v1/streams/s/audio?content_type=audio/wav%0D%0AX:%201", {}, 400),
        ("/v1/streams/s/audio?language=%ff", {}, 400),
        (AUDIO, {"Origin": "https://evil.example"}, 403),
        (AUDIO, {"Origin": "http://["}, 403),
        (REALTIME, {"Origin": "null"}, 403),
        ("/v1/streams/s/transcript", {"Host": "evil.example"}, 403),
    ],
)
async def test_a_handshake_that_is_refused_has_an_error_and_is_none_of_ours(gateway, path, headers, status):
    others = {name: value for name, value in headers.items() if name != "Host"}
    at = {"host": "127.0.0.1", "port": urlsplit(gateway.url).port}
    url = f"ws://evil.example{path}" if "Host" in headers else gateway.websocket_url + path

    with pytest.raises(websockets.InvalidStatus) as refused:
        await connect(url, additional_headers=others, **(at if "Host" in headers else {}))

    assert refused.value.response.status_code == status
    assert json.loads(refused.value.response.body)["error"]["message"]
    assert errors(gateway) == []


@pytest.mark.parametrize(
    ("start", "headers", "status"),
    [
        ("GET /v1/streams/s/audio", "X: " + 9000 * "a", 431),
        ("GET /v1/streams/s/audio", "\r\n".join(["X: a"] * 200), 431),
        ("GET /v1/streams/s/audio?ticket=" + 9000 * "a", "X: a", 431),
        ("GET /v1/streams/s/audio", "Content-Length: 100000", 400),
    ],
    ids=["long header", "many headers", "long path", "body"],
)
def test_a_handshake_that_cannot_be_read_is_answered_and_closed(gateway, start, headers, status):
    with small_socket(gateway) as client:
        client.settimeout(PATIENCE_S)
        client.sendall(
            f"{start} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n\r\n".encode()
        )
        answer = b"".join(iter(lambda: client.recv(65536), b""))

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert json.loads(body)["error"]["message"].startswith("no WebSocket: ")


async def test_nothing_is_unpacked_and_a_long_message_is_too_large(gateway):
    async with connect(gateway.websocket_url + AUDIO) as opened:
        await opened.recv()
        assert opened.protocol.extensions == []
        await opened.send(bytes(2**20 + 1))

        assert (await closing(opened))[0] == 1009
    assert errors(gateway) == []


async def test_a_session_that_ends_at_once_is_closed(gateway):
    for audio in (b"", bytes(200)) * 5:
        async with connect(gateway.websocket_url + AUDIO) as opened:
            await opened.send(audio)
            await opened.send('{"type": "end"}')

            assert await closing(opened) == (1000, "end")


async def test_what_is_no_unicode_is_refused_and_the_session_goes_on(gateway, daemon):
    lone = '"\\ud800"'
    async with connect(gateway.websocket_url + REALTIME) as opened:
        for event in (
            f'{{"type": {lone}}}',
            f'{{"type": "?", "event_id": {lone}}}',
            f'{{"type": "session.update", "session": {{{lone}: 1}}}}',
            f'{{"type": "session.update", "session": {{"type": "transcription", "audio": {{{lone}: 1}}}}}}',
        ):
            await opened.send(event)
        await opened.send('{"type": "input_audio_buffer.clear"}')
        async with asyncio.timeout(PATIENCE_S):
            kinds = [json.loads(await opened.recv())["type"] for _ in range(6)]
    async with connect(gateway.websocket_url + AUDIO) as opened:
        await opened.recv()
        await opened.send(f'{{"type": {lone}}}')
        async with asyncio.timeout(PATIENCE_S):
            kinds.append(json.loads(await opened.recv())["type"])

    assert kinds == ["session.created", *["error"] * 4, "input_audio_buffer.cleared", "error"]
    assert errors(gateway) == []


async def test_a_realtime_client_that_does_not_read_is_closed_with_1008(gateway, daemon):
    url = gateway.websocket_url + REALTIME
    async with connect(url, sock=small_socket(gateway), max_queue=64, compression=None) as opened:
        await opened.send(json.dumps({"type": "input_audio_buffer.append", "audio": "AAAA" * 1600}))

        async def ask():
            while True:
                await opened.send(json.dumps({"type": "?", "event_id": "x" * 512}))

        asking = asyncio.create_task(ask())
        await until(lambda: daemon and (daemon[-1].headers or {}).get("Audio-End"), "the end of its audio")
        await cancel([asking])
        found = await closing(opened)

    assert found == (1008, "events are read too slowly")


async def test_too_many_connections_are_told_so_and_probes_are_answered(small, client):
    async with connect(small.websocket_url + AUDIO), connect(small.websocket_url + AUDIO) as second:
        async with connect(small.websocket_url + AUDIO, subprotocols=[websockets.Subprotocol("ticket.x")]) as third:
            assert third.subprotocol == "ticket.x"  # else a browser would not be told why
            assert await closing(third) == (1013, "too many connections")
        full, alive = await client.get("/v1/streams"), await client.get("/livez")
        await second.close()
        async with asyncio.timeout(PATIENCE_S):
            while (await client.get("/v1/streams")).status_code != 200:
                pass

    assert (full.status_code, full.headers["Retry-After"]) == (503, "1")
    assert alive.status_code == 200


async def test_a_client_that_takes_nothing_is_cut_off(small, publisher):
    """Its place is free again, though it neither reads nor closes."""
    before = len(small.requests())
    with small_socket(small, 2**12) as client:
        client.sendall(b"GET /v1/streams/s/transcript HTTP/1.1\r\nHost: localhost\r\n\r\n")
        begun = b""
        while b"listening" not in begun:
            begun += client.recv(4096)
        for number in range(MOST):
            await publisher.publish("transcripts.s.gap", gap(number))
            if number % 500 == 0:
                await settled(publisher)
                if len(small.requests()) > before:
                    break
        await until(lambda: len(small.requests()) > before, "the end of the request")

    assert errors(small) == []


def gap(second):
    return (
        Gap(
            stream="s", session="one", rate=RATE, start_frame=second * RATE, frames=RATE, start=second, duration=1,
            received_at=datetime.now(UTC), reason="bad_input", speaker=None, detail="x" * MAX_DETAIL,
        )
        .model_dump_json(by_alias=True)
        .encode()
    )  # fmt: skip
