import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from transcriber.asyncapi import asyncapi_document
from transcriber.clips.headers import FORMS, TASKS
from transcriber.config import load_settings
from transcriber.schema.file_jobs import Answer, Cancellation, JobRecord, Submission, new_job_id
from transcriber.schema.messages import ANY_MESSAGE

DOCUMENT = asyncapi_document(load_settings())


def references(node: Any) -> Iterator[str]:
    match node:
        case {"$ref": str(target)}:
            yield target
        case dict():
            for child in node.values():
                yield from references(child)
        case list():
            for child in node:
                yield from references(child)


def resolve(reference: str) -> Any:
    node: Any = DOCUMENT
    for part in reference.removeprefix("#/").split("/"):
        node = node[part]
    return node


def test_every_reference_leads_somewhere() -> None:
    targets = set(references(DOCUMENT))

    assert len(targets) > 15
    for target in targets:
        assert resolve(target)


def test_the_document_is_plain_json() -> None:
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT


def test_every_message_type_has_its_own_message_and_schema() -> None:
    types = set(ANY_MESSAGE.json_schema(mode="serialization")["discriminator"]["mapping"])
    channel = DOCUMENT["channels"]["transcripts"]

    assert set(channel["messages"]) == types
    assert set(channel["parameters"]["type"]["enum"]) == types
    for name, message in channel["messages"].items():
        assert resolve(resolve(message["$ref"])["payload"]["$ref"])["properties"]["type"]["const"] == name


def test_every_operation_names_a_channel_with_messages() -> None:
    for operation in DOCUMENT["operations"].values():
        assert operation["action"] in {"send", "receive"}
        assert resolve(operation["channel"]["$ref"])["messages"]


def test_every_schema_requires_all_its_fields_and_no_other() -> None:
    for name, schema in DOCUMENT["components"]["schemas"].items():
        assert schema.get("additionalProperties", True) is (name == "JobRecord"), name  # a later version may add fields
        if name not in {
            "Submission",
            "JobRecord",
            "StatusRequest",
            "SwapRequest",
        }:  # who asks, and older records, may leave some out
            assert schema["required"] == list(schema["properties"]), name


@pytest.mark.parametrize(
    ("subject", "address", "parameters"),
    [("audio.*", "audio.{stream}", {"stream"}), ("site.a.radio-7", "site.a.radio-7", set())],
)
def test_the_addresses_follow_the_settings(subject, address, parameters) -> None:
    settings = load_settings(audio_subject=subject, transcript_subject_prefix="site.text")

    channels = asyncapi_document(settings)["channels"]

    assert channels["audio"]["address"] == address
    assert set(channels["audio"].get("parameters", {})) == parameters
    assert channels["transcripts"]["address"] == "site.text.{stream}.{type}"


def test_the_audio_headers_are_described() -> None:
    headers = DOCUMENT["components"]["messages"]["audio"]["headers"]["properties"]

    assert {"Content-Type", "Audio-Offset", "Audio-Time", "Audio-Session", "Audio-End", "Language", "Prompt"} < set(
        headers
    )
    assert all(header["description"] for header in headers.values())


@pytest.mark.parametrize(
    ("operation", "subject", "question", "answer"),
    [
        ("answerRequest", "transcriber.transcribe", "request", "text"),
        ("answerSubmission", "transcriber.submit", "submission", "answer"),
        ("answerUrgentSubmission", "transcriber.submit.urgent", "submission", "answer"),
        ("answerCancellation", "transcriber.cancel", "cancellation", "answer"),
    ],
)
def test_every_question_is_answered_or_refused(operation, subject, question, answer) -> None:
    asked = DOCUMENT["operations"][operation]
    channel = resolve(asked["channel"]["$ref"])
    replies = [resolve(message["$ref"])["$ref"] for message in asked["reply"]["messages"]]

    assert channel["address"] == subject
    assert set(channel["messages"]) == {question}
    assert replies == [f"#/components/messages/{answer}", "#/components/messages/refusal"]
    assert resolve(asked["reply"]["channel"]["$ref"])["address"] is None


def test_the_headers_of_requests_and_refusals_are_described() -> None:
    messages = DOCUMENT["components"]["messages"]
    asked, good, refused = (messages[name]["headers"]["properties"] for name in ("request", "text", "refusal"))

    assert asked["Response-Format"]["enum"] == list(FORMS)
    assert asked["Task"]["enum"] == list(TASKS)
    assert set(asked) == {"Response-Format", "Language", "Task", "Prompt", "traceparent"}
    assert set(good) == {"Suppressed", "Gaps"}
    assert set(refused) == {"Nats-Service-Error", "Nats-Service-Error-Code", "Retry-After"}
    assert all(header["description"] for header in (*asked.values(), *good.values(), *refused.values()))


def test_what_is_said_of_jobs_is_as_its_schema_says() -> None:
    submission = Submission(object="a talk.mp3")
    said = {
        "submission": submission,
        "cancellation": Cancellation(job=new_job_id()),
        "answer": Answer(job=submission.job, state="queued"),
        "record": JobRecord(
            submission=submission, state="queued", size=1, digest="SHA-256=x", submitted_at="2026-01-01T00:00:00Z"
        ),
    }
    for name, model in said.items():
        payload = DOCUMENT["components"]["messages"][name]["payload"]
        validator = Draft202012Validator({**DOCUMENT, **payload})

        assert validator.is_valid(model.model_dump(mode="json")), name
        assert validator.is_valid(model.model_dump(mode="json") | {"more": 1}) is (name == "record"), name
