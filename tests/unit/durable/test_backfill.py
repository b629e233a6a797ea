"""Freshness now, completeness later: what was dropped under load is transcribed when the worker idles."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from transcriber.audio.format import AudioFormat
from transcriber.audio.session import Session, Window
from transcriber.audio.window_policy import WindowPolicy
from transcriber.config import load_settings
from transcriber.durable.backfill import Backfill, _OwedGap, _union
from transcriber.durable.checkpoint import StreamResumePoint, make_checkpoint
from transcriber.engine.transcript import Transcript
from transcriber.live_settings.live import StreamSettings
from transcriber.pipeline.session_output import SessionOutput
from transcriber.pipeline.stream_output import StreamOutput
from transcriber.schema.messages import Gap
from transcriber.telemetry import Telemetry

RATE = 16_000


def test_union_counts_each_frame_once():
    assert _union([(5, 9), (0, 3), (2, 4), (6, 7)]) == 8


class Audio:
    """One window, before which a message of its session was stored."""

    def __init__(self, settings):
        self.session = Session("one", AudioFormat(rate=RATE), WindowPolicy(5.0), None, max_hole_s=1.0)
        start, nobody = self.session.places, Nobody()
        events = [*self.session.feed(bytes(2 * RATE)), *self.session.close()]
        (self.window,) = [event for event in events if isinstance(event, Window)]
        output = SessionOutput("s", self.session, settings, nobody, nobody)
        resume_point = StreamResumePoint(1, self.session, channels=start)
        self.before = make_checkpoint(resume_point, output, instance="i", attempts=0, owed_from=None)

    async def checkpoint(self, *_):
        return self.before

    async def is_text_kept(self, _):
        return True

    async def events(self, *_):
        yield self.window


class Nobody:
    def put(self, *_):
        pass


class Worker:
    async def transcribe(self, make):
        return make(lambda *_: None), Transcript("gale", (), "en", -0.1, None, 0.5)


async def test_that_the_voices_of_a_gap_are_not_found_is_counted(monkeypatch):
    noted: list[Any] = []
    monkeypatch.setattr(StreamOutput, "note_speakers", lambda _, job: noted.append(job))
    settings = load_settings(durable=True)
    shared: Any = SimpleNamespace(
        settings=settings, telemetry=Telemetry(settings, "i"), publisher=Nobody(), labeller=None,
        model=SimpleNamespace(name="model"), stream=lambda _: StreamSettings(settings),
    )  # fmt: skip
    worker: Any = Worker()
    audio: Any = Audio(settings)
    backfill = Backfill("s", worker, audio, shared, Nobody(), lambda: True)
    gap = Gap(
        stream="s", session="one", rate=RATE, start_frame=0, frames=RATE, start=0.0, duration=1.0,
        received_at=datetime.now(UTC), reason="queue_full", speaker=None,
    )  # fmt: skip
    backfill.stored(gap, 1)

    await backfill._fill(_OwedGap(gap, 1))

    assert len(noted) == 1
