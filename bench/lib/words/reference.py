"""The best that a model can be asked for when it need not be quick: what streaming is measured against.

In: a model file and whole recordings. Out: errors of the recording in one go, as whisper.cpp reads a file (30 s at a time,
from where its last time stamp ends, trying again what it doubts), and of one clip a sentence, cut where it truly ends.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from pywhispercpp.model import Model

from bench.lib.playing import Wire
from bench.lib.recordings import Recording, Samples, some_of
from bench.lib.report import Results
from bench.lib.words.normal import Split
from bench.lib.words.scoring import Errors, text_errors
from transcriber.config import load_settings
from transcriber.engine.job import WHISPER_SAMPLE_RATE
from transcriber.engine.whisper.encoder_context import SAMPLES_PER_POSITION
from transcriber.engine.whisper.model import load_model
from transcriber.testing.wer import words

FULL_S = 30
"""Whisper's own window."""

IN_ONE_GO, SENTENCES = "in_one_go", "true_sentences"

TRIED = 4
"""Recordings by which the better way is known; a model that loops on a file of minutes takes a while over it."""

Hear = Callable[[Recording], str]
"""A recording's text."""


def reference(
    ways: dict[str, Hear], recordings: list[Recording], wire: Wire, split: Split = words
) -> tuple[Errors, Results]:
    """Hear what the wire leaves of some recordings in all ways that can be, and of all of them in the better way.

    Returns:
        The errors of the better way, and the figures of all.
    """
    possible = [name for name in ways if name != SENTENCES or all(one.sentences for one in recordings)]
    few = some_of(recordings, TRIED)
    found = {name: _errors(ways[name], few, wire, split) for name in possible} if len(possible) > 1 else {}
    better = min(found, key=lambda name: int(found[name].wrong.sum()), default=possible[0])
    found[better] = _errors(ways[better], recordings, wire, split)
    return found[better], {"better": better} | {
        name: {"recordings": len(errors.said)} | errors.figures() for name, errors in found.items()
    }


def _errors(hear: Hear, recordings: list[Recording], wire: Wire, split: Split) -> Errors:
    texts = [hear(replace(one, samples=wire.heard(one.samples))) for one in recordings]
    return text_errors(recordings, texts, split)


def ways(path: Path, language: str) -> dict[str, Hear]:
    """Both, each with its model loaded."""
    return {IN_ONE_GO: _in_one_go(path, language), SENTENCES: _sentence_by_sentence(path, language)}


def _in_one_go(path: Path, language: str) -> Hear:
    model = Model(
        str(path),
        n_threads=load_settings().threads,
        language=language,
        print_progress=False,
        redirect_whispercpp_logs_to=None,
    )
    return lambda recording: " ".join(segment.text for segment in model.transcribe(recording.samples))


def _sentence_by_sentence(path: Path, language: str) -> Hear:
    """At the context that the daemon uses; a sentence that does not fit gets the full one."""
    usual, full = load_settings(), load_settings(whisper_audio_ctx="0")
    models = load_model(path, usual), load_model(path, full)
    fits = usual.audio_ctx * SAMPLES_PER_POSITION or FULL_S * WHISPER_SAMPLE_RATE

    def hear(recording: Recording) -> str:
        texts = [
            models[len(piece) > fits].transcribe(piece, language, lambda: False).text
            for clip in recording.sentence_clips()
            for piece in _pieces(clip)
        ]
        return " ".join(texts)

    return hear


def _pieces(clip: Samples) -> Iterable[Samples]:
    """Whisper takes no more at a time."""
    most = FULL_S * WHISPER_SAMPLE_RATE
    return np.split(clip, range(most, len(clip), most))
