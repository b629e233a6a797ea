"""What the daemon would say of a session's windows, if it had time enough: without a broker and without a queue.

In: windows of one channel, in order. Out: for each what its ``final`` would say.
"""

import hashlib
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from transcriber.audio.session import Silence, Window
from transcriber.audio.vad.detector import speech_probability, speech_seconds
from transcriber.config import Settings
from transcriber.engine.job import Job, Lane, Outcome, SpeechModel
from transcriber.engine.language_detection import transcribe_job
from transcriber.engine.language_evidence import LanguageEvidence
from transcriber.engine.transcript import Transcript
from transcriber.pipeline.channel_state import ChannelState
from transcriber.pipeline.passages import Part, Passage, Passages, audio_of
from transcriber.pipeline.revision import revise


class Call(NamedTuple):
    """What a model was asked, and what it said."""

    samples: NDArray[np.float32]
    wide: bool
    prompt: str
    answer: Transcript


@dataclass
class InFront:
    """Stands in front of a model."""

    model: SpeechModel

    def __post_init__(self) -> None:
        self.name, self.tight, self.translates = self.model.name, self.model.tight, self.model.translates

    def supports(self, language: str) -> bool:
        return self.model.supports(language)

    def close(self) -> None:
        self.model.close()


@dataclass
class Noting(InFront):
    """A model, and what it was asked since ``calls`` was emptied."""

    calls: list[Call] = field(default_factory=list)

    @property
    def answers(self) -> list[Transcript]:
        return [call.answer for call in self.calls]

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
        answer = self.model.transcribe(
            samples, language, should_abort, wide=wide, prompt=prompt, translate=translate, greedy=greedy
        )
        self.calls.append(Call(samples, wide, prompt, answer))
        return answer


class Offline:
    """One session."""

    def __init__(
        self,
        model: SpeechModel,
        settings: Settings,
        language: str | None,
        *,
        translate: bool = False,
        lane: Lane = Lane.FINAL,
        vocabulary: str = "",
    ) -> None:
        """``language`` None: to be detected."""
        self._model, self._settings, self._language, self._translate = model, settings, language, translate
        self._lane, self._vocabulary = lane, vocabulary
        self._speaker = ChannelState(settings)

    @property
    def spoken(self) -> LanguageEvidence:
        """What is known of the language."""
        return self._speaker.history.spoken

    def hear(self, window: Window) -> Transcript:
        return self.follow(window, self.ask(window)[1])

    def ask(self, window: Window) -> tuple[Job, Transcript]:
        """The model's transcript of a window, as the worker returns it; call ``follow`` with it before the next window."""
        speech = window.cut.speech
        job = Job(
            stream=window.session.id,
            samples=window.cut.samples,
            language=self._language,
            settle=_nobody_waits,
            lane=self._lane,
            vocabulary=self._vocabulary,
            lead_s=window.cut.lead_s,
            translate=self._translate,
            prompt=self._speaker.prompt,
            history=self._speaker.history,
            speech_s=None if speech is None else speech_seconds(speech, self._settings.speech_threshold),
            speech_prob=None if speech is None else speech_probability(speech),
        )
        answer = transcribe_job(self._model, job, _never)
        job.update_history(answer)
        return job, answer

    def follow(self, window: Window, answer: Transcript) -> Transcript:
        """What its ``final`` says."""
        return self._speaker.final(window, answer)


class SecondPass:
    """The second pass over a session of one channel."""

    def __init__(self, model: SpeechModel, rate: int) -> None:
        self._model, self._rate = model, rate
        self._passages = Passages(rate)

    def transcribed(self, window: Window, own: Transcript) -> list[Passage]:
        """The passages that are whole now; messages are called by the number of their window."""
        return self._passages.add(part_of(window, own))

    def silent(self, silence: Silence) -> list[Passage]:
        return self._passages.add(Part.of_silence(silence))

    def end(self) -> list[Passage]:
        return self._passages.end()

    def hear(self, passage: Passage) -> tuple[Transcript, Transcript | str]:
        """What whisper says of a passage, and what would be published of it; or why nothing would."""
        sound = audio_of(passage, [part.audio for part in passage.parts if part.audio])
        job = Job(
            stream="",
            samples=sound.samples,
            language=passage.language,
            settle=_nobody_waits,
            lane=Lane.FILE,
            lead_s=sound.lead_s,
            speech_s=sound.speech_s,
            speech_prob=sound.speech_prob,
        )
        answer = transcribe_job(self._model, job, _never)
        return answer, revise(passage, answer, self._rate, sound)


def part_of(window: Window, own: Transcript) -> Part:
    """``window`` as published with the text ``own``, without speakers; its message is called by its number."""
    job = Job(window.session.id, window.cut.own, None, _nobody_waits)
    return Part.of_window(window, own, job, str(window.number))


def _nobody_waits(_job: Job, _outcome: Outcome) -> None:
    pass


def _never() -> bool:
    return False


@dataclass
class Remembering(InFront):
    """A model, and what it said to the same samples before."""

    store: Path | None
    said: dict[tuple[str, bool], Transcript] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.store and self.store.exists():
            self.said = pickle.loads(self.store.read_bytes())  # noqa: S301 - our own

    def keep(self) -> None:
        if self.store:
            self.store.write_bytes(pickle.dumps(self.said))

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
        key = hashlib.sha256(samples.tobytes()).hexdigest(), wide
        if key not in self.said:
            self.said[key] = self.model.transcribe(
                samples, language, should_abort, wide=wide, prompt=prompt, translate=translate
            )
        return self.said[key]
