"""``transcriber provision`` and what ``serve`` uses of it, on a real JetStream."""

import json

import pytest

from transcriber.bus.jetstream.provision import STORED_TYPES, audio_filter
from transcriber.config import load_settings
from transcriber.schema.messages import ANY_MESSAGE


def test_every_type_but_partial_and_progress_is_stored():
    kinds = set(json.loads(json.dumps(ANY_MESSAGE.json_schema()))["discriminator"]["mapping"])

    assert set(STORED_TYPES) == kinds - {"partial", "progress"}


@pytest.mark.parametrize(
    ("given_settings", "found"),
    [
        ({}, "audio.*"),
        ({"audio_subject": "audio.radio-7"}, "audio.radio-7"),
        ({"audio_subject": "in.hall.*"}, "in.hall.*"),
        ({"partitions": 4}, "audio.*.*"),
        ({"partitions": 4, "audio_subject": "audio.radio-7"}, "audio.*.radio-7"),
        ({"partitions": 4, "partition": 2, "durable": True}, "audio.2.*"),
    ],
)
def test_filter_of_a_daemon(given_settings, found):
    assert audio_filter(load_settings(**given_settings)) == found
