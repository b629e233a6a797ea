"""What HTTP adds to a request: the same clip to the same daemon, as a NATS request and through the gateway, asked in turn."""

import asyncio
import random
import time

from bench.gateway.process import MeasuredGateway
from bench.lib.clips import make_clips
from bench.lib.daemon import StubbedDaemon
from bench.lib.report import Results, quantiles
from transcriber.bus.client_session import connected
from transcriber.config import load_settings
from transcriber.schema.subjects import REQUEST_SUBJECT
from transcriber.testing.broker import EmbeddedBroker

CLIP = "5 s wav16"
PATH = "/v1/audio/transcriptions"
WARM = 20
TIMEOUT_S = 30.0


def measure(rounds: int) -> Results:
    with EmbeddedBroker() as broker, StubbedDaemon(broker.url) as daemon, MeasuredGateway(broker.url) as gateway:
        return asyncio.run(_measure(broker.url, daemon, gateway, rounds))


async def _measure(url: str, daemon: StubbedDaemon, gateway: MeasuredGateway, rounds: int) -> Results:
    for process in (daemon, gateway):
        if not await process.ready():
            raise SystemExit(process.log())
    clip = next(clip.data for clip in make_clips() if clip.name == CLIP)
    request, turns = _request(clip), random.Random(1)
    times: dict[str, list[float]] = {"nats": [], "http": []}
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    async with connected(load_settings(nats_url=url), "bench gateway") as connection:

        async def by_nats() -> None:
            await connection.client.request(REQUEST_SUBJECT, clip, timeout=TIMEOUT_S)

        async def by_http() -> None:
            writer.write(request)
            await _answer(reader)

        ways = {"nats": by_nats, "http": by_http}
        for number in range(WARM + rounds):
            order = list(ways)
            turns.shuffle(order)
            for way in order:
                began_s = time.perf_counter()
                await ways[way]()
                if number >= WARM:
                    times[way].append(1000 * (time.perf_counter() - began_s))
    writer.close()
    more_ms = [http - nats for http, nats in zip(times["http"], times["nats"], strict=True)]
    return {
        "clip": CLIP,
        "rounds": rounds,
        "nats_ms": quantiles(times["nats"], median=0.5, p95=0.95),
        "http_ms": quantiles(times["http"], median=0.5, p95=0.95),
        "overhead_ms": quantiles(more_ms, p05=0.05, median=0.5, p95=0.95),
    }


def _request(clip: bytes) -> bytes:
    """A form as SDKs send it."""
    fields = b"".join(
        b'--xyz\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % field
        for field in ((b"model", b"whisper-1"), (b"response_format", b"json"))
    )
    file = b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n'
    body = fields + file + clip + b"\r\n--xyz--\r\n"
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=xyz\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _answer(reader: asyncio.StreamReader) -> None:
    """Read one answer, which must be text."""
    head = await reader.readuntil(b"\r\n\r\n")
    size = next(int(line[15:]) for line in head.lower().splitlines() if line.startswith(b"content-length:"))
    body = await reader.readexactly(size)
    if b" 200 " not in head[:14] or b'"text":"over' not in body:
        raise SystemExit(f"the gateway answers {head!r} {body!r}")
