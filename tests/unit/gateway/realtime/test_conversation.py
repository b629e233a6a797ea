"""Realtime sessions: events in, events out."""

import base64
import itertools
import json

import pytest
from hypothesis import given, settings, strategies as st

from tests.support.messages import end, final, gap, said, silence, started
from transcriber.gateway.realtime import conversation
from transcriber.gateway.realtime.conversation import MAX_MARKS, Conversation, Payload
from transcriber.gateway.realtime.session_settings import RefusedEventError, SessionSettings
from transcriber.schema.messages import Partial

RATE = 24_000
PREFIX = "conversation.item.input_audio_transcription."


class Session:
    """A conversation, with what it has sent and published."""

    def __init__(self, *, vad=True, audio_s=0.0):
        numbers = itertools.count()
        settings = SessionSettings(vad=vad)
        self.conversation = Conversation("a", settings, {"demo"}, lambda: f"id-{next(numbers)}")
        self.events, self.payloads = [], []
        if audio_s:
            self.append(audio_s)

    def send(self, kind, **fields):
        return self.take(self.conversation.receive(json.dumps({"type": kind, **fields})))

    def append(self, audio_s):
        return self.send("input_audio_buffer.append", audio=base64.b64encode(bytes(2 * round(audio_s * RATE))).decode())

    def update(self, **audio_input):
        return self.send("session.update", session={"type": "transcription", "audio": {"input": audio_input}})

    def hear(self, *messages):
        """Messages of the tests' rate, at ours."""
        found = []
        for message in messages:
            at, frames = round(message.start * RATE), round(message.duration * RATE)
            ours = {"rate": RATE, "start_frame": at, "frames": frames, "session": self.conversation._daemon_session}
            found += self.take(self.conversation.receive_message(message.model_copy(update=ours)))
        return found

    def take(self, effects):
        self.payloads += [effect for effect in effects if isinstance(effect, Payload)]
        events = [effect for effect in effects if not isinstance(effect, Payload)]
        self.events += events
        return events


def partial(text, start_s, segment=0):
    return said(Partial, text, start_s, 1.0).model_copy(update={"segment": segment})


def last(text, start_s, duration_s=5.0):
    return final(text, start_s, duration_s).model_copy(update={"speech_final": True})


def window(kind, text, start_s, duration_s):
    if kind == "gap":
        return gap(start_s, duration_s)
    if kind == "silence":
        return silence(start_s, duration_s)
    return (last if kind == "last" else final)(text, start_s, duration_s)


def kinds(events):
    return [event["type"].rpartition(".")[2] for event in events]


def test_the_server_speaks_first():
    session = Session()
    (event,) = session.take(session.conversation.greeting())

    assert event["type"] == "session.created"
    assert event["session"]["type"] == "transcription"
    assert event["session"]["audio"]["input"]["turn_detection"]["silence_duration_ms"] == 500


def test_an_utterance_of_two_windows_is_one_item():
    session = Session(audio_s=10)
    session.hear(started(), partial("all ships", 0), partial("all ships in", 0), final("all ships in", 0))
    session.hear(last("stations.", 5, 2))

    assert kinds(session.events) == [
        "speech_started", "delta", "delta", "delta", "speech_stopped", "committed", "completed",
    ]  # fmt: skip


def test_deltas_are_agreed_words_and_together_the_transcript():
    session = Session(audio_s=10)
    session.hear(
        partial("all ships", 0), partial("all ships in", 0), final("all ships in harbour", 0), last("wait", 5, 2)
    )

    deltas = [event["delta"] for event in session.events if event["type"] == PREFIX + "delta"]
    assert deltas == ["all ships", " in harbour", " wait"]
    completed = session.events[-1]
    assert completed["transcript"] == "all ships in harbour wait"
    assert completed["usage"] == {"type": "duration", "seconds": 7.0}


def test_no_delta_contradicts_a_transcript_that_corrects_an_agreed_word():
    session = Session(audio_s=5)
    session.hear(partial("gale", 0), partial("gale", 0), last("whale", 0))

    assert [event["delta"] for event in session.events if "delta" in event] == ["gale"]
    assert session.events[-1]["transcript"] == "whale"


def test_a_silence_that_comes_early_waits_for_the_final_before_it():
    session = Session(audio_s=10)

    assert session.hear(silence(5)) == []
    assert kinds(session.hear(final("over", 0)))[-3:] == ["speech_stopped", "committed", "completed"]


def test_a_gap_fails_and_the_words_before_it_stand():
    session = Session(audio_s=10)
    session.hear(final("before", 0), gap(5))

    assert [event["transcript"] for event in session.events if "transcript" in event] == ["before"]
    failed = session.events[-1]
    assert failed["type"] == PREFIX + "failed"
    assert failed["error"]["message"] == "5.0 s were not transcribed: queue_full"


def test_what_nobody_commits_ends_by_itself(monkeypatch):
    """As a microphone in a quiet room goes on, whose client has heard nobody for a quarter of an hour."""
    monkeypatch.setattr(conversation, "FULL_S", 3.0)
    session = Session(vad=False)
    for _ in range(5):
        session.append(1)
    assert kinds(session.events) == ["committed"]

    session.hear(silence(0, 4))
    assert [event["transcript"] for event in session.events if "transcript" in event] == [""]
    session.send("input_audio_buffer.commit")
    assert kinds(session.hear(last("over", 4, 1)))[-1] == "completed"
    assert session.events[-1]["transcript"] == "over"


def test_a_commit_ends_the_utterance_now_and_its_item_is_announced_at_once():
    session = Session(vad=False, audio_s=3)
    (committed,) = session.send("input_audio_buffer.commit")

    assert committed["type"] == "input_audio_buffer.committed"
    assert session.payloads[-1].data == b""
    assert session.payloads[-1].headers["Audio-Flush"] == "1"
    assert session.payloads[-1].headers["Audio-Offset"] == str(3 * RATE)
    events = session.hear(last("done", 0, 3))
    assert kinds(events) == ["delta", "completed"]
    assert {event["item_id"] for event in events} == {committed["item_id"]}


def test_items_name_the_one_before():
    session = Session(vad=False, audio_s=1)
    (first,) = session.send("input_audio_buffer.commit")
    session.append(1)
    (second,) = session.send("input_audio_buffer.commit")

    assert (first["previous_item_id"], second["previous_item_id"]) == (None, first["item_id"])


def test_what_is_cleared_has_no_text():
    session = Session(vad=False, audio_s=1)
    assert kinds(session.send("input_audio_buffer.clear")) == ["cleared"]
    session.append(1)
    session.send("input_audio_buffer.commit")

    events = session.hear(last("gone", 0, 1), last("kept", 1, 1))
    assert [event["transcript"] for event in events if "transcript" in event] == ["kept"]


def test_a_daemon_that_is_gone_fails_what_it_has_not_answered_and_the_next_counts_from_there():
    session = Session(vad=False, audio_s=2)
    session.send("input_audio_buffer.commit")
    session.hear(started())
    old = session.payloads[-1].headers["Audio-Session"]
    assert kinds(session.hear(started())) == ["failed"]

    session.append(1)
    assert session.payloads[-1].headers["Audio-Offset"] == "0"
    assert session.payloads[-1].headers["Audio-Session"] != old
    session.send("input_audio_buffer.commit")
    assert session.hear(last("again", 0, 1))[-1]["transcript"] == "again"


def test_the_end_of_an_idle_session_is_none_of_the_connection():
    session = Session(audio_s=2)
    session.hear(started(), last("one", 0, 2), end(2))
    session.append(1)

    assert session.hear(started(), last("two", 0, 1))[-1]["transcript"] == "two"


@pytest.mark.parametrize(
    ("audio_input", "param"),
    [
        ({"turn_detection": {"type": "semantic_vad"}}, "turn_detection.type"),
        ({"turn_detection": {"type": "server_vad", "threshold": 0.9}}, "turn_detection.threshold"),
        ({"turn_detection": {"type": "server_vad", "silence_duration_ms": 200}}, "turn_detection.silence_duration_ms"),
        ({"noise_reduction": {"type": "near_field"}}, "noise_reduction"),
        ({"format": {"type": "audio/pcm", "rate": 16_000}}, "format.rate"),
        ({"format": {"type": "audio/opus"}}, "format.type"),
        ({"transcription": None}, "transcription"),
        ({"transcription": {"model": "large-v9"}}, "transcription.model"),
        ({"transcription": {"languages": ["en", "de"]}}, "transcription.languages"),
        ({"transcription": {"language": "what you hear"}}, "transcription.language"),
        ({"transcription": {"delay": "low"}}, "transcription.delay"),
        ({"transcription": {"prompt": "a" * 1001}}, "transcription.prompt"),
        ({"colour": 1}, "colour"),
    ],
)
def test_what_is_not_done_is_refused(audio_input, param):
    session = Session()
    before = session.conversation.settings
    (event,) = session.update(**audio_input)

    assert event["type"] == "error"
    assert event["error"]["param"] == f"session.audio.input.{param}"
    assert session.conversation.settings == before


@pytest.mark.parametrize(
    "turn_detection",
    [
        {"type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 600, "silence_duration_ms": 350},  # LiveKit's
        {"type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300, "silence_duration_ms": 500},  # OpenAI's
        {"type": "server_vad"},
    ],
)
def test_what_clients_send_by_default_is_taken_and_answered_with_what_applies(turn_detection):
    (event,) = Session(vad=False).update(turn_detection=turn_detection)

    assert event["type"] == "session.updated"
    assert event["session"]["audio"]["input"]["turn_detection"]["silence_duration_ms"] == 500


def test_settings_reach_the_daemon():
    session = Session()
    session.update(
        format={"type": "audio/pcmu"}, transcription={"model": "demo", "language": "en-GB", "keywords": ["Skagerrak"]}
    )
    session.send("input_audio_buffer.append", audio="////")

    headers = session.payloads[0].headers
    assert headers["Content-Type"] == "audio/x-raw;format=MULAW;rate=8000;channels=1"
    assert (headers["Language"], headers["Prompt"]) == ("en", "Skagerrak")
    assert kinds(session.update(format={"type": "audio/pcma"})) == ["error"]


def test_models_whose_clients_commit_have_no_voice_activity():
    (event,) = (session := Session(vad=None)).update(transcription={"model": "gpt-realtime-whisper"})

    assert event["session"]["audio"]["input"]["turn_detection"] is None
    assert not session.conversation.settings.detects_turns


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\0\0", "invalid_event"),
        ("{", "invalid_json"),
        ("[" * 100_000, "invalid_json"),
        ("[]", "invalid_event"),
        ('{"type": 1}', "invalid_event"),
        ('{"type": "response.create", "event_id": "mine"}', "unknown_event"),
        ('{"type": "input_audio_buffer.append"}', "invalid_value"),
        ('{"type": "input_audio_buffer.append", "audio": "é"}', "invalid_value"),
        ('{"type": "input_audio_buffer.append", "audio": "AAA"}', "invalid_value"),
        ('{"type": "input_audio_buffer.append", "audio": "AAAA"}', "invalid_value"),  # three bytes
        ('{"type": "input_audio_buffer.commit"}', "input_audio_buffer_commit_empty"),
        ('{"type": "session.update", "session": 7}', "invalid_value"),
        ('{"type": "session.update", "session": {"type": "realtime"}}', "invalid_value"),
    ],
)
def test_a_bad_event_is_one_error(frame, code):
    session = Session()
    (event,) = session.take(session.conversation.receive(frame))

    assert event["error"]["code"] == code
    assert event["error"]["event_id"] == ("mine" if "mine" in str(frame) else None)
    assert session.payloads == []


def test_commits_without_an_answer_are_limited():
    session = Session(vad=False)
    for _ in range(MAX_MARKS):
        session.append(0.1)
        session.send("input_audio_buffer.commit")
    session.append(0.1)

    assert session.send("input_audio_buffer.commit")[0]["error"]["code"] == "too_many_commits"


def test_settings_raise_what_is_refused():
    with pytest.raises(RefusedEventError):
        SessionSettings().updated({"type": "transcription", "include": ["x"]}, (), fixed_format=False)


WINDOWS = st.lists(
    st.tuples(st.sampled_from(["final", "last", "silence", "gap"]), st.sampled_from([0.25, 0.5])),
    min_size=1, max_size=8,
)  # fmt: skip


@settings(max_examples=40)
@given(WINDOWS, st.booleans(), st.sets(st.integers(0, 7)), st.randoms(use_true_random=False))
def test_whatever_the_order_each_window_is_in_one_item_and_each_item_ends_once(windows, vad, commits, order):
    session = Session(vad=vad)
    messages, at_s = [], 0.0
    for number, (kind, duration_s) in enumerate(windows):
        session.append(duration_s)
        if number in commits:
            session.send("input_audio_buffer.commit")
        messages.append(window(kind, f"w{number}", at_s, duration_s))
        at_s += duration_s
    session.send("input_audio_buffer.commit")
    order.shuffle(messages)
    session.hear(*messages)

    committed = [event["item_id"] for event in session.events if event["type"].endswith(".committed")]
    ended = [event["item_id"] for event in session.events if event["type"] in {PREFIX + "completed", PREFIX + "failed"}]
    assert sorted(committed) == sorted(ended)
    assert len(set(ended)) == len(ended)
    words = " ".join(event["delta"] for event in session.events if "delta" in event).split()
    assert words == [f"w{number}" for number, (kind, _) in enumerate(windows) if kind in {"final", "last"}]
    assert any(kind == "gap" for kind, _ in windows) == any(
        event["type"] == PREFIX + "failed" for event in session.events
    )
    started_items = [event["item_id"] for event in session.events if event["type"].endswith("speech_started")]
    assert started_items == [event["item_id"] for event in session.events if event["type"].endswith("speech_stopped")]


@settings(max_examples=40)
@given(st.one_of(st.text(), st.binary(), st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: (
    st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["session", "type", "audio", "input"]), inner)
)).map(lambda value: json.dumps({"type": "session.update", "session": value}))))  # fmt: skip
def test_no_frame_raises(frame):
    session = Session()

    assert kinds(session.take(session.conversation.receive(frame))) in (["error"], ["updated"])
