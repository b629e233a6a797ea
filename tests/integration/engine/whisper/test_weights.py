"""Several models over one copy of the weights."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier

import pytest

from tests.support.real_weights import real_model
from tests.support.waiting import PATIENCE_S
from transcriber.config import Settings
from transcriber.engine.pool import WorkerPool
from transcriber.engine.warm_up import self_test_speech
from transcriber.engine.whisper.library import library
from transcriber.engine.whisper.model import load_checked_model, load_model
from transcriber.errors import ModelError
from transcriber.models.catalog import DEMO_MODEL

SETTINGS = Settings(whisper_threads=1)
SPEECH = self_test_speech()
WINDOWS = [SPEECH, SPEECH[24_000:], SPEECH[:50_000]]
WORKERS = 3


def never():
    return False


def answer(model, window):
    transcript = model.transcribe(window, "en", never)
    return transcript.text, transcript.words, transcript.avg_logprob


@pytest.fixture
def calls(monkeypatch):
    """Calls of whisper.cpp's functions that make and free things, in order."""
    names, computing = [], library().computing

    def noted(name, real, *given):
        names.append(name)
        return real(*given)

    for name in (
        "whisper_init_from_file_with_params_no_state",
        "whisper_init_state",
        "whisper_free_state",
        "whisper_free",
    ):
        monkeypatch.setattr(computing, name, partial(noted, name, getattr(computing, name)))
    return names


@pytest.mark.parametrize("path", [lambda: DEMO_MODEL, lambda: real_model("tiny.en")], ids=["demo", "tiny.en"])
def test_each_of_several_says_at_the_same_time_what_a_lone_one_says(path):
    path = path()
    alone = load_model(path, SETTINGS)
    expected = [answer(alone, window) for window in WINDOWS]
    together = Barrier(WORKERS)

    def work(number):
        model = alone.sibling()
        together.wait(PATIENCE_S)
        order = [number, (number + 1) % WORKERS]  # each has another window than the others at any time
        answers = [answer(model, WINDOWS[at]) for at in order]
        model.close()
        return answers == [expected[at] for at in order]

    with ThreadPoolExecutor(WORKERS) as pool:
        assert list(pool.map(work, range(WORKERS))) == [True] * WORKERS
    alone.close()


def test_the_last_one_to_be_closed_frees_the_weights(calls):
    first = load_model(DEMO_MODEL, SETTINGS)
    said = answer(first, SPEECH)
    second = first.sibling()

    first.close()
    third = first.sibling()
    assert [answer(model, SPEECH) for model in (second, third)] == [said, said]
    for model in (third, third, second):
        model.close()

    assert calls == [
        "whisper_init_from_file_with_params_no_state",
        *["whisper_init_state"] * 2,
        "whisper_free_state",
        "whisper_init_state",
        *["whisper_free_state"] * 2,
        "whisper_free",
    ]
    with pytest.raises(ModelError, match="its weights are freed already"):
        first.sibling()


def test_what_was_said_to_one_is_not_known_to_another():
    first = load_model(DEMO_MODEL, SETTINGS)
    second = first.sibling()
    expected = answer(first, SPEECH)

    second.transcribe(SPEECH[:40_000], "en", never, wide=True, prompt="Motor vessel at berth four.")

    assert answer(first, SPEECH) == expected
    first.close()
    second.close()


async def test_workers_test_the_kernels_once_and_load_the_weights_once(calls):
    settings = Settings(whisper_threads=1, whisper_workers=WORKERS)

    pool = await WorkerPool.start(settings, lambda: load_checked_model(DEMO_MODEL, settings))
    await pool.stop(grace_s=PATIENCE_S)

    assert calls.count("whisper_init_from_file_with_params_no_state") == 2  # the self-test's, and the model's
    assert calls.count("whisper_init_state") == calls.count("whisper_free_state") == 1 + WORKERS
    assert (calls.count("whisper_free"), calls[-1]) == (2, "whisper_free")


def test_a_state_for_which_memory_is_short_leaves_the_weights_to_the_others(monkeypatch):
    model = load_model(DEMO_MODEL, SETTINGS)
    with monkeypatch.context() as patch:
        patch.setattr(library().computing, "whisper_init_state", lambda _: None)
        with pytest.raises(ModelError, match=r"model\.bin: whisper\.cpp cannot load it"):
            model.sibling()

    sibling = model.sibling()
    assert answer(sibling, SPEECH) == answer(model, SPEECH)
    sibling.close()
    model.close()
