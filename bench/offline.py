"""What the daemon would say of a session's windows, if it had time enough: without a broker and without a queue.

In: windows of one channel, in order. Out: for each what its ``final`` would say.
"""

from transcriber.audio.session import Window
from transcriber.audio.speech import speech_probability, speech_seconds
from transcriber.bus.speaker import Speaker
from transcriber.config import Settings
from transcriber.engine.ask import ask
from transcriber.engine.job import Job, Outcome, SpeechModel, Transcript


class Offline:
    """One session."""

    def __init__(self, model: SpeechModel, settings: Settings, language: str) -> None:
        self._model, self._settings, self._language = model, settings, language
        self._speaker = Speaker(settings)

    def hear(self, window: Window) -> Transcript:
        speech = window.cut.speech
        job = Job(
            stream=window.session.id,
            samples=window.cut.samples,
            language=self._language,
            settle=_nobody_waits,
            lead_s=window.cut.lead_s,
            context=self._speaker.context,
            trail=self._speaker.trail,
            speech_s=None if speech is None else speech_seconds(speech, self._settings.speech_threshold),
            speech_prob=None if speech is None else speech_probability(speech),
        )
        answer = ask(self._model, job, _never)
        job.followed(answer)
        return self._speaker.final(window, answer)


def _nobody_waits(_job: Job, _outcome: Outcome) -> None:
    pass


def _never() -> bool:
    return False
