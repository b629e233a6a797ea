"""The gateway as a process: its start, its end, and clients that mean no good."""

import json
import socket
from contextlib import ExitStack
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support.daemon import run
from tests.support.gateway import GatewayProcess, shared_broker
from tests.support.ports import free_port

__all__ = ["shared_broker"]

PATH = "/v1/audio/transcriptions"
FORM = "multipart/form-data; boundary=xyz"


@pytest.fixture(scope="module")
def gateway(broker):
    with GatewayProcess(broker.url, GATEWAY_ORIGINS="https://captions.example") as gateway:
        yield gateway


def test_what_keeps_it_from_starting_is_one_line_and_a_status(broker):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run("gateway", GATEWAY_HOST="0.0.0.0", NATS_URL=broker.url)[0] == 2  # noqa: S104 - that it is refused
        in_use = run("gateway", GATEWAY_PORT=port, NATS_URL=broker.url)
    no_broker = run("gateway", GATEWAY_PORT=0, NATS_URL=f"nats://127.0.0.1:{free_port()}")

    assert in_use[0] == no_broker[0] == 3
    assert f"GATEWAY_PORT={port}" in in_use[1]
    assert in_use[1].count("\n") == no_broker[1].count("\n") == 0


def test_sigterm_ends_it_with_0_and_probes_say_how_it_is(broker):
    with GatewayProcess(broker.url) as gateway:
        assert httpx.get(f"{gateway.url}/livez").json() == {"ok": True}
        assert httpx.get(f"{gateway.url}/readyz").json() == {"ok": True, "connected": True, "serving": True}
        with httpx.stream("GET", f"{gateway.url}/v1/streams/s/transcript.vtt") as captions:
            lines = captions.iter_lines()
            assert next(lines) == "WEBVTT"
            assert gateway.stop() == 0
            with pytest.raises(httpx.RemoteProtocolError):  # they end before their session does
                list(lines)

    assert gateway.lines[-1]["msg"] == "stopped"
    assert not [line for line in gateway.lines if "exception" in line]
    assert gateway.other_lines == []


def test_errors_are_openais_and_requests_have_ids(gateway):
    nowhere = httpx.get(f"{gateway.url}/v1/nowhere", headers={"X-Request-ID": "mine"})
    wrong = httpx.get(f"{gateway.url}{PATH}", headers={"X-Request-ID": "not one\tof ours"})
    nobody = httpx.get(f"{gateway.url}/v1/models")

    assert (nowhere.status_code, wrong.status_code, nobody.status_code) == (404, 405, 503)
    for answer in (nowhere, wrong, nobody):
        assert answer.json()["error"].keys() == {"message", "type", "param", "code"}
    assert nowhere.headers["X-Request-ID"] == "mine"
    assert len(wrong.headers["X-Request-ID"]) == 26


def names(answer, header):
    """The names of headers that a header lists."""
    return {name.strip() for name in answer.headers[header].lower().split(",")}


OURS, OTHER = "https://captions.example", "https://evil.example"
NPM_OPENAI = (
    "authorization,content-type,openai-beta,openai-organization,openai-project,x-stainless-arch,x-stainless-helper-method,"
    "x-stainless-lang,x-stainless-os,x-stainless-package-version,x-stainless-retry-count,x-stainless-runtime,"
    "x-stainless-runtime-version,x-stainless-timeout"
)
"""What a browser asks for, for npm's `openai`."""


@pytest.mark.parametrize("headers", ["authorization", NPM_OPENAI])
def test_a_page_that_is_allowed_may_ask_and_others_may_not(gateway, headers):
    asking = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": headers}

    allowed = httpx.options(f"{gateway.url}{PATH}", headers={"Origin": OURS, **asking})
    refused = httpx.get(f"{gateway.url}/v1/models", headers={"Origin": OTHER})

    assert allowed.status_code == 200
    assert allowed.headers["Access-Control-Allow-Origin"] == OURS
    assert set(headers.split(",")) <= names(allowed, "Access-Control-Allow-Headers")
    assert (
        "Access-Control-Allow-Origin"
        not in httpx.options(f"{gateway.url}{PATH}", headers={"Origin": OTHER, **asking}).headers
    )
    assert refused.status_code == 403
    assert "Access-Control-Allow-Origin" not in refused.headers


def test_a_page_that_is_allowed_reads_why_it_is_refused_and_what_a_header_says(broker):
    limits = {"guard.BODY_S": 0.2}
    with (
        GatewayProcess(broker.url, limits=limits, GATEWAY_ORIGINS=OURS, GATEWAY_MAX_CONNECTIONS=2) as gateway,
        httpx.Client(base_url=gateway.url, headers={"Origin": OURS}, timeout=60) as client,
        ExitStack() as open_,
    ):
        large = client.post("/v1/tickets", content=bytes(2**20 + 1))
        head = f"POST /v1/tickets HTTP/1.1\r\nHost: localhost\r\nOrigin: {OURS}\r\nContent-Length: 9\r\n\r\n"
        slow = answer_to(gateway, head.encode() + b"{")[0].decode().lower()
        events = {"Accept": "text/event-stream"}
        streams = [open_.enter_context(client.stream("GET", "/v1/streams", headers=events)) for _ in range(3)]
        [full] = [stream for stream in streams if stream.status_code != 200]

    assert (large.status_code, full.status_code) == (413, 503)
    assert slow.startswith("http/1.1 408")
    assert f"access-control-allow-origin: {OURS}" in slow
    for answer in (large, full):
        assert answer.headers["Access-Control-Allow-Origin"] == OURS
        said = {"retry-after", "x-request-id", "x-transcriber-job", "x-transcriber-gaps", "x-transcriber-suppressed"}
        assert said <= names(answer, "Access-Control-Expose-Headers")
        assert answer.headers["X-Request-ID"]


def answer_to(gateway, request):
    """Send bytes; the head and the body of the answer."""
    with socket.create_connection(("127.0.0.1", urlsplit(gateway.url).port), timeout=60) as connection:
        connection.sendall(request)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    return head, body


def exchange(gateway, request):
    """Send bytes; the status and the error of the answer."""
    head, body = answer_to(gateway, request)
    return int(head.split()[1]), json.loads(body)["error"]["message"]


def post(body, content_type=FORM, length=None, path=PATH):
    length = len(body) if length is None else length
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nConnection: close\r\n"
    return f"{head}Content-Length: {length}\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000, 431),
        (b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 20_000, 431),
        (b"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 404),
        (b"GET /%2e%2e/%00/%c3%a9 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 404),
        (b"GET /v1/models HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", 403),
        (b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nOrigin: http://[\r\nConnection: close\r\n\r\n", 403),
        (b"GET /v1/models/ HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", 404),
        (post(b"--xyz\r\nrubbish"), 400),
        (post(b"{}", "application/json"), 415),
        (post(b"", "multipart/form-data"), 400),
        (post(b"", length=10**12), 413),
        (post(b"{" * 1000, "application/json", path="/v1/tickets"), 400),
        (post(b"", "application/json", 2**20 + 1, "/v1/tickets"), 413),
        (post(b"", length="-1"), 400),
        (post(b"", length="1\r\nTransfer-Encoding: chunked"), 400),
    ],
)
def test_hostile_requests_are_refused_and_the_next_one_is_answered(gateway, request_, status):
    found, message = exchange(gateway, request_)

    assert found == status
    assert message
    assert "\n" not in message
    assert httpx.get(f"{gateway.url}/livez").status_code == 200
    assert not [line for line in gateway.lines if "exception" in line]


async def in_pieces(body):
    for start in range(0, len(body), 2**16):
        yield body[start : start + 2**16]


async def test_a_client_that_is_still_sending_reads_why_it_is_refused(gateway):
    body = bytes(2**24)
    async with httpx.AsyncClient(base_url=gateway.url) as client:
        announced = await client.post("/v1/tickets", content=body)
        chunked = await client.post("/v1/tickets", content=in_pieces(body))
        unknown = await client.post("/v1/nowhere", content=in_pieces(body))

    assert [answer.status_code for answer in (announced, chunked, unknown)] == [413, 413, 404]


def test_a_client_that_goes_in_mid_upload_is_no_error(gateway):
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", urlsplit(gateway.url).port)) as connection:
            connection.sendall(
                post(b'--xyz\r\nContent-Disposition: form-data; name="file"\r\n\r\naudio', length=10_000)
            )

    assert httpx.get(f"{gateway.url}/readyz").status_code == 200
    assert not [line for line in gateway.lines if "exception" in line]
