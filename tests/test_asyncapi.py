import json
from collections.abc import Iterator
from typing import Any

import pytest

from transcriber.asyncapi import asyncapi_document
from transcriber.config import load_settings
from transcriber.messages import ANY_MESSAGE

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
        assert schema["required"] == list(schema["properties"]), name
        assert schema["additionalProperties"] is False, name


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

    assert {"Content-Type", "Audio-Offset", "Audio-Time", "Audio-Session", "Audio-End", "Language"} < set(headers)
    assert all(header["description"] for header in headers.values())
