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
    URGENT_FILE = 3
    FILE = 4
    SECOND_PASS = 5


FILE_LANES = (Lane.URGENT_FILE, Lane.FILE)


@dataclass(frozen=True, slots=True)
class Device:
    """Where a model runs.

    Attributes:
        name: ``cpu``, or ``cuda:0`` for the first card.
        description: the card's name; empty for the CPU.
        reason: why it is the CPU and not a GPU, in a few words; empty where it is one, and where none was asked for and there is no
            plug-in, or no driver.
    """

    name: str = "cpu"
    description: str = ""
    reason: str = ""

    @property
    def kind(self) -> str:
        """``cpu`` or ``cuda``."""
        return self.name.partition(":")[0]

    @property
    def index(self) -> int:
        """The card's number; 0 for the CPU."""
        return int(self.name.partition(":")[2] or 0)


CPU = Device()


class ModelFacts(Protocol):
    """What a model is and can do. Any thread.

    Attributes:
        name: as it stands in transcripts.
        translates: whether it can translate other languages into English.
    """

    @property
    def name(self) -> str: ...

    @property
    def translates(self) -> bool: ...

    def supports(self, language: str) -> bool:
        """Whether the model has ``language`` (ISO 639-1)."""
        ...


class SpeechModel(ModelFacts, Protocol):
    """A loaded model. Worker thread only, but for its facts; it may be made and tried on another thread before.

    Attributes:
        tight: whether its usual encoder context is tight, so that a second run at a wide one may help.
    """

    name: str
    tight: bool
    translates: bool

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
        it anyway. ``prompt``: names and terms up to the last line break, if there is one, then what was said before; of
        a long one the beginning of what was said is left out first. ``translate``: into English.
        ``greedy``: with one beam, however many are set.

        Raises:
            EngineError: whisper failed, or was aborted.
        """
        ...


@runtime_checkable
class MultilingualModel(SpeechModel, Protocol):
    """A ``SpeechModel`` that can detect the language; one with a single language need not."""

    def detect(self, samples: NDArray[np.float32], should_abort: Callable[[], bool]) -> LanguageProbabilities:
        """Which of the allowed languages ``samples`` may be in; they are as for ``transcribe``.

        One encoder run; none where there is no choice. ``should_abort`` is as for ``transcribe``, but an encoder run cannot be
        aborted: a model in this process only asks before it.

        Raises:
            EngineError: whisper failed, or was aborted.
        """
        ...


@runtime_checkable
class PlacedModel(SpeechModel, Protocol):
    """A ``SpeechModel`` that runs on a device of this machine.

    Attributes:
        device: where it really runs. Any thread.
    """

    device: Device


@runtime_checkable
class DivisibleModel(SpeechModel, Protocol):
    """A ``SpeechModel`` whose weights serve several workers."""

    def sibling(self) -> SpeechModel:
        """Another model with the same weights in memory, for the calling thread; each is closed by itself.

        Raises:
            ModelError: memory is short, or all models with these weights are closed.
        """
        ...


@runtime_checkable
class RestartingModel(SpeechModel, Protocol):
    """A ``SpeechModel`` in another process, which is started again when it dies; a call that it dies of is an ``EngineError``.

    Attributes:
        restarts: so far.
        on_failure: to be set; called on another thread, with the reason, when it cannot be started again.
    """

    restarts: int
    on_failure: Callable[[BaseException], None]

    @property
    def late(self) -> bool:
        """Whether it has been away for too long. Any thread."""
        ...

    def wait(self, should_stop: Callable[[], bool]) -> None:
        """Wait until it can be called, or ``should_stop``, which is asked now and then.

        Raises:
            RuntimeError: it cannot be started again.
        """
        ...


class Speakers(Protocol):
    """Who speaks in one job's audio, by voice."""

    def find(self, *, busy: bool, should_abort: Callable[[], bool]) -> None:
        """Find it once the job has its text; ``busy``: leave it out, as other jobs wait. Worker thread only.

        Raises:
            EngineError: ``should_abort`` returned True.
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
        speakers: who speaks in it; None: voices are not distinguished.
        model: name of the one that transcribed it, or failed to; set on its way.
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
    speakers: Speakers | None = None
    model: str = ""
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
        """Its vocabulary and, after a line break, what its speaker said just before, if that is trusted and in the same language.

        Worker thread only: it is known once the job is taken from the queue.
        """
        said = self.prompt.of_epoch(self._epoch) if self.prompt and not self._changes_to(language) else ""
        terms, said = (" ".join(text.split()) for text in (self.vocabulary, said))
        return f"{terms}\n{said}" if terms else said

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


def unsupported_reason(model: ModelFacts, language: str | None, task: str, allowed: Sequence[str] = ()) -> str | None:
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
