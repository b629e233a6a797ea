"""The model's speed on this machine, measured on bundled speech before the first window.

In: a loaded model, the duration of a window and of its left context, and what finds its speakers. Out: the real-time factor (RTF).
"""

import statistics
import time
import wave
from collections.abc import Callable
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from transcriber.engine.job import WHISPER_SAMPLE_RATE, SpeechModel
from transcriber.errors import EngineError, ModelError

CALLS = 3
ENOUGH_S = 2.0
"""Seconds of timed calls after which no further one is made."""

Label = Callable[[NDArray[np.float32], float], object]
"""Finds the speakers of a window, (n,) float32 at 16 kHz, that begins with so many seconds of left context. Worker thread only."""


def warm_up(model: SpeechModel, duration_s: float, left_s: float = 0.0, label: Label | None = None) -> float:
    """Median RTF of up to three windows of ``duration_s`` with ``left_s`` of left context, after one at each encoder context.

    English is given: detecting a language costs a second encoder run, which a stream pays only until it is sure. With ``label``
    the median time that it takes is added.

    Raises:
        ModelError: the model failed.
    """
    samples = np.resize(self_test_speech(), int((left_s + duration_s) * WHISPER_SAMPLE_RATE))
    times_s: list[float] = []
    try:
        if model.tight:
            model.transcribe(samples, "en", _never, wide=True)
        model.transcribe(samples, "en", _never)
        while len(times_s) < CALLS and sum(times_s) < ENOUGH_S:
            times_s.append(model.transcribe(samples, "en", _never).processing_s)
    except EngineError as error:
        raise ModelError(f"model {model.name} failed its self-test: {error}") from error
    label_s = _median_s(lambda: label(samples, left_s)) if label else 0.0
    return (statistics.median(times_s) + label_s) / duration_s


def _median_s(run: Callable[[], object]) -> float:
    """Seconds that ``run`` takes, after a first call."""
    run()
    times_s: list[float] = []
    for _ in range(CALLS):
        begun_s = time.perf_counter()
        run()
        times_s.append(time.perf_counter() - begun_s)
    return statistics.median(times_s)


def self_test_speech() -> NDArray[np.float32]:
    """Five seconds of speech: (80000,) float32 in [-1, 1] at 16 kHz."""
    with files(__package__).joinpath("self_test.wav").open("rb") as file, wave.open(file) as clip:
        raw = clip.readframes(clip.getnframes())
    return np.frombuffer(raw, "<i2").astype(np.float32) / np.float32(2**15)


def _never() -> bool:
    return False
