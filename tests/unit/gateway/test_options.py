"""Fields of a form, as options."""

import pytest

from transcriber.gateway.api_error import ApiError
from transcriber.gateway.transcriptions.options import read_options


def read(task="transcribe", **fields):
    return read_options({"model": ["demo"]} | fields, task)


def test_clients_name_the_language_in_a_list_of_one_or_by_itself():
    assert read(languages=["en"]).language == "en"
    assert read(language=["English"], languages=[]).language == "en"
    assert read(languages=[""]).language is None


def test_keywords_are_terms_of_the_prompt():
    assert (
        read(prompt=["weather at sea"], keywords=["knots", "gale\n warning"]).prompt
        == "weather at sea knots, gale warning"
    )
    assert read(keywords=["knots"]).prompt == "knots"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"languages": ["en", "de"]}, "languages"),
        ({"language": ["en"], "languages": ["de"]}, "languages"),
        ({"languages": ["what you hear"]}, "languages"),
        ({"language": ["what you hear"]}, "language"),
        ({"language": ["en", "de"]}, "language"),
        ({"keywords": ["x" * 600, "x" * 600]}, "prompt"),
    ],
)
def test_what_cannot_be_done_is_refused_by_its_name(fields, param):
    with pytest.raises(ApiError) as refused:
        read(**fields)

    assert (refused.value.status, refused.value.param) == (400, param)


@pytest.mark.parametrize("name", ["language", "languages", "keywords", "timestamp_granularities", "stream", "speakers"])
def test_a_translation_has_fewer_fields(name):
    with pytest.raises(ApiError) as refused:
        read("translate", **{name: [""]})

    assert refused.value.param == name
