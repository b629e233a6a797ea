"""What a live stream says of the windows that it closes because nothing arrives any more."""

import logging
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from transcriber.audio.headers import NO_HEADERS
from transcriber.audio.stream import Stream
from transcriber.config import load_settings
from transcriber.engine.job_queue import JobQueue
from transcriber.errors import EngineError
from transcriber.live.payload import LivePayload
from transcriber.live.stream import LiveStream
from transcriber.logs import RateLimited
from transcriber.pipeline.runtime import Runtime
from transcriber.schema.arrival import Arrival
from transcriber.schema.messages import Gap
from transcriber.telemetry import Telemetry

RATE = 16_000


class Sink:
    """Keeps the messages."""

    def __init__(self):
        self.messages = []

    def put(self, build, traceparent, rev=0, channel=0):
        self.messages.append(build())


@pytest.mark.parametrize("check", [LiveStream.check_speech, LiveStream.check_stalled])
def test_a_window_that_nothing_completes_arrived_with_its_last_audio(check, monkeypatch):
    """Not when it was closed, which may be seconds later; nor with a heartbeat."""
    monkeypatch.setattr(Stream, "end_speech", Stream.pause)  # as if speech had ended
    settings = load_settings(input_sample_rate=RATE, speech_gate=False)
    sink = Sink()
    worker: Any = SimpleNamespace(queue=JobQueue(4))
    model: Any = SimpleNamespace(name="model")
    runtime = Runtime(settings, model, None, sink, Telemetry(settings, "i"), RateLimited(logging.getLogger()))
    stream = LiveStream("s", worker, runtime, 0.0, lambda _: pytest.fail("nothing is encoded"))
    spoke_at = Arrival(7.0, datetime.now(UTC) - timedelta(minutes=1))
    stream.handle(LivePayload(bytes(2 * RATE), NO_HEADERS, None, spoke_at, 1.0))
    stream.handle(LivePayload(b"", NO_HEADERS, None, Arrival.now(), 2.0))

    check(stream, 100.0)

    (job,) = worker.queue.clear()
    assert job.arrived_s == spoke_at.at_s
    job.settle(job, EngineError("nothing was heard"))
    (gap,) = [message for message in sink.messages if isinstance(message, Gap)]
    assert gap.received_at == spoke_at.wall
