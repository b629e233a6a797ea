"""What is read of a checkpoint, whoever stored it."""

import json
from base64 import b64encode
from datetime import UTC, datetime

import pytest

from transcriber.bus.jetstream.client import Stored
from transcriber.durable.transcript_log import read_checkpoint
from transcriber.schema.checkpoint import AccountState, Checkpoint, SessionState, SpeakerState, VoiceState, WrittenState

VOICE = VoiceState(vector=b64encode(bytes(384)).decode(), weight_s=2.5)


def stored(**changes):
    """A message whose session knows one voice, with changes to that."""
    written = WrittenState(until_s=-1.0, words=(), held=(), language=None)
    session = SessionState(
        id="one", format="audio/L16", clock=0, heard_at=None, captured=None, skipped_at=None, places=(),
        account=AccountState(sums={}, settled=0, open=()), segments=0, ending=False, language=None, traceparent=None,
        statuses=0, unknown_gaps=0, speakers=(SpeakerState(said="", written=written, voices=(VOICE,)),),
    )  # fmt: skip
    state = json.loads(Checkpoint(instance="i", seq=1, attempts=0, session=session).model_dump_json())
    state["session"]["speakers"][0]["voices"][0] |= changes
    return Stored(1, datetime.now(UTC), {}, json.dumps({"checkpoint": state}).encode())


def test_the_voices_of_a_session_are_as_they_were_stored():
    checkpoint = read_checkpoint(stored())

    assert checkpoint
    assert checkpoint.session
    assert checkpoint.session.speakers[0].voices == (VOICE,)


@pytest.mark.parametrize(
    "changes",
    [{"vector": "AAA"}, {"vector": "AA\nAA"}, {"vector": "ä"}, {"weight_s": float("inf")}, {"weight_s": float("nan")}],
)
def test_a_checkpoint_with_a_voice_that_is_none_is_none(changes):
    """Decoded later, it would stop its stream at each start."""
    assert read_checkpoint(stored(**changes)) is None
