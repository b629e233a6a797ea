"""Daemons that say what a test has them say. In: messages and figures. Out: the same on NATS, as a daemon publishes them."""

import json
from datetime import UTC, datetime
from typing import Any

import nats

from tests.support.waiting import settled
from transcriber.schema.messages import ANY_MESSAGE, message_id
from transcriber.schema.stream_figures import StreamFigure, StreamFigures

RATE = 16_000
NOW = datetime(2026, 11, 30, tzinfo=UTC)


class ScriptedStreams:
    """Streams of one daemon, as long as the ``async with`` block; ``figures`` are what it answers if asked."""

    def __init__(self, url):
        self._url = url
        self.figures = []

    async def __aenter__(self):
        self._client = await nats.connect(self._url)
        await self._client.subscribe("transcriber.streams", cb=self._answer)
        await settled(self._client)
        return self

    async def __aexit__(self, *_):
        await self._client.close()

    async def say(self, kind, second, stream="radio-1", speaker=None, **fields):
        """A message about one second of a stream; returns its ``Nats-Msg-Id``."""
        about = {"stream": stream, "session": "s", "rate": RATE, "start_frame": second * RATE, "frames": RATE}
        times = {"start": float(second), "duration": 1.0, "received_at": NOW, "speaker": speaker}
        parsed = ANY_MESSAGE.validate_python({"type": kind} | about | times | FIELDS.get(kind, {}) | fields)
        subject = f"transcripts.{stream}.{kind}"
        await self._client.publish(subject, parsed.model_dump_json(by_alias=True).encode())
        await settled(self._client)
        channel = int(speaker) if speaker in {"0", "1"} else 0
        return message_id(stream, "s", second * RATE, kind, fields.get("rev", 0), channel)

    async def measure(self, instance="harbour", **metrics):
        """Metrics of a daemon; ``queue_depth=2`` becomes ``transcriber.queue.depth``."""
        named = {f"transcriber.{name.replace('_', '.')}": value for name, value in metrics.items()}
        body = {"schema": 1, "type": "metrics", "instance": instance, "at": NOW.isoformat(), "metrics": named}
        await self._client.publish(f"transcriber.metrics.{instance}", json.dumps(body).encode())
        await settled(self._client)

    async def _answer(self, request):
        page = StreamFigures(instance="harbour", at=datetime.now(UTC), page=0, pages=1, streams=tuple(self.figures))
        await self._client.publish(request.reply, page.model_dump_json(by_alias=True).encode())


_TEXT: dict[str, Any] = {
    "segment": 0, "rev": 0, "suppressed": None, "words": (), "language": "en", "confidence": 0.9, "avg_logprob": -0.1,
    "no_speech_prob": None, "speech_final": True, "model": "demo", "captured_at": None,
    "timing": {"queue_ms": 0, "processing_ms": 0, "handover_ms": 0, "end_to_end_ms": 0, "rtf": 0},
}  # fmt: skip
FIELDS: dict[str, dict[str, Any]] = {
    "final": _TEXT | {"flushed": False},
    "partial": _TEXT | {"rev": 1},
    "revision": _TEXT | {"rev": 1, "last_segment": 0},
    "gap": {"flushed": False},
    "silence": {"flushed": False},
}


def figure(stream, **fields):
    """What a daemon reports of a stream."""
    base = {"stream": stream, "session": "s", "state": "started", "rate": RATE, "received_frames": 1}
    level = {"level_dbfs": -20.0, "speaking": False, "last_text_at": None, "lag_s": 0.4, "lost_s": 0.0}
    return StreamFigure(**base | level | fields)
