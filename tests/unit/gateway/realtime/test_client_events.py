"""What clients of Realtime send, whatever it is."""

import json

import pytest
from hypothesis import given, strategies as st

from transcriber.gateway.realtime.client_events import parse_event
from transcriber.gateway.realtime.conversation import Conversation, Payload
from transcriber.gateway.realtime.session_settings import RefusedEventError, SessionSettings

ANY_TEXT = st.text(st.characters(exclude_categories=[]), max_size=10)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=6,
)
TRANSCRIPTION = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("model", "language", "languages", "prompt", "keywords"), JSON)
)
INPUT = st.fixed_dictionaries(
    {},
    optional={"transcription": TRANSCRIPTION, **dict.fromkeys(("format", "turn_detection", "noise_reduction"), JSON)},
)
EVENTS = st.fixed_dictionaries(
    {"type": st.sampled_from(["session.update", "input_audio_buffer.append", "input_audio_buffer.commit", "x"])},
    optional={
        "session": st.fixed_dictionaries({}, optional={"type": JSON, "audio": st.fixed_dictionaries({"input": INPUT})}),
        "audio": JSON,
        "event_id": JSON,
    },
)


@given(st.lists(st.binary(max_size=20) | ANY_TEXT | JSON.map(json.dumps) | EVENTS.map(json.dumps), max_size=5))
def test_whatever_is_sent_is_answered_with_what_can_be_sent(frames):
    conversation = Conversation("a", SessionSettings(), {"demo"}, lambda: "id")

    for frame in frames:
        for effect in conversation.receive(frame):
            if isinstance(effect, Payload):
                assert all(value.encode() is not None for value in effect.headers.values())
            else:
                assert json.dumps(effect, ensure_ascii=False).encode()


@pytest.mark.parametrize("text", ['{"type": "x", "y": "\\ud800"}', '{"type": "\\udc00\\ud83d"}', '{"\\ud800": 1}'])
def test_half_a_surrogate_pair_is_refused(text):
    with pytest.raises(RefusedEventError) as caught:
        parse_event(text)

    assert caught.value.code == "invalid_json"


def test_whole_pairs_are_text():
    assert parse_event('{"type": "x", "y": "\\ud83d\\ude00"}').fields["y"] == "😀"
