"""What the second pass over stored text keeps of sessions, and counts."""

from base64 import b64encode
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from transcriber.config import load_settings
from transcriber.diarization.voices import KnownVoice
from transcriber.durable.second_pass import StoredSecondPass, _Waiting
from transcriber.engine.job import Job
from transcriber.engine.transcript import Transcript
from transcriber.pipeline.passages import Part, PartAudio, Passage, audio_of
from transcriber.schema.checkpoint import AccountState, Checkpoint, SessionState, SpeakerState, VoiceState, WrittenState
from transcriber.schema.messages import End, Final, Status, Timing
from transcriber.telemetry import Telemetry

RATE = 16_000


@pytest.fixture
def second_pass():
    settings = load_settings(durable=True, second_pass=True, speakers="voices")
    runtime: Any = SimpleNamespace(settings=settings, telemetry=Telemetry(settings, "i"))
    nobody: Any = None
    return StoredSecondPass("s", nobody, nobody, runtime, nobody, lambda: True)


def test_that_the_voices_of_a_passage_are_not_found_is_counted_though_its_text_stays(second_pass):
    noted: list[Any] = []
    output: Any = SimpleNamespace(note_speakers=noted.append)
    passage, nothing = Passage((Part("m", 0, 0, RATE),)), np.zeros(0, np.float32)
    sound = audio_of(passage, [PartAudio(np.zeros(RATE, np.float32), nothing, nothing)])
    job = Job("s", sound.samples, None, lambda *_: None)
    nowhere: Any = None

    waiting = _Waiting("one", 0, RATE, passage)
    second_pass._revise(waiting, output, nowhere, job, Transcript("", (), "en", None, None, 0.0), sound)

    assert noted == [job]


VOICE = bytes(range(128)) * 3


def stored(kind, session="one", frame=0, **fields):
    """A message, whose checkpoint knows one voice; an ``end`` has none of its session."""
    written = WrittenState(until_s=-1.0, words=(), held=(), language=None)
    voices = (VoiceState(vector=b64encode(VOICE).decode(), weight_s=2.0),)
    state = SessionState(
        id=session, format="audio/L16", clock=0, heard_at=None, captured=None, skipped_at=None, places=(),
        account=AccountState(sums={}, settled=0, open=()), segments=0, ending=False, language=None, traceparent=None,
        statuses=0, unknown_gaps=0, speakers=(SpeakerState(said="", written=written, voices=voices),),
    )  # fmt: skip
    checkpoint = Checkpoint(instance="i", seq=1, attempts=0, session=None if kind is End else state)
    return kind(
        stream="s", session=session, rate=RATE, start_frame=frame, frames=RATE, start=frame / RATE, duration=1.0,
        received_at=datetime.now(UTC), checkpoint=checkpoint, **fields,
    )  # fmt: skip


END = dict.fromkeys(("segments", *(f"{name}_{unit}" for name in (
    "received", "lost", "transcribed", "silent", "dropped") for unit in ("frames", "s"))), 0)  # fmt: skip


def final(number):
    timing = Timing(queue_ms=0, processing_ms=0, handover_ms=0, end_to_end_ms=0, rtf=0)
    return stored(
        Final, frame=number * RATE, segment=number, rev=0, text="gale", suppressed=None, words=None, language="en",
        confidence=None, avg_logprob=None, no_speech_prob=None, speech_final=False, speaker=None, model="m", timing=timing,
        captured_at=None,
    )  # fmt: skip


def test_of_sessions_that_have_ended_no_voices_are_kept(second_pass):
    for number in range(10):
        second_pass.stored(stored(Status, f"s{number}", state="started"), number)
        second_pass.stored(stored(End, f"s{number}", **END), number)

    assert second_pass._speakers == {}


def test_a_passage_that_waits_knows_the_voices_of_its_session(second_pass):
    for number in range(2):
        second_pass.stored(final(number), number)
    second_pass.stored(stored(End, **END), 2)

    (waiting,) = second_pass._waiting
    assert waiting.passage.known == (KnownVoice(VOICE, 2.0),)
