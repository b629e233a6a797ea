"""Jobs through a real gateway: each key's own, their progress and results."""

import json

import httpx

from tests.e2e.gateway.test_listeners import as_key, keys_file
from tests.e2e.gateway.test_streams import broker, sse
from tests.support.daemon import Daemon
from tests.support.file_jobs import ENV, file_client, stepped_levels, wav
from tests.support.gateway import GatewayProcess
from tests.support.waiting import PATIENCE_S

__all__ = ["broker", "keys_file"]


async def test_a_key_sees_its_own_jobs_their_progress_and_their_results(broker, tmp_path, keys_file):
    async with file_client(broker) as office, Daemon(broker.url, tmp_path, **ENV):
        own = await office.submit(wav(stepped_levels(6)), by="gateway:radio")
        other = await office.submit(wav(stepped_levels(2)), by="somebody")
        with GatewayProcess(broker.url, GATEWAY_KEYS_FILE=keys_file) as gateway:
            async with httpx.AsyncClient(
                base_url=f"{gateway.url}/v1/", timeout=PATIENCE_S, headers=as_key("radio")
            ) as client:
                events = await sse(client, f"jobs/{own}/events", until="job")
                mine = (await client.get("jobs")).json()["jobs"]
                everybodys = (await client.get("jobs", headers=as_key("all"))).json()["jobs"]
                hidden = [await client.get(f"jobs/{other}"), await client.delete(f"jobs/{other}")]
                unknown = await client.get("jobs/nothing")
                text = await client.get(f"jobs/{own.removeprefix('job=')}/transcript.txt")
                captions = await client.get(f"jobs/{own}/transcript.vtt")
                odd = await client.get(f"jobs/{own}/transcript.doc")
                await office.over(other)
                cancelled = await client.delete(f"jobs/{other}", headers=as_key("all"))
        expected = await office.result(own, "txt")

    record = json.loads(events[-1][2])
    assert (record["state"], record["done_s"], record["total_s"]) == ("done", 6, 6)
    assert {event for event, _, _ in events[:-1]} == {"progress"}
    assert [one["submission"]["job"] for one in mine] == [own]
    assert {one["submission"]["job"] for one in everybodys} == {own, other}
    assert [one.status_code for one in (*hidden, unknown, odd)] == [404] * 4
    assert text.text == expected
    assert captions.text.startswith("WEBVTT")
    assert cancelled.status_code in {202, 409}
