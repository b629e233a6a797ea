"""Many live streams from one process, without a NATS client in the way.

In: how many streams, for how long, and what they play. Out: 20 ms payloads on the broker's socket, each at its time of
one absolute schedule; and how late they were, since a publisher that falls behind measures itself.
"""

import socket
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from urllib.parse import urlsplit

import numpy as np
import soxr
from numpy.typing import NDArray

from bench.recordings import Recording
from transcriber.audio.format import AudioFormat
from transcriber.engine.job import WHISPER_SAMPLE_RATE
from transcriber.testing.speech import load_speech

FORMAT = AudioFormat()
PAYLOAD_S = 0.02
PAYLOAD_FRAMES = int(PAYLOAD_S * FORMAT.rate)
PAYLOAD_BYTES = PAYLOAD_FRAMES * FORMAT.frame_bytes
MAX_BATCH = 64
NOISE = np.random.default_rng(1).integers(-3000, 3000, PAYLOAD_FRAMES, np.int16).tobytes()

HEADERS = {
    "none": b"",
    "offset": b"Audio-Offset: %d\r\n",
    "publish": b"Content-Type: " + FORMAT.content_type.encode() + b"\r\nAudio-Session: bench\r\nAudio-Offset: %d\r\n",
}
"""What a payload says beside its samples; ``publish`` is what the command ``publish`` sends."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Streams that start one after the other, and stop likewise.

    Attributes:
        url: the broker.
        names: of the streams.
        payloads: of each stream.
        ramp_s: the starts are spread over it, at random: streams of strangers are not in step.
        start_s: monotonic time of the first start.
        headers: a key of ``HEADERS``.
        end: whether the streams say that they end.
        pcm: whole payloads that all streams play over and over, each from a place of its own.
        speed: times real time.
        in_step: so many streams start at once, and the next ones at even distances; their number is a multiple. 0: none do.
    """

    url: str
    names: tuple[str, ...]
    payloads: int
    ramp_s: float
    start_s: float
    headers: str = "none"
    end: bool = True
    pcm: bytes = field(default=NOISE, repr=False)
    speed: float = 1.0
    in_step: int = 0

    @property
    def due_s(self) -> NDArray[np.float64]:
        """(streams, payloads + 1) monotonic times; the last one of each row is its end."""
        streams = len(self.names)
        # More streams are the fewer ones and some: their latencies can be compared.
        starts_s = np.random.default_rng(1).uniform(0, self.ramp_s, streams)
        if self.in_step:
            starts_s = np.linspace(0, self.ramp_s, streams // self.in_step, endpoint=False).repeat(self.in_step)
        return self.start_s + starts_s[:, np.newaxis] + PAYLOAD_S / self.speed * np.arange(self.payloads + 1)

    @property
    def stop_s(self) -> float:
        """Monotonic time from which on streams end."""
        return self.start_s + self.payloads * PAYLOAD_S / self.speed


def speech() -> bytes:
    """The bundled recordings, one after the other, as whole payloads."""
    pcm = b"".join(recording.pcm for recording in load_speech())
    return pcm[: len(pcm) // PAYLOAD_BYTES * PAYLOAD_BYTES]


def pcm_of(recordings: Iterable[Recording]) -> bytes:
    """Other recordings as ``speech`` has the bundled ones, each as loud as it is."""
    samples = np.concatenate([soxr.resample(one.samples, WHISPER_SAMPLE_RATE, FORMAT.rate) for one in recordings])
    pcm: bytes = np.round(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()
    return pcm[: len(pcm) // PAYLOAD_BYTES * PAYLOAD_BYTES]


def publisher_process() -> ProcessPoolExecutor:
    """A process to call ``publish`` in, as long as the ``with`` block lasts; already started."""
    process = ProcessPoolExecutor(1, get_context("spawn"))
    process.submit(time.monotonic).result()
    return process


def publish(plan: Plan) -> NDArray[np.float64]:
    """Follow the plan; returns by how many seconds each message was late, in order."""
    address = urlsplit(plan.url)
    with socket.create_connection((address.hostname, address.port)) as broker:
        broker.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        broker.sendall(b'CONNECT {"verbose":false,"headers":true}\r\n')
        late_s: list[float] = []
        batch: list[bytes] = []
        batch_due_s: list[float] = []
        for due_s, message in _messages(plan):
            now_s = time.monotonic()
            if batch and (due_s > now_s or len(batch) == MAX_BATCH):
                broker.sendall(b"".join(batch))
                now_s = time.monotonic()
                late_s += [now_s - then_s for then_s in batch_due_s]
                batch, batch_due_s = [], []
            if due_s > now_s:
                time.sleep(due_s - now_s)
            batch.append(message)
            batch_due_s.append(due_s)
        broker.sendall(b"".join(batch))
        _finish(broker)
    return np.array(late_s)


def _messages(plan: Plan) -> Iterator[tuple[float, bytes]]:
    """Every message with its time, in order of time; each is made when it is asked for."""
    payloads = [plan.pcm[at : at + PAYLOAD_BYTES] for at in range(0, len(plan.pcm), PAYLOAD_BYTES)]
    headers = HEADERS[plan.headers]
    names = [name.encode() for name in plan.names]
    due_s = plan.due_s
    order = np.argsort(due_s, axis=None)
    for due, index in zip(due_s.ravel()[order].tolist(), order.tolist(), strict=True):
        stream, number = divmod(index, plan.payloads + 1)
        if number == plan.payloads:
            if plan.end:
                yield due, _with_headers(names[stream], b"Audio-End: 1\r\n", b"")
            continue
        payload = payloads[(stream * len(payloads) // len(names) + number) % len(payloads)]
        if headers:
            yield due, _with_headers(names[stream], headers % (number * PAYLOAD_FRAMES), payload)
        else:
            yield due, b"PUB audio.%b %d\r\n%b\r\n" % (names[stream], PAYLOAD_BYTES, payload)


def _with_headers(name: bytes, headers: bytes, payload: bytes) -> bytes:
    block = b"NATS/1.0\r\n%b\r\n" % headers
    return b"HPUB audio.%b %d %d\r\n%b%b\r\n" % (name, len(block), len(block) + len(payload), block, payload)


def _finish(broker: socket.socket) -> None:
    """Wait until the broker has everything.

    Raises:
        ConnectionError: it did not take it.
    """
    broker.sendall(b"PING\r\n")
    answer = b""
    while b"PONG\r\n" not in answer:
        received = broker.recv(4096)
        if not received or b"-ERR" in received:
            raise ConnectionError(f"the broker closed the connection: {received!r}")
        answer += received
