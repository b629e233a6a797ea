"""The gateway as a process: its start, its end, and clients that mean no good."""

import json
import socket
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support.daemon import run
from tests.support.gateway import GatewayProcess
from tests.support.ports import free_port
from transcriber.testing.broker import EmbeddedBroker

PATH = "/v1/audio/transcriptions"
FORM = "multipart/form-data; boundary=xyz"


@pytest.fixture(scope="module")
def broker():
    with EmbeddedBroker() as broker:
        yield broker


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
        assert gateway.stop() == 0

    assert gateway.lines[-1]["msg"] == "stopped"
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


def test_a_page_that_is_allowed_may_ask_and_others_may_not(gateway):
    asking = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    ours, other = "https://captions.example", "https://evil.example"

    allowed = httpx.options(f"{gateway.url}{PATH}", headers={"Origin": ours, **asking})
    refused = httpx.get(f"{gateway.url}/v1/models", headers={"Origin": other})

    assert allowed.headers["Access-Control-Allow-Origin"] == ours
    assert refused.status_code == 403
    assert "Access-Control-Allow-Origin" not in refused.headers


def exchange(gateway, request):
    """Send bytes; the status and the error of the answer."""
    with socket.create_connection(("127.0.0.1", urlsplit(gateway.url).port), timeout=60) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
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


def test_a_client_that_goes_in_mid_upload_is_no_error(gateway):
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", urlsplit(gateway.url).port)) as connection:
            connection.sendall(
                post(b'--xyz\r\nContent-Disposition: form-data; name="file"\r\n\r\naudio', length=10_000)
            )

    assert httpx.get(f"{gateway.url}/readyz").status_code == 200
    assert not [line for line in gateway.lines if "exception" in line]
