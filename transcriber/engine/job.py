"""What crosses into the worker thread, and what it returns."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from transcriber.engine.language_evidence import LanguageProbabilities
from transcriber.engine.prompt import SpeakerHistory, SpeakerPrompt
from transcriber.engine.transcript import Transcript
from transcriber.errors import EngineError

WHISPER_SAMPLE_RATE = 16_000
"""Hz; the only rate whisper takes."""


class Lane(IntEnum):
    """Priority classes of the scheduler, the most urgent first."""

    FINAL = 0
    REQUEST = 1
    PARTIAL = 2
    FILE = 3
    SECOND_PASS = 4


class SpeechModel(Protocol):
    """A loaded model. Worker thread only.

    Attributes:
        name: as it stands in transcripts.
        tight: whether its usual encoder context is tight, so that a second run at a wide one may help.
        translates: whether it can translate other languages into English.
    """

    name: str
    tight: bool
    translates: bool

    def supports(self, language: str) -> bool:
        """Whether the model has ``language`` (ISO 639-1). Any thread."""
        ...

    def close(self) -> None:
        """Free its memory; it cannot be used afterwards."""
        ...

    def transcribe(
        self,
        samples: NDArray[np.float32],
        language: str | None,
        should_abort: Callable[[], bool],
        *,
        wide: bool = False,
        prompt: str = "",
        translate: bool = False,
        greedy: bool = False,
    ) -> Transcript:
        """Transcribe ``samples``: (n,) C-contiguous float32 in [-1, 1] at 16 kHz, n >= 1.

        ``language`` None means: detect (or the model's only one). ``should_abort`` is called now and
        then on the calling thread; once it returns True the call raises as soon as it can.
        ``wide`` asks for more encoder context than the window needs, at its price; a window that fits no tighter one gets
        it anyway. ``prompt`` is what was said before; of a long one the end is used. ``translate``: into English.
        ``greedy``: with one beam, however many are set.

        Raises:
            EngineError: whisper failed, or was aborted.
        """
        ...


@runtime_checkable
class MultilingualModel(SpeechModel, Protocol):
    """A ``SpeechModel`` that can detect the language; one with a single language need not."""

    def detect(self, samples: NDArray[np.float32]) -> LanguageProbabilities:
        """Which of the allowed languages ``samples`` may be in; they are as for ``transcribe``.

        One encoder run, which cannot be aborted; none where there is no choice.

        Raises:
            EngineError: whisper failed.
        """
        ...


@dataclass(slots=True, eq=False)
class Job:
    """One window for the worker. Owned by the queue and the thread once it is put.

    Attributes:
        stream: the fairness key; a stream stays on one worker.
        samples: (n,) float32 in [-1, 1] at 16 kHz; nothing else writes to it.
        lead_s: seconds of ``samples`` before the window: left context, which may be left out.
        language: None: that of its history, or to be detected.
        settle: called exactly once, on the event loop, with this job and its outcome.
        lane: the scheduler's priority class.
        translate: the text is to be English, whatever is spoken.
        vocabulary: names and terms that may come up.
        prompt: what its speaker said before; None where that is not used.
        history: of its speaker; None without earlier windows.
        deterministic: the transcript must not depend on the load.
        speculative: a partial of a window that ends like this unless speech resumes: transcribed like its final, whose answer it then is.
        speech_s: seconds of speech by the voice activity detector; None without one.
        speech_prob: how sure the detector is that there is any, in [0, 1]; None without one.
        answered_speculatively: whether a speculative transcript is its answer, so that its own times say nothing of the model's speed.
        arrived_s: monotonic time at which the completing payload arrived.
        enqueued_s, started_s, finished_s: monotonic times, set on its way.
    """

    stream: str
    samples: NDArray[np.float32]
    language: str | None
    settle: "Settle"
    lane: Lane = Lane.FINAL
    lead_s: float = 0.0
    translate: bool = False
    vocabulary: str = ""
    prompt: SpeakerPrompt | None = None
    history: SpeakerHistory | None = None
    deterministic: bool = False
    speculative: bool = False
    answered_speculatively: bool = False
    speech_s: float | None = None
    speech_prob: float | None = None
    arrived_s: float = 0.0
    enqueued_s: float = field(default_factory=time.monotonic)
    started_s: float = 0.0
    finished_s: float = 0.0
    _epoch: int = field(init=False)

    def __post_init__(self) -> None:
        self._epoch = self.prompt.epoch if self.prompt else 0

    @property
    def duration_s(self) -> float:
        """Of the window, without its left context."""
        return len(self.samples) / WHISPER_SAMPLE_RATE - self.lead_s

    @property
    def prefers_speed(self) -> bool:
        """Whether its latency matters more than its accuracy."""
        return self.lane is Lane.PARTIAL and not self.speculative

    @property
    def inputs(self) -> tuple[object, ...]:
        """All that its transcript depends on, but for the samples. Worker thread only."""
        said = self.prompt.of_epoch(self._epoch) if self.prompt else ""
        history = self.history.known if self.history else None
        speech = self.speech_s, self.speech_prob
        return self.stream, self.lead_s, self.language, self.translate, self.vocabulary, said, history, speech

    def may_answer(self, final: "Job") -> bool:
        """Whether ``final`` may be of the window that it transcribes speculatively. Any thread."""
        return self.history is final.history and len(self.samples) == len(final.samples)

    def prompt_for(self, language: str | None) -> str:
        """Its vocabulary, and what its speaker said just before, if that is trusted and in the same language.

        Worker thread only: it is known once the job is taken from the queue.
        """
        said = self.prompt.of_epoch(self._epoch) if self.prompt and not self._changes_to(language) else ""
        return f"{self.vocabulary} {said}".strip()

    def update_history(self, transcript: Transcript | None) -> None:
        """Update prompt and history for the windows after it; ``transcript`` None: it failed. Worker thread only."""
        if self.lane is Lane.PARTIAL:
            return
        changes = transcript is not None and bool(transcript.text) and self._changes_to(transcript.language)
        # In durable mode a failed job is retried with the same inputs; elsewhere its failure counts at once.
        if self.history and (transcript or not self.deterministic):
            self.history.record(transcript)
        if self.prompt and self.lane is Lane.FINAL:
            if changes:
                self.prompt.record(None, self._epoch)
            self.prompt.record(transcript and transcript.without_lead(), self._epoch)

    def _changes_to(self, language: str | None) -> bool:
        return self.history is not None and self.history.language not in {None, language}


Outcome = Transcript | EngineError
Settle = Callable[[Job, Outcome], None]


def unsupported_reason(model: SpeechModel, language: str | None, task: str, allowed: Sequence[str] = ()) -> str | None:
    """Why ``model`` cannot do ``task`` with speech in ``language``; None if it can.

    ``allowed``: the languages of ``WHISPER_LANGUAGES``; none: all.
    """
    if task == "translate" and not model.translates:
        return f"the model {model.name} does not translate"
    if language and not model.supports(language):
        return f"the model {model.name} does not know {language!r}"
    if language and allowed and language not in allowed:
        return f"{language!r} is not in WHISPER_LANGUAGES: {', '.join(allowed)}"
    return None
