"""The real daemon with a fake model: ``python -m transcriber.testing.fake_daemon``. Our own tests and ``bench.chaos`` use it.

In: the daemon's settings, and the variables below. Out: the daemon, whose text of a window is the median of its samples in
thousandths, so that cross-talk shows, and whose words are those of the prompt, so that context shows. A level is such a number.

FAKE_WORD_S: the text is one such word for every so many seconds instead, each with its time.
FAKE_MISHEARS_S: in windows shorter than that every word of an even level is wrong: it has a zero more.
FAKE_JOB_S: seconds that a window takes. FAKE_JOB_FILE: a file with that number, which may change at any time, also for a
window that is being transcribed. FAKE_SLOW_S: seconds that windows of level 600 take.
FAKE_FAIL_AT, FAKE_CRASH_AT, FAKE_KILL_AT: level at which the model fails, its thread raises, the process gets SIGKILL.
FAKE_HANG_AT, default 666: level at which it never answers, even if it is asked to abort. Level 555: its text is a repetition.
FAKE_DETECTS=1: from level 800 on German is spoken, below English, and text in the other language is unlikely; else no language
is detected.

FAKE_SET="module:NAME=number ...": constants to set. FAKE_BEFORE="module:Class.method:n SIGKILL": the signal that the process
sends itself before the n-th call of a method; or RAISE, or HANG. FAKE_GC=0: no collection of reference cycles.
"""

import contextlib
import gc
import importlib
import itertools
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transcriber import cli
from transcriber.config import load_settings
from transcriber.engine.hallucination import Doubt
from transcriber.engine.language_evidence import LanguageProbabilities
from transcriber.engine.transcript import Transcript, Word
from transcriber.errors import EngineError, StartError
from transcriber.logs import configure
from transcriber.service import serve

GERMAN = 0.8
"""From this level on German is spoken."""
REPETITION_LEVEL, SLOW_LEVEL = 555, 600
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

    def supports(self, language: str) -> bool:
        return language in {"en", "de"}

    def detect(self, samples: NDArray[np.float32]) -> LanguageProbabilities:
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
        if level == self.fail_at:
            raise EngineError("the fake model failed, as requested", return_code=-7)
        while (left := started + self._job_s(level) - time.perf_counter()) > 0:
            if should_abort():
                raise EngineError("aborted", return_code=-6)
            time.sleep(min(left, 0.002))
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
        return Transcript(text, words, language or "en", avg_logprob, None, time.perf_counter() - started, doubt)

    def _job_s(self, level: int) -> float:
        if self.job_file:
            with contextlib.suppress(ValueError):  # half written: as before
                self.job_s = float(Path(self.job_file).read_text())
        elif level == SLOW_LEVEL:
            return self.slow_s
        return self.job_s


def german(samples: NDArray[np.float32]) -> bool:
    return float(np.median(samples)) >= GERMAN


def timed_words(samples: NDArray[np.float32], word_s: float) -> tuple[Word, ...]:
    """The median of every ``word_s`` seconds in thousandths; none where that is 0."""
    size = round(word_s * 16_000)
    levels = {
        at / 16_000: round(float(np.median(samples[at : at + size])) * 1000) for at in range(0, len(samples), size)
    }
    return tuple(Word(str(found), at_s, at_s + word_s, 1.0) for at_s, found in levels.items() if found)


def patch_modules() -> None:
    """Apply FAKE_SET and FAKE_BEFORE to our own modules."""
    for change in os.environ.get("FAKE_SET", "").split():
        name, _, value = change.partition("=")
        owner, attribute = find_attribute(name)
        setattr(owner, attribute, float(value))
    if before := os.environ.get("FAKE_BEFORE"):
        place, number = before.split()
        name, _, count = place.rpartition(":")
        owner, attribute = find_attribute(name)
        calls, original = itertools.count(1), getattr(owner, attribute)

        def interrupted(*args: Any, **kwargs: Any) -> Any:
            if next(calls) == int(count):
                if number == "RAISE":
                    raise RuntimeError("raised, as requested")
                if number == "HANG":
                    time.sleep(3600)
                os.kill(os.getpid(), signal.Signals[number])
            return original(*args, **kwargs)

        setattr(owner, attribute, interrupted)


def find_attribute(name: str) -> tuple[Any, str]:
    """``package.module:Class.attribute`` as the class, or module, and the attribute's name."""
    module, _, path = name.partition(":")
    owner = importlib.import_module(module)
    *parts, attribute = path.split(".")
    for part in parts:
        owner = getattr(owner, part)
    return owner, attribute


def main() -> None:
    """Run the daemon; the process ends as the command's does, which leaves threads that hang behind."""
    cli._run = run  # noqa: SLF001 - all of the command but which model it makes
    sys.exit(cli.main([]))


def run(argv: Sequence[str] | None) -> int:  # noqa: ARG001 - as it replaces
    """Serve, and return the exit status."""
    patch_modules()
    try:
        settings = load_settings()
        configure(settings.log_level, settings.log_format)
        serve(settings, FakeModel)
    except StartError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_status
    return 0


if __name__ == "__main__":
    if os.environ.get("FAKE_GC") == "0":
        gc.disable()
    main()
