"""One window in the spoken language. In: its job and the model. Out: its transcript, with the language evidence so far.

Until the language is sure, each window costs one more encoder run; then only a window whose text is unlikely does.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from transcriber.engine.hallucination import WEAK_SPEECH_PROB
from transcriber.engine.job import WHISPER_SAMPLE_RATE, Job, MultilingualModel, SpeechModel
from transcriber.engine.language_evidence import LanguageEvidence, LanguageProbabilities
from transcriber.engine.transcript import Transcript
from transcriber.engine.window_text import transcribe_window
from transcriber.errors import EngineError

DOUBTED_AVG_LOGPROB = -0.6
"""Text that is less likely may be in another language."""

Transcribe = Callable[..., Transcript]


def transcribe_job(
    model: SpeechModel, job: Job, should_abort: Callable[[], bool], *, under_load: bool = False, skip_lead: bool = False
) -> Transcript:
    """Transcribe ``job``, and detect its language if that is not given. Worker thread only.

    ``under_load``: other jobs wait, so do only what is needed. ``skip_lead``: leave out most of the left context.

    Raises:
        EngineError: whisper failed, or was aborted.
    """
    transcribe: Transcribe = partial(
        transcribe_window, model, job, should_abort, under_load=under_load, skip_lead=skip_lead
    )
    given = job.language is not None and model.supports(job.language)  # that of another model may be none of this one's
    if given or not isinstance(model, MultilingualModel):
        return transcribe()
    before = job.history.spoken if job.history else LanguageEvidence()
    if before.language and not model.supports(before.language):
        before = LanguageEvidence()
    if before.language and (under_load or job.prefers_speed):
        return replace(transcribe(language=before.language), spoken=before)
    detect = partial(_detect, model, job, should_abort)
    run = _transcribe_sure if before.sure else _transcribe_unsure
    return run(job, before, transcribe, detect)


def _transcribe_unsure(
    job: Job, before: LanguageEvidence, transcribe: Transcribe, detect: Callable[[], LanguageProbabilities]
) -> Transcript:
    """The language is not sure yet."""
    detected = detect()
    after = before.with_window(detected.probabilities, _speech_s(job))
    language = after.language or detected.likeliest
    answer = transcribe(language=language)
    # A text held back because it was decoded in the wrong language is evidence all the same.
    counts = _is_speech(job, answer) or detected.likeliest != language
    return replace(answer, spoken=after if counts else before, processing_s=answer.processing_s + detected.processing_s)


def _transcribe_sure(
    job: Job, before: LanguageEvidence, transcribe: Transcribe, detect: Callable[[], LanguageProbabilities]
) -> Transcript:
    """The language was sure; unlikely text is a reason to detect it again."""
    answer = transcribe(language=before.language)
    unlikely = answer.avg_logprob is not None and answer.avg_logprob < DOUBTED_AVG_LOGPROB
    if not (unlikely or answer.suppressed or answer.doubt):
        return replace(answer, spoken=before.with_likely_window())
    detected = detect()
    after = before.with_doubtful_window(detected.probabilities, _speech_s(job))
    processing_s = answer.processing_s + detected.processing_s
    if after.language != before.language:
        other = transcribe(language=after.language)
        processing_s += other.processing_s
        # Either another language explains the speech, or it was no speech.
        answer, after = (other, after) if _likelier(job, other, answer) else (answer, before._replace(scores=()))
    return replace(answer, spoken=after, processing_s=processing_s)


def _likelier(job: Job, other: Transcript, answer: Transcript) -> bool:
    """Whether the transcript in another language is more credible."""
    if other.avg_logprob is None or not _is_speech(job, other):
        return False
    return answer.avg_logprob is None or not _is_speech(job, answer) or other.avg_logprob > answer.avg_logprob


def _detect(model: MultilingualModel, job: Job, should_abort: Callable[[], bool]) -> LanguageProbabilities:
    """Detect on the window alone: its left context may be in another language."""
    if should_abort():
        raise EngineError("aborted before it began")
    return model.detect(job.samples[round(job.lead_s * WHISPER_SAMPLE_RATE) :], should_abort)


def _is_speech(job: Job, answer: Transcript) -> bool:
    """Whether there was speech: noise has a detected language, too, but no credible words."""
    # What the detector is sure of may be hard to transcribe.
    hard = answer.suppressed == "log_probability" and job.speech_prob is not None
    return bool(answer.text) or hard


def _speech_s(job: Job) -> float:
    """Seconds of sure speech; of the whole window without a detector."""
    if job.speech_prob is not None and job.speech_prob < WEAK_SPEECH_PROB:
        return 0.0
    return job.duration_s if job.speech_s is None else job.speech_s
