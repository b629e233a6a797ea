"""Results of daemons as answers."""

import json

import pytest

from tests.support.messages import end, final, gap
from transcriber.errors import ObjectError
from transcriber.gateway.transcriptions.answers import json_answer, parse_verbose
from transcriber.gateway.transcriptions.options import SpeechOptions
from transcriber.text.results import Result, render

MESSAGES = [final("calm and low", 0.0), gap(5.0, 1.0), final("out of the north", 6.0), end(11.0)]


@pytest.mark.parametrize("words", [True, False])
def test_a_text_without_its_segments_is_the_same_text(words):
    data = render(MESSAGES, Result("verbose_json", words=words)).encode()
    whole, lean = parse_verbose(data), parse_verbose(data, segments=False)

    assert len(whole["segments"]) == 2
    assert whole["gaps"]
    assert lean["segments"] == [None, None]
    options = SpeechOptions("transcribe", "demo")
    assert json_answer(lean, options) == json_answer(whole, options)
    assert lean | {"segments": 0, "words": 0} == whole | {"segments": 0, "words": 0}


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"{}", json.dumps({"text": "x"}).encode()])
@pytest.mark.parametrize("segments", [True, False])
def test_what_is_no_result_is_an_error(data, segments):
    with pytest.raises(ObjectError):
        parse_verbose(data, segments=segments)
