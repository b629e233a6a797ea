"""What a request asks for is checked against what the model can do."""

import pytest
from hypothesis import given, strategies as st

from transcriber.audio.headers import MAX_PROMPT
from transcriber.clips.headers import ClipOptions, read_headers
from transcriber.errors import BadInputError
from transcriber.testing.fake_model import FakeModel


class Translator(FakeModel):
    translates = True


def test_without_headers_it_is_json_in_the_language_that_is_spoken():
    assert read_headers(None, FakeModel()) == read_headers({}, FakeModel()) == ClipOptions()


def test_names_and_values_come_in_any_case():
    headers = {"RESPONSE-FORMAT": "SRT", "task": " Translate", "Language": "DE-at", "prompt": "Elbe 1"}

    asked = read_headers(headers, Translator())

    assert (asked.form, asked.task, asked.prompt, asked.audio.language) == ("srt", "translate", "Elbe 1", "de")


def test_auto_is_no_language():
    assert read_headers({"Language": "auto"}, FakeModel()).audio.language is None


def test_a_language_that_is_not_allowed_is_refused():
    assert read_headers({"Language": "de"}, FakeModel(), ["de", "fr"]).audio.language == "de"
    with pytest.raises(BadInputError, match="'en' is not in WHISPER_LANGUAGES: de, fr"):
        read_headers({"Language": "en"}, FakeModel(), ["de", "fr"])


def test_a_prompt_has_its_limit():
    assert read_headers({"Prompt": "x" * MAX_PROMPT}, FakeModel()).prompt
    with pytest.raises(BadInputError, match="1001 characters"):
        read_headers({"Prompt": "x" * (MAX_PROMPT + 1)}, FakeModel())


@given(
    headers=st.dictionaries(
        st.sampled_from(["Response-Format", "language", "Task", "Prompt", "traceparent", "X", ""]), st.text(max_size=60)
    )
)
def test_whatever_comes_is_read_or_refused_in_one_line(headers):
    try:
        said = str(read_headers(headers, FakeModel()).task)
    except BadInputError as error:
        said = str(error)

    assert said
    assert "\n" not in said
