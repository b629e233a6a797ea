import pytest

from transcriber.config import Settings
from transcriber.engine.transcript import Transcript
from transcriber.engine.warm_up import self_test_speech
from transcriber.engine.whisper.model import load_checked_model, load_model
from transcriber.engine.whisper.self_test import check_kernels
from transcriber.errors import EngineError, ModelError
from transcriber.models.catalog import DEMO_MODEL
from transcriber.models.conversion.quantize import quantized
from transcriber.models.ggml import check_model_file

SETTINGS = Settings(whisper_threads=1)


class TellingModel:
    name = "telling"
    tight = False
    translates = False

    def __init__(self, answer):
        self.answer = answer
        self.closed = False

    def supports(self, _language):
        return True

    def transcribe(self, samples, language, should_abort, *, wide=False, prompt="", translate=False, greedy=False):
        if isinstance(self.answer, Exception):
            raise self.answer
        return Transcript(self.answer, (), language, None, None, 0.1)

    def close(self):
        self.closed = True


@pytest.fixture(scope="module")
def q8_0(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "ggml-demo-q8_0.bin"
    path.write_bytes(quantized(DEMO_MODEL))
    return path


def test_quantised_model_is_a_whole_one_and_says_the_same(q8_0):
    shape, wide = check_model_file(q8_0), check_model_file(DEMO_MODEL)
    models = [load_model(path, SETTINGS) for path in (DEMO_MODEL, q8_0)]

    answers = [model.transcribe(self_test_speech(), "en", lambda: False) for model in models]

    for model in models:
        model.close()
    assert (shape.ftype, wide.ftype) == (7, 1)
    assert q8_0.stat().st_size < 0.6 * DEMO_MODEL.stat().st_size
    assert answers[0].text == answers[1].text
    assert answers[0].avg_logprob == pytest.approx(answers[1].avg_logprob, abs=0.01)


def test_weights_that_are_quantised_already_are_refused(q8_0):
    with pytest.raises(ModelError, match="weights are quantised already"):
        quantized(q8_0)


def test_the_kernels_here_pass():
    check_kernels(DEMO_MODEL, lambda path: load_model(path, SETTINGS))


def test_the_self_test_uses_the_users_type_of_weights(q8_0):
    tested = []

    def load(path):
        tested.append(check_model_file(path).ftype)
        return load_model(path, SETTINGS)

    check_kernels(DEMO_MODEL, load)
    check_kernels(q8_0, load)

    assert tested == [1, 7]


@pytest.mark.parametrize(
    "answer", ["", "the the the the", "gale morning for a south tunnel", EngineError("failed to encode")]
)
def test_kernels_that_compute_wrongly_are_found_before_the_first_window(answer):
    model = TellingModel(answer)

    with pytest.raises(ModelError, match=r"whisper\.cpp computes wrongly on this processor") as caught:
        check_kernels(DEMO_MODEL, lambda _: model)

    assert "\n" not in str(caught.value)
    assert model.closed


def test_loading_says_what_it_runs_on(caplog):
    caplog.set_level("INFO")

    load_checked_model(DEMO_MODEL, Settings(whisper_threads=1, whisper_audio_ctx=256)).close()

    (record,) = [r for r in caplog.records if "whisper.cpp runs on" in r.message]
    assert "AVX2" in record.kernels.split()
