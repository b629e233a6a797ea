"""Who read what, by the name of the key; without that on record nothing is read."""

import asyncio
import json

import httpx
import pytest
from websockets.asyncio.client import connect

from tests.e2e.gateway.test_listeners import message
from tests.support.durable_streams import provisioned
from tests.support.file_jobs import file_client, pieces
from tests.support.gateway import GatewayProcess
from tests.support.jetstream_broker import broker
from tests.support.waiting import PATIENCE_S
from transcriber.gateway.keys import new_key
from transcriber.schema.audit import AuditEntry
from transcriber.schema.file_jobs import Submission

__all__ = ["broker"]

JOB = "job=1"


@pytest.fixture
async def client(broker):
    """Of a broker that stores text of a stream, and the result of a job."""
    await provisioned(broker, "radio-7", audit=True)
    async with file_client(broker) as desk:
        await desk.inputs.put("a.wav", pieces(b"audio"))
        await desk.desk.submit(Submission(job=JOB, object="a.wav", by="gateway:news"))
        await desk.desk.update(await desk.desk.record(JOB), state="done", results=(f"{JOB}.txt",))
        await desk.results.put(f"{JOB}.txt", pieces(b"the secret\n"))
        await desk.client.jetstream().publish("transcripts.radio-7.silence", message(0, "radio-7"))
        yield desk.client


async def entries(client):
    js = client.jetstream()
    count = (await js.stream_info("AUDIT")).state.messages
    return [(await js.get_msg("AUDIT", seq + 1)).data for seq in range(count)]


async def test_what_is_read_is_in_the_audit_by_the_name_of_its_key_and_without_an_audit_it_is_not_read(
    broker, client, tmp_path
):
    key, entry = new_key("news")
    (tmp_path / "keys.toml").write_text(entry)
    with GatewayProcess(broker.url, GATEWAY_KEYS_FILE=tmp_path / "keys.toml", AUDIT=1) as gateway:
        headers = {"Authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=PATIENCE_S) as http:
            result = await http.get(f"/v1/jobs/{JOB}/transcript.txt")
            nothing = await http.get("/v1/streams/radio-7/transcript.vtt?session=none")
            socket = f"{gateway.websocket_url}/v1/streams/radio-7/transcript?from=1"
            async with connect(socket, additional_headers=headers) as listening:
                heard = json.loads(await asyncio.wait_for(listening.recv(), PATIENCE_S))
            stored = await entries(client)
            await client.jetstream().delete_stream("AUDIT")
            refused = await http.get(f"/v1/jobs/{JOB}/transcript.txt")

    assert (result.text, heard["type"], nothing.status_code) == ("the secret\n", "silence", 404)
    found = [AuditEntry.model_validate_json(one) for one in stored]
    assert [(e.event, e.by, e.known_by, e.what, e.stream, e.job) for e in found] == [
        ("read", "news", "key", "result.txt", None, JOB),
        ("read", "news", "key", "transcript", "radio-7", None),
    ]
    assert b"secret" not in b"".join(stored)
    assert refused.status_code == 503
    assert "the audit entry is not stored" in refused.json()["error"]["message"]


async def test_a_gateway_without_its_audit_stream_does_not_start(broker):
    refused = pytest.raises(AssertionError, match="there is no stream AUDIT: run `transcriber provision --audit`")
    with refused, GatewayProcess(broker.url, AUDIT=1):
        pass
