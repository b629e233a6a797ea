"""A model whose text is known: our own tests and ``bench.chaos`` give it to the real daemon (``fake_daemon``).

Its text of a window is the median of its samples in thousandths, so that cross-talk shows, and its words are those of the prompt, so
that context shows. A level is such a number. The variables:

FAKE_WORD_S: the text is one such word for every so many seconds instead, each with its time.
FAKE_MISHEARS_S: in windows shorter than that every word of an even level is wrong: it has a zero more.
FAKE_JOB_S: seconds that a window takes. FAKE_JOB_FILE: a file with that number, which may change at any time, also for a
window that is being transcribed. FAKE_SLOW_S: seconds that windows of level 600 take.
FAKE_FAIL_AT, FAKE_CRASH_AT, FAKE_KILL_AT: level at which the model fails, its thread raises, the process gets SIGKILL.
FAKE_HANG_AT, default 666: level at which it never answers, even if it is asked to abort. Level 555: its text is a repetition.
Level 556: after its text more words come at once than anybody can say.
FAKE_DETECTS=1: from level 800 on German is spoken, below English, and text in the other language is unlikely; else no language
is detected.

FAKE_ABORT_AT: level at which the process aborts as ggml does when a card fails. FAKE_LOAD_FILE: a file; while it exists the model
cannot be loaded, for the reason that is in it; ABORT aborts the process.
"""

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transcriber.config import Settings
from transcriber.engine.hallucination import Doubt
from transcriber.engine.language_evidence import LanguageProbabilities
from transcriber.engine.transcript import Phrase, Transcript, Word
from transcriber.errors import EngineError, ModelError

GERMAN = 0.8
"""From this level on German is spoken."""
REPETITION_LEVEL, HURRIED_LEVEL, SLOW_LEVEL = 555, 556, 600
HURRIED = "and all of it again at once"
NO_ODDS = LanguageProbabilities({}, 0.0)


class FakeModel:
    """Stands for ``engine.whisper.model.WhisperModel``; made on the event loop, used on the worker's thread."""

    name = "fake"
    tight = False
    translates = False

    def __init__(self) -> None:
        self.job_s = float(os.environ.get("FAKE_JOB_S", "0"))
        self.detects = os.environ.get("FAKE_DETECTS") == "1"
        self.job_file = os.environ.get("FAKE_JOB_FILE")
        self.slow_s = float(os.environ.get("FAKE_SLOW_S", "0"))
        self.word_s = float(os.environ.get("FAKE_WORD_S", "0"))
        self.mishears_s = float(os.environ.get("FAKE_MISHEARS_S", "0"))
        self.hang_at = int(os.environ.get("FAKE_HANG_AT", "666"))
        self.fail_at = int(os.environ.get("FAKE_FAIL_AT", "9999"))
        self.crash_at = int(os.environ.get("FAKE_CRASH_AT", "9999"))
        self.kill_at = int(os.environ.get("FAKE_KILL_AT", "9999"))
        self.abort_at = int(os.environ.get("FAKE_ABORT_AT", "9999"))

    def supports(self, language: str) -> bool:
        return language in {"en", "de"}

    def detect(
        self,
        samples: NDArray[np.float32],
        should_abort: Callable[[], bool],  # noqa: ARG002 - the interface of a model
    ) -> LanguageProbabilities:
        return (
            LanguageProbabilities({"en": 0.1, "de": 0.9} if german(samples) else {"en": 0.9, "de": 0.1}, 0.0)
            if self.detects
            else NO_ODDS
        )

    def close(self) -> None:
        pass

    def transcribe(
        self,
        samples: NDArray[np.float32],
        language: str | None,
        should_abort: Callable[[], bool],
        *,
        wide: bool = False,  # noqa: ARG002 - the interface of a model
        prompt: str = "",
        translate: bool = False,  # noqa: ARG002
        greedy: bool = False,  # noqa: ARG002
    ) -> Transcript:
        started = time.perf_counter()
        level = round(float(np.median(samples)) * 1000)
        if level == self.hang_at:
            time.sleep(3600)
        if level == self.crash_at:
            raise RuntimeError("the fake model crashed, as requested")
        if level == self.abort_at:
            abort("an illegal memory access was encountered")
        if level == self.fail_at:
            raise EngineError("the fake model failed, as requested", return_code=-7)
        while (left := started + self._job_s(level) - time.perf_counter()) > 0:
            if should_abort():
                raise EngineError("aborted", return_code=-6)
            select.select((), (), (), min(left, 0.002))  # under libfaketime time.sleep raises OSError
        if level == self.kill_at:
            time.sleep(1)  # earlier messages are stored
            os.kill(os.getpid(), signal.SIGKILL)
        text = str(level) if level else ""
        words = tuple(Word(word, 0.0, 0.0, 1.0) for word in prompt.split())
        if self.word_s:
            words = timed_words(samples, self.word_s)
            if len(samples) < 16_000 * self.mishears_s:
                words = tuple(replace(one, word=one.word + "0" * (int(one.word) % 2 == 0)) for one in words)
            text = " ".join(word.word for word in words)
        doubt: Doubt | None = "repetition" if level == REPETITION_LEVEL else None
        wrong = self.detects and language != ("de" if german(samples) else "en")
        avg_logprob = -0.9 if wrong else -0.1
        took_s = time.perf_counter() - started
        answer = Transcript(text, words, language or "en", avg_logprob, None, took_s, doubt)
        return hurried(answer) if level == HURRIED_LEVEL else answer

    def _job_s(self, level: int) -> float:
        if self.job_file:
            with contextlib.suppress(ValueError):  # half written: as before
                self.job_s = float(Path(self.job_file).read_text())
        elif level == SLOW_LEVEL:
            return self.slow_s
        return self.job_s


def german(samples: NDArray[np.float32]) -> bool:
    return float(np.median(samples)) >= GERMAN


def hurried(answer: Transcript) -> Transcript:
    """The same with ``HURRIED`` after it, for which it leaves no time."""
    words = (Word(answer.text, 0.0, 1.0, 1.0), *(Word(word, 1.0, 1.0, 1.0) for word in HURRIED.split()))
    phrases = (Phrase(0.0, 1.0, len(answer.text)), Phrase(1.0, 1.0, len(HURRIED)))
    return replace(answer, text=f"{answer.text} {HURRIED}", words=words, phrases=phrases)


def timed_words(samples: NDArray[np.float32], word_s: float) -> tuple[Word, ...]:
    """The median of every ``word_s`` seconds in thousandths; none where that is 0."""
    size = round(word_s * 16_000)
    levels = {
        at / 16_000: round(float(np.median(samples[at : at + size])) * 1000) for at in range(0, len(samples), size)
    }
    return tuple(Word(str(found), at_s, at_s + word_s, 1.0) for at_s, found in levels.items() if found)


def load_fake_model(path: Path, _: Settings) -> FakeModel:
    """As ``load_checked_model`` for the real one; any name but ``broken`` is that of a model."""
    if (load_file := os.environ.get("FAKE_LOAD_FILE")) and (reason := Path(load_file)).is_file():
        if (text := reason.read_text()) == "ABORT":
            abort("out of memory")
        raise ModelError(text)
    if path.name == "broken":
        raise ModelError("the fake model is broken, as requested")
    model = FakeModel()
    model.name = path.name
    return model


def abort(reason: str) -> None:
    """What ggml writes and does where a call of CUDA fails."""
    os.write(2, f"CUDA error: {reason}\n/ggml/src/ggml-cuda/ggml-cuda.cu:98: CUDA error\n".encode())
    os.abort()
