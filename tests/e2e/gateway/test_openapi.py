"""What a real gateway answers, beside what its OpenAPI document says."""

import asyncio
import hashlib

import httpx
import pytest
import websockets
from websockets.asyncio.client import connect

from tests.support.gateway import GatewayProcess
from tests.support.openapi import Document
from transcriber.gateway.keys import SCOPES
from transcriber.testing.broker import EmbeddedBroker

IN_PATHS = {"stream": "radio-7", "job": "1", "form": "txt", "model": "whisper-1", "name": "style.css"}


def key_of(scopes):
    return "+".join(scopes) or "none"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """Without a daemon, and with a key for each scope, and one for all but each."""
    path = tmp_path_factory.mktemp("gateway") / "keys.toml"
    given = [[scope] for scope in SCOPES] + [[one for one in SCOPES if one != scope] for scope in SCOPES]
    path.write_text(
        "\n".join(
            f'[keys.k{number}]\nsha256 = "{hashlib.sha256(key_of(scopes).encode()).hexdigest()}"\nscopes = {scopes}\n'
            for number, scopes in enumerate(given)
        ).replace("'", '"')
    )
    with EmbeddedBroker() as broker, GatewayProcess(broker.url, GATEWAY_KEYS_FILE=path) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def document(gateway):
    return Document(httpx.get(f"{gateway.url}/openapi.json").raise_for_status().json())


@pytest.fixture
def client(gateway):
    with httpx.Client(base_url=gateway.url) as client:
        yield client


def bearer(scopes):
    return {"Authorization": f"Bearer {key_of(scopes)}"}


def requests(document):
    """Method, path and scope of each operation that needs one and has no WebSocket alone."""
    for method, template, operation in document.operations():
        path = template
        for name, value in IN_PATHS.items():
            path = path.replace(f"{{{name}}}", value)
        scopes = next(iter(operation["security"][0].values())) if operation["security"] else None
        yield method, path, scopes, operation


def test_each_operation_needs_the_scope_that_is_documented(client, document):
    def status(method, path, scopes):
        with client.stream(method, path, headers=bearer(scopes)) as answer:  # some have no end
            return answer.status_code

    asked = 0
    for method, path, scopes, operation in requests(document):
        if "200" in operation["responses"] and scopes:
            asked += 1
            lacking = client.request(method, path, headers=bearer([one for one in SCOPES if one not in scopes]))

            assert (lacking.status_code, lacking.json()["error"]["code"]) == (403, "missing_scope"), path
            assert status(method, path, scopes) not in {401, 403}, path
            assert client.request(method, path).status_code == 401
            document.check(lacking)

    assert asked > 10


async def test_each_websocket_needs_the_scope_that_is_documented(gateway, document):
    asked = 0
    for _, path, scopes, operation in requests(document):
        if "101" not in operation["responses"]:
            continue
        asked += 1
        url = f"{gateway.websocket_url}{path}?intent=transcription"
        lacking = bearer([one for one in SCOPES if one not in scopes])
        with pytest.raises(websockets.InvalidStatus) as refused:
            await connect(url, additional_headers=lacking)
        async with asyncio.timeout(20), connect(url, additional_headers=bearer(scopes)):
            pass
        assert refused.value.response.status_code == 403

    assert asked == 3


def test_what_needs_no_key_is_answered_without_one(client, document):
    for method, path, scopes, operation in requests(document):
        if scopes is None:
            answer = client.request(method, path)
            assert answer.status_code == 200, operation["operationId"]
            document.check(answer)


def test_refusals_are_documented(client, document):
    publish, listen, transcribe = bearer(["publish"]), bearer(["listen"]), bearer(["transcribe"])
    form = {"files": {"file": b"no audio"}, "data": {"model": "whisper-1"}}
    answers = [
        client.post("/v1/tickets", headers=publish, content=b"{"),
        client.post("/v1/tickets", headers=publish, json={"scopes": ["admin"]}),
        client.post("/v1/tickets", headers=publish, json={"scopes": ["publish"]}),
        client.get("/v1/streams", headers=listen),
        client.get("/v1/streams/a.b/transcript.vtt", headers=listen),
        client.get("/v1/streams/a/transcript.vtt", params={"session": "one"}, headers=listen),
        client.get("/v1/streams/a/transcript", params={"from": 1}, headers=listen),
        client.post("/v1/audio/transcriptions", headers=transcribe, json={}),
        client.post("/v1/audio/transcriptions", headers=transcribe, data={"model": "a"}, files={"other": b"1"}),
        client.post("/v1/audio/transcriptions", headers=transcribe, **form),
        client.post("/v1/audio/translations", headers=transcribe, **form),
        client.get("/v1/models/none", headers=transcribe),
        client.get("/v1/jobs/1", headers=transcribe),
        client.delete("/v1/jobs/1", headers=transcribe),
        client.get("/web/nothing"),
        client.get("/", headers={"If-None-Match": client.get("/").headers["ETag"]}),
    ]

    assert [one.status_code for one in answers] == [
        400, 403, 200, 200, 400, 400, 400, 415, 400, 503, 503, 503, 503, 503, 404, 304,
    ]  # fmt: skip
    for one in answers:
        document.check(one)
