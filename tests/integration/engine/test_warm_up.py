import numpy as np
import pytest

from transcriber.config import Settings
from transcriber.engine.transcript import Transcript
from transcriber.engine.warm_up import self_test_speech, warm_up
from transcriber.engine.whisper.model import load_model
from transcriber.errors import EngineError, ModelError
from transcriber.models.catalog import DEMO_MODEL


class TimedModel:
    """Says nothing, and that its calls took these times."""

    name = "timed"
    tight = False
    translates = False

    def __init__(self, *times_s: float) -> None:
        self.times_s = list(times_s)
        self.windows: list[np.ndarray] = []
        self.contexts: list[str] = []

    def supports(self, _language: str) -> bool:
        return True

    def close(self):
        pass

    def transcribe(self, samples, language, should_abort, *, wide=False, prompt="", translate=False, greedy=False):
        assert not should_abort()
        self.contexts.append("wide" if wide else "usual")
        self.windows.append(samples)
        return Transcript("", (), language, None, None, self.times_s.pop(0))


class BrokenModel(TimedModel):
    def transcribe(self, *_args, **_kwargs):
        raise EngineError("failed to encode (whisper_full returned -6)", return_code=-6)


def test_clip_is_five_seconds_of_speech():
    speech = self_test_speech()

    assert speech.shape == (80_000,)
    assert speech.dtype == np.float32
    assert 0.1 < np.abs(speech).max() <= 1.0


def test_bundled_model_has_a_speed():
    model = load_model(DEMO_MODEL, Settings(whisper_threads=1))

    rtf = warm_up(model, 2.0)

    model.close()
    assert 0.0 < rtf < 10.0


def test_speed_is_the_median_of_three_calls_after_one_that_is_not_counted():
    model = TimedModel(9.0, 0.1, 0.5, 0.2)

    assert warm_up(model, 4.0) == pytest.approx(0.2 / 4.0)
    assert not model.times_s


def test_slow_model_is_timed_no_longer_than_needed():
    model = TimedModel(9.0, 3.0)

    assert warm_up(model, 5.0) == pytest.approx(0.6)


@pytest.mark.parametrize("duration_s", [0.5, 5.0, 12.0])
def test_window_has_the_duration_that_is_asked_for(duration_s):
    model = TimedModel(0.1, 3.0)

    warm_up(model, duration_s)

    assert {len(window) for window in model.windows} == {duration_s * 16_000}


def test_a_wide_context_is_warmed_up_too_where_it_may_be_asked_for():
    model = TimedModel(30.0, 9.0, 3.0)
    model.tight = True

    assert warm_up(model, 5.0) == pytest.approx(0.6)
    assert model.contexts == ["wide", "usual", "usual"]


def test_model_that_fails_its_self_test_cannot_start():
    with pytest.raises(ModelError, match=r"model timed failed its self-test: failed to encode"):
        warm_up(BrokenModel(), 5.0)
