"""Two gateways with one file of keys: one with TLS on an IPv6 address, one in a hurry; a broker and a daemon with a fake model."""

import asyncio
import json
import socket
import ssl
from contextlib import asynccontextmanager, closing
from functools import partial
from urllib.parse import urlsplit

import httpx
import pytest
import trustme
import websockets
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from websockets.asyncio.client import connect

from tests.support.audio import level
from tests.support.clip_requests import clip
from tests.support.daemon import Daemon
from tests.support.gateway import GatewayProcess, shared_broker
from tests.support.waiting import PATIENCE_S
from transcriber.config import load_settings
from transcriber.errors import ConfigError
from transcriber.gateway.keys import new_key
from transcriber.gateway.server import run as serve

__all__ = ["shared_broker"]

RATE = 16_000
KEY, ENTRY = new_key("studio")
GUEST, GUEST_ENTRY = new_key("guest")
EVENTS = {"Accept": "text/event-stream"}
BODY_S = 0.3
"""For a piece of a body, in place of half a minute."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("replicas")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    issued = authority.issue_cert("::1", "localhost")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    key = load_pem_private_key(issued.private_key_pem.bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    (folder / "locked.pem").write_bytes(locked)
    guest = GUEST_ENTRY.replace('"*"', '"radio-*"').replace('"listen", "publish", "transcribe"', '"listen"')
    (folder / "keys.toml").write_text(ENTRY + guest)
    (folder / "wrong.toml").write_text(ENTRY.replace("listen", "lisen"))
    return folder


@pytest.fixture(scope="module")
def secure(broker, folder):
    tls = {"GATEWAY_TLS_CERT": folder / "cert.pem", "GATEWAY_TLS_KEY": folder / "key.pem"}
    with GatewayProcess(broker.url, GATEWAY_HOST="::1", GATEWAY_KEYS_FILE=folder / "keys.toml", **tls) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def plain(broker, folder):
    limits = {"guard.BODY_S": BODY_S}
    with GatewayProcess(broker.url, GATEWAY_KEYS_FILE=folder / "keys.toml", limits=limits) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def daemon(broker, folder):
    job_s = folder / "job_s"
    job_s.write_text("0")
    settings = {"BUFFER_DURATION_SECS": 0.5, "INPUT_SAMPLE_RATE": RATE, "REQUEST_TIMEOUT_SECS": 0.3}
    running = Daemon(broker.url, folder, FAKE_JOB_FILE=job_s, **settings)
    asyncio.run(running.__aenter__())
    yield running
    asyncio.run(running.__aexit__())


@pytest.fixture
async def client(plain):
    async with httpx.AsyncClient(base_url=plain.url, headers=as_key(KEY), timeout=PATIENCE_S) as client:
        yield client


def context(folder):
    return ssl.create_default_context(cafile=str(folder / "ca.pem"))


async def test_a_ticket_of_one_opens_the_other_and_no_more_than_it_says(secure, plain, folder):
    assert secure.url.startswith("https://[::1]:")
    async with httpx.AsyncClient(base_url=secure.url, verify=context(folder), timeout=PATIENCE_S) as client:
        post = partial(client.post, "/v1/tickets", headers=as_key(GUEST))
        ticket = (await post(json={"scopes": ["listen"], "streams": ["radio-7"]})).json()["ticket"]
        wider = [
            await post(json={"scopes": ["publish"]}),
            await post(json={"scopes": ["listen"], "streams": ["*"]}),
            await post(json={"scopes": ["listen"], "streams": ["radio-[78]"]}),
            await client.post(f"/v1/tickets?ticket={ticket}", json={"scopes": ["listen"]}),
        ]

    opened = []
    for url, tls in ((plain.websocket_url, None), (secure.websocket_url, context(folder))):
        async with connect(f"{url}/v1/streams/radio-7/transcript?ticket={ticket}", ssl=tls):
            opened.append(url)
        protocols = [websockets.Subprotocol(f"ticket.{ticket}")]
        async with connect(f"{url}/v1/streams/radio-7/transcript", ssl=tls, subprotocols=protocols) as one:
            assert one.subprotocol == protocols[0]
        for path in ("radio-8/transcript", "radio-7/audio"):
            with pytest.raises(websockets.InvalidStatus) as refused:
                await connect(f"{url}/v1/streams/{path}?ticket={ticket}", ssl=tls)
            assert refused.value.response.status_code == 403

    assert [one.status_code for one in wider] == [403, 403, 403, 401]
    assert [url[:4] for url in opened] == ["ws:/", "wss:"]
    assert ticket not in json.dumps(plain.lines + secure.lines)


def test_without_tls_a_gateway_with_it_answers_nothing(secure):
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(secure.url.replace("https", "http") + "/livez")


@pytest.mark.parametrize(("setting", "file"), [("GATEWAY_KEYS_FILE", "wrong.toml"), ("GATEWAY_TLS_CERT", "cert.pem")])
def test_wrong_files_are_one_line(folder, setting, file):
    tls = {"gateway_tls_key": folder / "locked.pem"} if file == "cert.pem" else {}

    with pytest.raises(ConfigError, match=setting) as refused:  # and no question for a password
        serve(load_settings(**{setting.lower(): folder / file}, **tls))

    assert "\n" not in str(refused.value)


def test_a_body_whose_next_piece_does_not_come_is_408(plain):
    head = (
        f"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 1000\r\n\r\n"
    )
    with closing(socket.create_connection(("127.0.0.1", urlsplit(plain.url).port))) as slow:
        slow.settimeout(PATIENCE_S)
        slow.sendall(head.encode() + b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\nabc')
        answer = b"".join(iter(partial(slow.recv, 65536), b""))

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"no piece of the body for 0.3 s" in answer


@pytest.mark.usefixtures("daemon")
async def test_what_takes_too_long_is_504_and_not_repeated(folder, client):
    (folder / "job_s").write_text("5")
    late = await client.post(
        "/v1/audio/transcriptions", files={"file": ("a.wav", clip(1))}, data={"model": "whisper-1"}
    )
    (folder / "job_s").write_text("0")

    assert (late.status_code, late.headers["x-should-retry"]) == (504, "false")
    assert late.json()["error"]["type"] == "server_error"


async def test_live_captions_last_until_the_session_ends(daemon, plain, client):
    async with client.stream("GET", "/v1/streams/radio-7/transcript.vtt", headers=as_key(GUEST)) as captions:
        lines = captions.aiter_lines()
        assert await anext(lines) == "WEBVTT"
        async with publish(plain, "take-1") as opened:
            await opened.send('{"type": "end"}')
            await opened.wait_closed()
        rest = [line async for line in lines]

    assert [line for line in rest if " --> " in line]
    assert "2 3" in " ".join(line for line in rest if line and " --> " not in line)


async def test_metrics_are_for_keys_of_all_streams(daemon, plain, client):
    async with client.stream("GET", "/v1/streams", headers=as_key(GUEST) | EVENTS) as of_guest:
        async with client.stream("GET", "/v1/streams", headers=EVENTS) as of_all:
            *_, last = [event async for event in events(of_all, "metrics", "")]
        async with publish(plain, "take-2"):
            heard = [kind async for kind, _ in events(of_guest, "streams", "take-2")]

    assert json.loads(last[1])["type"] == "metrics"
    assert set(heard) == {"streams"}


async def events(answer, kind, text):
    """(event, data) of each, up to the first of a kind that has ``text``."""
    event = ""
    async for line in answer.aiter_lines():
        name, _, value = line.partition(": ")
        if name == "event":
            event = value
        elif name == "data":
            yield event, value
            if event == kind and text in value:
                return


@asynccontextmanager
async def publish(gateway, session):
    """A second and a half of sound, and the socket."""
    url = f"{gateway.websocket_url}/v1/streams/radio-7/audio?session={session}&content_type=audio/x-raw;rate={RATE}"
    async with connect(url, additional_headers=as_key(KEY)) as opened:
        await opened.send(b"".join(level(value, RATE // 2) for value in (1, 2, 3)))
        yield opened


def as_key(key):
    return {"Authorization": f"Bearer {key}"}
