"""What is asked of the worker for a stream, and what of its answers is counted."""

import logging
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from transcriber.audio.format import AudioFormat
from transcriber.audio.session import Session, Window
from transcriber.audio.window_policy import WindowPolicy
from transcriber.config import load_settings
from transcriber.diarization.live_labeller import LiveLabeller
from transcriber.diarization.voices import KnownVoice
from transcriber.engine.job import Lane
from transcriber.engine.transcript import Transcript
from transcriber.logs import RateLimited
from transcriber.pipeline.passages import Part, PartAudio, Passage, audio_of
from transcriber.pipeline.runtime import Runtime
from transcriber.pipeline.second_pass import SecondPass
from transcriber.pipeline.stream_output import StreamOutput
from transcriber.schema.arrival import Arrival
from transcriber.telemetry import Telemetry
from transcriber.testing.fake_daemon import LevelNetworks

RATE = 16_000
VOICE = KnownVoice(bytes(384), 2.0)


class Sink:
    def put(self, build, traceparent, rev=0, channel=0):
        build()


class Deaf(LevelNetworks):
    """Hears nobody's voice."""

    def voice(self, samples):
        raise RuntimeError("no voice today")


def output_by_voice(networks=None):
    """Of a daemon that tells speakers by their voices."""
    settings = load_settings(speakers="voices", durable=True)
    model: Any = SimpleNamespace(name="model")
    labeller, warnings = LiveLabeller(networks or LevelNetworks()), RateLimited(logging.getLogger())
    return StreamOutput(
        "s", Runtime(settings, model, None, Sink(), Telemetry(settings, "i"), warnings, labeller), Sink()
    )


def heard(*, split):
    """The windows of a second of stereo."""
    session = Session(
        "one", AudioFormat(rate=RATE, channels=2), WindowPolicy(5.0, split_channels=split), None, max_hole_s=1.0
    )
    events = [*session.feed(np.full(2 * RATE, 3_309, "<i2").tobytes()), *session.close()]
    return session, [event for event in events if isinstance(event, Window)]


def passage_of(window):
    part = Part("m", 0, window.start_frame, window.frames)
    audio = PartAudio(window.cut.samples, np.zeros(0, np.float32), np.zeros(0, np.float32))
    passage = Passage((part,), known=(VOICE,))
    return passage, audio_of(passage, [audio])


@pytest.mark.parametrize("split", [True, False], ids=["separate", "mixed"])
def test_who_speaks_is_found_by_voice_where_a_session_has_one_channel(split):
    """One that began with SPEAKERS=channels goes on so after a restart with voices: 0 and 1 say who speaks, and not two times A."""
    output = output_by_voice()
    session, windows = heard(split=split)
    output.add(session)

    jobs = [output.job(window, lambda *_: None, Lane.FINAL, Arrival.now()) for window in windows]
    jobs += [output.passage_job(session, *passage_of(window), lambda *_: None) for window in windows]

    assert [job.speakers is None for job in jobs] == [split] * (4 if split else 2)


def test_that_the_voices_of_a_passage_are_not_found_is_counted_though_its_text_stays(caplog):
    jobs: list[Any] = []
    output = output_by_voice(Deaf())
    queue = SimpleNamespace(idle=True, has_room=lambda _: True, try_put=jobs.append)
    worker: Any = SimpleNamespace(queue=queue)
    output.second_pass = SecondPass(worker, output, voices=True)
    session, (window,) = heard(split=False)
    output.add(session).speakers[0].known = (VOICE,)
    text = Transcript("gale", None, "en", -0.1, None, 0.5)
    first = output.job(window, lambda *_: None, Lane.FINAL, Arrival.now())  # nobody asks its networks

    output.second_pass.final(window, text, first, "m", Arrival.now().wall)
    assert output.second_pass.holds(session)
    (job,) = jobs
    assert job.speakers
    job.speakers.find(busy=False)
    job.settle(job, text)

    assert output.counters.revisions_left_out["same"] == 1
    assert output.counters.speakers_left_out == {"busy": 0, "failed": 1}
    assert "who speaks was not found: RuntimeError: no voice today" in caplog.text
