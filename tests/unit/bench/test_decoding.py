"""``bench.decoding``: what is counted of windows that were asked again."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from bench.decoding import Doubts, _said_in, _weigh, settings_of
from bench.lib.recordings import Recording, Word
from transcriber.engine.job import Job
from transcriber.engine.transcript import Transcript
from transcriber.testing.wer import words

LOOP = Transcript("gale gale gale gale", (), "en", -0.1, None, 1.0, doubt="repetition")
RIGHT = Transcript("gale warning tonight", (), "en", -0.1, None, 2.0)
SAID = "gale warning tonight"


def weighed(first, second):
    job = Job("s", np.zeros(16_000, np.float32), "en", lambda *_: None)
    doubts, nobody = Doubts(), cast(Any, None)
    _weigh(doubts, [one for one in (first, second) if one], job, second or first, SAID, nobody, words, ())
    return doubts.figures()


def test_a_window_that_was_asked_once_is_no_doubt():
    figures = weighed(RIGHT, None)

    assert (figures["windows"], figures["asked_again"], figures["words_in_them"]) == (1, 0, 0)


def test_what_is_held_back_has_lost_its_words_and_what_helps_is_better():
    figures = weighed(LOOP, RIGHT)

    assert figures["reasons"] == {"repetition": 1}
    assert figures["words_wrong"] == {"asked_once": 3, "asked_again": 0}
    assert figures["held_back"] == {"asked_once": 1, "asked_again": 0}
    assert figures["windows_better"] == {"asked_once": 0, "asked_again": 1}
    assert figures["more_time_percent"] == 200.0


def test_asking_again_may_harm():
    unlikely = replace(RIGHT, avg_logprob=-0.9, doubt=None)

    figures = weighed(unlikely, replace(LOOP, doubt=None))

    assert figures["words_wrong"] == {"asked_once": 0, "asked_again": 3}
    assert figures["windows_worse"]["asked_again"] == 1


def test_of_a_window_what_is_said_in_it_and_before_it_counts():
    recording = Recording("a", SAID, np.zeros(48_000, np.float32), words=tuple(
        Word(word, at, at + 0.5) for at, word in enumerate(SAID.split())
    ))  # fmt: skip
    window: Any = SimpleNamespace(start_frame=16_000, frames=16_000, cut=SimpleNamespace(tail_s=0.0))

    assert _said_in(recording, window, 0.0) == "warning"
    assert _said_in(recording, window, 1.0) == "gale warning"
    assert _said_in(replace(recording, words=None), window, 0.0) is None


def test_ways_are_settings_of_the_daemon():
    assert settings_of("files", 1).buffer_duration_secs == 25.0
    assert settings_of("context", 1).whisper_context == "prompt"
    with pytest.raises(SystemExit, match="--ways loud: must be of live, files"):
        settings_of("loud", 1)
