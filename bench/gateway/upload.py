"""Gigabytes through the gateway. In: how many. Out: its memory while they go up as a job and down as a result, and the digests.

What goes up is no audio, so that its job fails at once. What comes down takes the place of a result in the object store.
"""

import asyncio
import hashlib
import http.client
import json
import os
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from bench.gateway.process import MeasuredGateway
from bench.lib.clips import make_clips
from bench.lib.daemon import StubbedDaemon, storing_broker
from bench.lib.report import Results, note
from transcriber.bus.client_session import connected
from transcriber.bus.jetstream.client import JetStream
from transcriber.bus.jetstream.file_streams import FILES_BUCKET, RESULTS_BUCKET
from transcriber.bus.object_store.bucket import Bucket
from transcriber.config import load_settings

MOST = {"FILE_MAX_BYTES": str(6 * 2**30), "TRANSCRIPT_MAX_BYTES": str(6 * 2**30)}
PIECE = os.urandom(2**20)
TIMEOUT_S = 3600.0
PATH = "/v1/audio/transcriptions"


def measure(gigabytes: float) -> Results:
    pieces = round(gigabytes * 10**9 / len(PIECE))
    with (
        storing_broker() as broker,
        StubbedDaemon(broker.url, None, FILES="1", PROVISION="1", **MOST) as daemon,
        MeasuredGateway(broker.url, None, **MOST) as gateway,
    ):
        return asyncio.run(_measure(broker.url, daemon, gateway, pieces))


async def _measure(url: str, daemon: StubbedDaemon, gateway: MeasuredGateway, pieces: int) -> Results:
    for process in (daemon, gateway):
        if not await process.ready():
            raise SystemExit(process.log())
    results: Results = {"bytes": pieces * len(PIECE), "idle_rss_kb": gateway.rss_kb}
    async with connected(load_settings(nats_url=url), "bench gateway") as connection:
        jetstream = JetStream(connection)
        results["up"] = await _watched(gateway, _up, pieces)
        left = await jetstream.call(f"STREAM.INFO.OBJ_{FILES_BUCKET}")
        results["up"]["bytes_left_in_the_store"] = left["state"]["bytes"]
        done = await asyncio.to_thread(_request, gateway.port, _clip_form(), len(_clip_form()))
        job = done["headers"]["X-Transcriber-Job"]
        await Bucket(jetstream, RESULTS_BUCKET).put(f"{job}.json", _as_result(pieces))
        results["down"] = await _watched(gateway, _down, job, pieces)
    results["unusual_log_lines"] = gateway.unusual()
    return results


async def _watched(gateway: MeasuredGateway, work: Any, *arguments: Any) -> Results:
    gateway.forget_peak()
    began_s, cpu_s = time.monotonic(), gateway.cpu_s
    found: Results = await asyncio.to_thread(work, gateway.port, *arguments)
    took_s = time.monotonic() - began_s
    found |= {
        "s": round(took_s, 1),
        "peak_rss_kb": gateway.peak_rss_kb,
        "gateway_cpu_s": round(gateway.cpu_s - cpu_s, 1),
    }
    note(f"gateway: {found}")
    return found


def _up(port: int, pieces: int) -> Results:
    """As one form; its job is to fail, as it is no audio."""
    head, tail = _form_around("json")
    answer = _request(port, _body(head, pieces, tail), len(head) + pieces * len(PIECE) + len(tail))
    return {"status": answer["status"], "error": json.loads(answer["body"])["error"]["message"][:200]}


def _down(port: int, job: str, pieces: int) -> Results:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    connection.request("GET", f"/v1/jobs/{job.removeprefix('job=')}/transcript.json")
    answer, digest, size = connection.getresponse(), hashlib.sha256(), 0
    while data := answer.read(2**20):
        digest.update(data)
        size += len(data)
    connection.close()
    expected = hashlib.sha256()
    for _ in range(pieces):
        expected.update(PIECE)
    return {"status": answer.status, "bytes": size, "whole": digest.digest() == expected.digest()}


def _form_around(response_format: str) -> tuple[bytes, bytes]:
    fields = "".join(
        f'--xyz\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in (("model", "whisper-1"), ("response_format", response_format))
    )
    file = '--xyz\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    return (fields + file).encode(), b"\r\n--xyz--\r\n"


def _body(head: bytes, pieces: int, tail: bytes) -> Iterator[bytes]:
    yield head
    for _ in range(pieces):
        yield PIECE
    yield tail


def _clip_form() -> bytes:
    """Larger than a message, so that it is a job."""
    clip = next(clip.data for clip in make_clips() if clip.name == "25 s wav48")
    head, tail = _form_around("json")
    return head + clip + tail


def _request(port: int, body: Any, size: int) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    headers = {"Content-Type": "multipart/form-data; boundary=xyz", "Content-Length": str(size)}
    connection.request("POST", PATH, body, headers)
    answer = connection.getresponse()
    headers = {name.title(): value for name, value in answer.getheaders()}
    found = {"status": answer.status, "headers": headers, "body": answer.read()}
    connection.close()
    return found


async def _as_result(pieces: int) -> AsyncIterator[bytes]:
    for _ in range(pieces):
        yield PIECE
