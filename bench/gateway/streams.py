"""Audio of many WebSockets through one gateway. In: how many, for how long. Out: the account of what came out on NATS.

A process plays 20 ms payloads of 48 kHz, S16LE, into each socket at their times; another one takes them from the broker and
checks each one's offset. The gateway itself says by ``position`` what the broker has of each session. No daemon is there.
"""

import asyncio
import json
import re
import selectors
import socket
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from urllib.parse import urlsplit

import numpy as np

from bench.gateway.process import MeasuredGateway
from bench.gateway.web_sockets import BINARY, CLOSE, PING, PONG, TEXT, FrameReader, frame, head, open_socket
from bench.lib.memory_trend import WARM, trend
from bench.lib.paced import PAYLOAD_BYTES, PAYLOAD_FRAMES, PAYLOAD_S, Plan, publisher_process, speech
from bench.lib.report import Results, note, quantiles
from transcriber.testing.broker import EmbeddedBroker

RAMP_S = 2.0
END_S = 30.0
"""For the last position, and the last payload, to come."""
LOOK_S = 0.005
READ_BYTES = 2**18

_MESSAGE = re.compile(rb"HMSG audio\.(\S+) \d+ (\d+) (\d+)\r\n")
_OFFSET = re.compile(rb"Audio-Offset: ?(\d+)\r\n")

_sockets: list[socket.socket] = []
"""Of this process: the WebSockets, or the subscription."""


def measure(streams: int, live_s: float) -> Results:
    names = tuple(f"s{number}" for number in range(streams))
    with (
        EmbeddedBroker() as broker,
        MeasuredGateway(broker.url, GATEWAY_MAX_CONNECTIONS=str(streams + 10)) as gateway,
        publisher_process() as sender,
        ProcessPoolExecutor(1, get_context("spawn")) as receiver,
    ):
        _await_ready(gateway)
        before = gateway.state()
        sender.submit(connect, gateway.port, names).result()
        opened = gateway.state()
        payloads = int((RAMP_S + live_s) / PAYLOAD_S)
        receiver.submit(subscribe, broker.url).result()
        plan = Plan(broker.url, names, payloads, RAMP_S, time.monotonic() + 2.0, pcm=speech())
        receiving = receiver.submit(receive, plan)
        sending = sender.submit(play, plan)
        cpu, rss_kb = _watch(gateway, plan)
        played, came = sending.result(), receiving.result()
        after = gateway.state()
        unusual = gateway.unusual()
    sent = streams * payloads
    return {
        "streams": streams,
        "seconds": live_s,
        "payloads": sent,
        "lost_on_nats": sent - came["payloads"],
        "out_of_order": came["out_of_order"],
        "not_confirmed": sent - sum(played["confirmed"]) // PAYLOAD_FRAMES,
        "closed_in_order": played["closed"],
        "gateway_cpu": cpu,
        "delay_ms": came["delay_ms"],
        "sender_late_ms": played["late_ms"],
        "kb_a_socket": round((opened["rss_kb"] - before["rss_kb"]) / streams, 1),
        "state": {"before": before, "opened": opened, "after": after},
        **trend(rss_kb, WARM * live_s),
        "unusual_log_lines": unusual,
    }


def _await_ready(gateway: MeasuredGateway) -> None:
    if not asyncio.run(gateway.ready()):
        raise SystemExit(gateway.log())


def _watch(gateway: MeasuredGateway, plan: Plan) -> tuple[float, dict[float, int]]:
    """The share of a core, and resident kB by second, while all streams are live."""
    began_s = plan.start_s + plan.ramp_s
    time.sleep(max(0.0, began_s - time.monotonic()))
    cpu_s, rss_kb = gateway.cpu_s, {}
    while (now_s := time.monotonic()) < plan.stop_s:
        rss_kb[round(now_s - began_s, 1)] = gateway.rss_kb
        time.sleep(min(1.0, max(0.0, plan.stop_s - now_s)))
    cpu = (gateway.cpu_s - cpu_s) / (time.monotonic() - began_s)
    note(f"gateway: {cpu:.2f} of a core for {len(plan.names)} streams")
    return round(cpu, 3), rss_kb


def connect(port: int, names: tuple[str, ...]) -> None:
    """Open the sockets, in the sender's process."""
    _sockets[:] = [open_socket(port, f"/v1/streams/{name}/audio") for name in names]


def play(plan: Plan) -> Results:
    """Send as planned, end each session, and read all the while."""
    payloads = [
        head(BINARY, PAYLOAD_BYTES) + plan.pcm[at : at + PAYLOAD_BYTES] for at in range(0, len(plan.pcm), PAYLOAD_BYTES)
    ]
    heard = _Heard(_sockets)
    due_s = plan.due_s
    order = np.argsort(due_s, axis=None)
    late_s, looked_s = [], 0.0
    for due, index in zip(due_s.ravel()[order].tolist(), order.tolist(), strict=True):
        stream, number = divmod(index, plan.payloads + 1)
        while (now_s := time.monotonic()) < due or now_s - looked_s > LOOK_S:
            heard.read(max(0.0, due - now_s))
            looked_s = time.monotonic()
        late_s.append(now_s - due)
        if number == plan.payloads:
            _sockets[stream].sendall(frame(TEXT, b'{"type": "end"}'))
        else:
            _sockets[stream].sendall(payloads[(stream * len(payloads) // len(_sockets) + number) % len(payloads)])
    until_s = time.monotonic() + END_S
    while heard.open and time.monotonic() < until_s:
        heard.read(0.1)
    late_ms = [1000 * late for late in late_s]
    return {
        "confirmed": heard.frames,
        "closed": heard.codes.count(1000),
        "late_ms": quantiles(late_ms, p50=0.5, p99=0.99),
    }


class _Heard:
    """What the gateway says at each socket: frames confirmed, and the code it closes with."""

    def __init__(self, sockets: list[socket.socket]) -> None:
        self.frames, self.codes = [0] * len(sockets), [0] * len(sockets)
        self.open = len(sockets)
        self._selector = selectors.DefaultSelector()
        for number, one in enumerate(sockets):
            self._selector.register(one, selectors.EVENT_READ, (number, FrameReader()))

    def read(self, wait_s: float) -> None:
        """What is there, or comes within ``wait_s``."""
        for key, _ in self._selector.select(wait_s):
            number, reader = key.data
            data = key.fileobj.recv(READ_BYTES)  # type: ignore[union-attr]
            if not data:
                self._selector.unregister(key.fileobj)
                self.open -= 1
            for opcode, payload in reader.add(data):
                if opcode == PING:
                    key.fileobj.sendall(frame(PONG, payload))  # type: ignore[union-attr]
                elif opcode == CLOSE:
                    self.codes[number] = int.from_bytes(payload[:2], "big")
                elif opcode == TEXT and (message := json.loads(payload))["type"] == "position":
                    self.frames[number] = message["frames"]


def subscribe(url: str) -> None:
    """To all audio, in the receiver's process."""
    address = urlsplit(url)
    broker = socket.create_connection((address.hostname, address.port))
    broker.sendall(b'CONNECT {"verbose":false,"headers":true}\r\nSUB audio.* 1\r\nPING\r\n')
    while b"PONG" not in broker.recv(READ_BYTES):
        pass
    _sockets.append(broker)


def receive(plan: Plan) -> Results:
    """Take everything from the broker until each stream has ended, or nothing comes any more."""
    expected = dict.fromkeys((name.encode() for name in plan.names), 0)
    due_s = dict(zip(expected, plan.due_s.tolist(), strict=True))
    payloads = out_of_order = ended = 0
    delays_ms: list[float] = []
    with _sockets.pop() as broker:
        broker.settimeout(END_S)
        data = b""
        while ended < len(expected):
            try:
                data += broker.recv(READ_BYTES)
            except TimeoutError:
                break
            now_s, at = time.monotonic(), 0
            if b"PING\r\n" in data[-32:]:
                broker.sendall(b"PONG\r\n")
            while found := _MESSAGE.search(data, at):
                name, headers, total = found[1], int(found[2]), int(found[3])
                if found.end() + total + 2 > len(data):
                    break
                block = data[found.end() : found.end() + headers]
                at = found.end() + total + 2
                if b"Audio-End" in block:
                    ended += 1
                    continue
                offset = int(_OFFSET.search(block)[1])  # type: ignore[index]
                out_of_order += offset != expected[name]
                expected[name] = offset + (total - headers) // (PAYLOAD_BYTES // PAYLOAD_FRAMES)
                payloads += (total - headers) // PAYLOAD_BYTES
                delays_ms.append(1000 * (now_s - due_s[name][offset // PAYLOAD_FRAMES]))
            data = data[at:]
    return {
        "payloads": payloads,
        "out_of_order": out_of_order,
        "ended": ended,
        "delay_ms": quantiles(delays_ms, p50=0.5, p99=0.99, max=1.0),
    }
