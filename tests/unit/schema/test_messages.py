import json
from datetime import UTC, datetime
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from transcriber.asyncapi import message_schema
from transcriber.schema.messages import (
    ANY_MESSAGE,
    AnyMessage,
    End,
    Final,
    Gap,
    Latency,
    Metrics,
    Partial,
    Progress,
    Revision,
    Silence,
    Status,
    Timing,
    Word,
    message_id,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
COMMON = {
    "stream": "radio-7",
    "session": "01JABCDEFGHJKMNPQRSTVWXYZ0",
    "rate": 48_000,
    "start_frame": 240_000,
    "frames": 240_000,
    "start": 5.0,
    "duration": 5.0,
    "received_at": NOW,
}
TRANSCRIBED = COMMON | {
    "segment": 1,
    "rev": 0,
    "text": "wind northwest",
    "suppressed": None,
    "words": (Word(word="wind", start=5.1, end=5.4, confidence=0.9),),
    "language": "en",
    "confidence": 0.8,
    "avg_logprob": -0.2,
    "no_speech_prob": None,
    "speech_final": False,
    "speaker": None,
    "model": "demo",
    "timing": Timing(queue_ms=1.5, processing_ms=80, handover_ms=0.2, end_to_end_ms=90.1, rtf=0.016),
    "captured_at": NOW,
}
UNKNOWN = dict.fromkeys(["words", "language", "confidence", "avg_logprob", "captured_at"])
ACCOUNT = {
    f"{part}_{unit}": value
    for part, seconds in {"received": 10, "lost": 0, "transcribed": 5, "silent": 5, "dropped": 0}.items()
    for unit, value in {"frames": seconds * 48_000, "s": float(seconds)}.items()
}
EXAMPLES: list[AnyMessage] = [
    Final(**TRANSCRIBED),
    Final(**TRANSCRIBED | UNKNOWN | {"text": "", "suppressed": "log_probability"}),
    Partial(**TRANSCRIBED | {"rev": 3}),
    Revision(**TRANSCRIBED | {"rev": 1}, replaces=("radio-7:x:0:240000:final:0",), last_segment=1),
    Silence(**COMMON, speaker=None),
    Gap(**COMMON, reason="queue_full", speaker=None),
    Gap(**COMMON, reason="bad_input", speaker=None, detail="1 byte is no whole frame"),
    Status(**COMMON | {"frames": 0, "duration": 0.0}, state="started"),
    Progress(**COMMON, state="running", total=None, eta=12.5, attempt=1, error=None),
    End(**COMMON, segments=1, **ACCOUNT),
]
SCHEMA = Draft202012Validator(message_schema())

every_example = pytest.mark.parametrize(
    "message", EXAMPLES, ids=lambda m: f"{m.type}-{getattr(m, 'text', getattr(m, 'detail', ''))}"
)


def as_json(message: AnyMessage) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(message.model_dump_json(by_alias=True))
    return data


def test_the_schema_itself_is_valid() -> None:
    Draft202012Validator.check_schema(message_schema())


def test_the_examples_cover_every_type() -> None:
    types = {message.type for message in EXAMPLES}

    assert types == set(message_schema()["discriminator"]["mapping"])


@every_example
def test_a_message_fits_the_schema(message) -> None:
    SCHEMA.validate(as_json(message))


@every_example
def test_a_message_comes_back_as_it_was(message) -> None:
    assert ANY_MESSAGE.validate_json(message.model_dump_json(by_alias=True)) == message


@every_example
def test_every_field_is_required_and_present_even_if_null(message) -> None:
    data = as_json(message)
    names = {field.alias or name for name, field in type(message).model_fields.items()}

    assert set(data) == names
    for name in names:
        assert not SCHEMA.is_valid({key: value for key, value in data.items() if key != name}), name


@every_example
def test_an_unknown_field_is_refused(message) -> None:
    data = as_json(message) | {"surprise": 1}

    assert not SCHEMA.is_valid(data)
    with pytest.raises(ValidationError):
        ANY_MESSAGE.validate_python(data)


@pytest.mark.parametrize(
    "change",
    [{"start_frame": -1}, {"rate": 0}, {"schema": 2}, {"confidence": 1.5}, {"avg_logprob": 0.5}, {"type": "other"}],
)
def test_a_value_out_of_range_is_refused(change) -> None:
    data = as_json(EXAMPLES[0]) | change

    assert not SCHEMA.is_valid(data)
    with pytest.raises(ValidationError):
        ANY_MESSAGE.validate_python(data)


def test_times_are_unrounded_and_wall_clocks_name_their_zone() -> None:
    third = COMMON | {"rate": 44_100, "start_frame": 1, "start": 1 / 44_100}

    data = as_json(Silence(**third, speaker=None))

    assert data["start"] == 1 / 44_100
    assert data["received_at"] == "2026-01-02T03:04:05.678901Z"


def test_metrics_fit_their_schema() -> None:
    metrics = Metrics(
        instance="one",
        at=NOW,
        metrics={
            "transcriber.queue.depth": 2,
            "transcriber.jobs.dropped": {"queue_full": 0},
            "transcriber.queue.latency_ms": Latency(count=2, sum_ms=3.5, p50_ms=5, p95_ms=10),
        },
    )

    schema = Draft202012Validator(Metrics.model_json_schema(mode="serialization"))

    schema.validate(json.loads(metrics.model_dump_json(by_alias=True)))
    assert Metrics.model_validate_json(metrics.model_dump_json(by_alias=True)) == metrics


def test_the_message_id_names_range_type_and_revision() -> None:
    assert message_id("radio-7", "01J", 240_000, "final", 0) == "radio-7:01J:0:240000:final:0"
