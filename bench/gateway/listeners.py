"""The text of one stream for many. In: how many WebSockets, for how long. Out: whether each has all of it, and when.

Messages of the size of a ``final`` come as often as a stream has partials and finals. One process listens at all sockets.
"""

import asyncio
import json
import selectors
import socket
import time
from concurrent.futures import Future
from datetime import UTC, datetime

from bench.gateway.process import MeasuredGateway
from bench.gateway.web_sockets import PING, PONG, TEXT, FrameReader, frame, open_socket
from bench.lib.memory_trend import WARM, trend
from bench.lib.paced import publisher_process
from bench.lib.report import Results, quantiles
from transcriber.bus.client_session import connected
from transcriber.config import load_settings
from transcriber.schema.messages import Silence
from transcriber.testing.broker import EmbeddedBroker

EVERY_S = 0.5
SUBJECT = "transcripts.s.silence"
PATH = "/v1/streams/s/transcript"
MESSAGE_BYTES = 1000
"""Of a ``final`` of five seconds, about."""
END_S = 30.0
READ_BYTES = 2**16

_sockets: list[socket.socket] = []


def measure(listeners: int, live_s: float) -> Results:
    messages = int(live_s / EVERY_S)
    most = {"GATEWAY_MAX_CONNECTIONS": str(listeners + 10)}
    with EmbeddedBroker() as broker, MeasuredGateway(broker.url, **most) as gateway, publisher_process() as hearer:
        if not asyncio.run(gateway.ready()):
            raise SystemExit(gateway.log())
        before = gateway.state()
        hearer.submit(connect, gateway.port, listeners).result()
        opened = gateway.state()
        hearing = hearer.submit(hear, messages)
        sent_s, cpu, rss_kb = asyncio.run(_publish(broker.url, gateway, messages, hearing))
        came = hearing.result()
        heard: list[list[tuple[int, float]]] = came["heard"]
        time.sleep(1.0)
        after, unusual = gateway.state(), gateway.unusual()
    whole = list(range(messages))
    delays_ms = [1000 * (at_s - sent_s[number]) for one in heard for number, at_s in one]
    last_ms = (
        [1000 * (max(one[number][1] for one in heard) - sent_s[number]) for number in whole]
        if all(len(one) == messages for one in heard)
        else []
    )
    return {
        "listeners": listeners,
        "messages": messages,
        "message_bytes": MESSAGE_BYTES,
        "incomplete": sum([number for number, _ in one] != whole for one in heard),
        "delay_ms": quantiles(delays_ms, p50=0.5, p99=0.99, max=1.0),
        "until_the_last_has_it_ms": quantiles(last_ms, p50=0.5, p99=0.99),
        "gateway_cpu": cpu,
        "kb_a_listener": round((opened["rss_kb"] - before["rss_kb"]) / listeners, 1),
        "state": {"before": before, "opened": opened, "after": after},
        **trend(rss_kb, WARM * live_s),
        "unusual_log_lines": unusual,
    }


async def _publish(
    url: str, gateway: MeasuredGateway, messages: int, hearing: "Future[Results]"
) -> tuple[list[float], float, dict[float, int]]:
    """When each was sent, the gateway's share of a core, and its resident kB by second."""
    sent_s: list[float] = []
    rss_kb: dict[float, int] = {}
    async with connected(load_settings(nats_url=url), "bench gateway") as connection:
        began_s, cpu_s = time.monotonic(), gateway.cpu_s
        for number in range(messages):
            await asyncio.sleep(max(0.0, began_s + number * EVERY_S - time.monotonic()))
            message = _message(number)
            sent_s.append(time.monotonic())
            await connection.publish(SUBJECT, message)
            rss_kb[round(sent_s[-1] - began_s, 1)] = gateway.rss_kb
        await asyncio.wrap_future(hearing)
        cpu = (gateway.cpu_s - cpu_s) / (time.monotonic() - began_s)
    return sent_s, round(cpu, 3), rss_kb


def _message(number: int) -> bytes:
    silence = Silence(
        stream="s", session="bench", rate=16_000, start_frame=number, frames=1, start=number / 16_000,
        duration=1 / 16_000, received_at=datetime.now(UTC), speaker=None,
    )  # fmt: skip
    return silence.model_dump_json(by_alias=True).encode().ljust(MESSAGE_BYTES)


def connect(port: int, listeners: int) -> None:
    """Open the sockets, in the hearer's process."""
    _sockets[:] = [open_socket(port, PATH) for _ in range(listeners)]


def hear(messages: int) -> Results:
    """(number, time) of each message, by listener; until all have all, or nothing comes any more."""
    heard: list[list[tuple[int, float]]] = [[] for _ in _sockets]
    selector = selectors.DefaultSelector()
    for number, one in enumerate(_sockets):
        selector.register(one, selectors.EVENT_READ, (number, FrameReader()))
    lacking, came_s = len(_sockets) * messages, time.monotonic()
    while lacking and time.monotonic() - came_s < END_S:
        for key, _ in selector.select(1.0):
            number, reader = key.data
            data = key.fileobj.recv(READ_BYTES)  # type: ignore[union-attr]
            came_s = time.monotonic()
            if not data:
                selector.unregister(key.fileobj)
            for opcode, payload in reader.add(data):
                if opcode == PING:
                    key.fileobj.sendall(frame(PONG, payload))  # type: ignore[union-attr]
                elif opcode == TEXT:
                    heard[number].append((json.loads(payload)["start_frame"], came_s))
                    lacking -= 1
    for one in _sockets:
        one.close()
    return {"heard": heard}
