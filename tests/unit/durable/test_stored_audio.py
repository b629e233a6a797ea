"""Stored audio is cut again as it was, whatever the settings are by now."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.audio import level
from transcriber.audio.frame_account import FrameAccount
from transcriber.audio.session import Silence, Window
from transcriber.audio.vad.silero import Silero
from transcriber.bus.jetstream.client import Stored
from transcriber.config import load_settings
from transcriber.durable.second_pass import StoredSecondPass, _Waiting
from transcriber.durable.stored_audio import StoredAudio
from transcriber.live_settings.layers import Entry
from transcriber.live_settings.live import LiveSettings
from transcriber.pipeline.passages import Part, Passage
from transcriber.schema.checkpoint import AccountState, Checkpoint, PlaceState, SessionState
from transcriber.telemetry import Telemetry

RATE, WINDOW = 16_000, 8_000
PAYLOADS = 6
SETTINGS = load_settings(
    durable=True, second_pass=True, config_bucket="C", speech_gate=False, endpoint_silence_secs=0, left_context_secs=0,
    input_sample_rate=RATE, buffer_duration_secs=WINDOW / RATE, buffer_cut="fixed",
)  # fmt: skip


def checkpoint(**settings):
    """Where a session begins, whose first window has these live settings."""
    place = PlaceState(frame=0, lead=0, run_start=0, number=0, settings=settings)
    state = SessionState(
        id="one", format=SETTINGS.input.content_type, clock=0, heard_at=None, captured=None, skipped_at=None,
        places=(place,), account=AccountState(**FrameAccount(1).snapshot()), segments=0, ending=False, language=None,
        traceparent=None, statuses=0, unknown_gaps=0, speakers=(),
    )  # fmt: skip
    return Checkpoint(instance="i", seq=1, attempts=0, session=state)


class Kept:
    """JetStream, which still has a tone: speech to nobody, so that it is cut in one way with the gate and in another without."""

    async def messages(self, _stream, subject, seq):
        for number in range(seq, PAYLOADS + 1):
            yield Stored(number, datetime.now(UTC), {}, level(number, WINDOW), subject)


async def cut_again(then, said, wanted_with):
    """The pieces of a passage that was cut with ``wanted_with``, by a daemon whose bucket says ``said`` now."""
    live = LiveSettings(SETTINGS, "pod-1", lambda _: True)
    live.take(said)
    network = Silero()
    runtime: Any = SimpleNamespace(settings=SETTINGS, network=network, telemetry=Telemetry(SETTINGS, "i"))
    kept: Any = Kept()
    audio = StoredAudio(kept, "audio.s", runtime, live.stream("s"))
    begun = checkpoint(**then)
    events = [event async for event in audio.events(begun, PAYLOADS, wanted_with(live.stream("s"), begun))]
    parts = tuple(
        Part("m", n, one.start_frame, one.frames) for n, one in enumerate(events) if isinstance(one, Window | Silence)
    )
    assert parts
    nobody: Any = None
    second_pass = StoredSecondPass("s", nobody, audio, runtime, nobody, lambda: True)
    return await second_pass._cut_again(_Waiting("one", 0, RATE, Passage(parts)), begun, PAYLOADS), len(parts)


GATE = Entry("stream.s.speech_gate", "true", 1)


@pytest.mark.parametrize(
    ("then", "said", "wanted_with"),
    [
        ({}, [GATE], lambda stream, _: stream.policy(())),
        ({"speech_gate": True}, [], lambda stream, _: stream.policy((("speech_gate", True),))),
        ({}, [GATE], lambda stream, _: stream),
        ({}, [], lambda stream, _: stream),
    ],
    ids=["the setting is new", "the setting is gone", "it changed after the first window", "none"],
)
async def test_a_passage_is_cut_as_it_was_after_a_change_of_settings(then, said, wanted_with):
    found, parts = await cut_again(then, said, wanted_with)

    assert found is not None
    assert len(found[1]) == parts
