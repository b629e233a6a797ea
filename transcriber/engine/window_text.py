"""One window's text. In: its job and the model. Out: the transcript, its text perhaps held back.

A window whose text is doubtful is transcribed once more, and, where all of it would be held back, a third time with less left context; text
that then is still doubtful is held back. Of a text whose last phrase is
written in a moment in which nobody can have said it, only that phrase is left out.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from transcriber.audio.window import OVERLAP_S
from transcriber.config.sizing import MIN_AUDIO_CTX, POSITIONS_PER_SECOND, SPARE_POSITIONS
from transcriber.engine.hallucination import WEAK_SPEECH_PROB, Doubt, doubt_of_new, said_in_time, suppression
from transcriber.engine.job import WHISPER_SAMPLE_RATE, Job, SpeechModel
from transcriber.engine.prompt import SpeakerHistory
from transcriber.engine.transcript import Transcript
from transcriber.errors import EngineError
from transcriber.schema.messages import Suppressed

PARTIAL_S = (MIN_AUDIO_CTX - SPARE_POSITIONS) / POSITIONS_PER_SECOND
"""A partial must be quick: it gets no more audio than the least encoder context holds."""

SHORTER_LEAD = 1 / 3
"""Of the left context, for the third time. A loop depends on where the audio begins: of spelt names and of words that tiny.en does not know
two windows of 156 of dialogues end in one, at both contexts, and neither does with 2.5 instead of 7.5 s."""

SLIP_S = 1.0
"""New words are recognised by their times, which are wrong by up to this."""


def transcribe_window(
    model: SpeechModel,
    job: Job,
    should_abort: Callable[[], bool],
    *,
    language: str | None = None,
    under_load: bool = False,
    skip_lead: bool = False,
) -> Transcript:
    """Transcribe ``job``, in ``language`` if the job has none. Worker thread only.

    ``under_load``: other jobs wait, so transcribe once. ``skip_lead``: leave out most of the left context.

    Raises:
        EngineError: whisper failed, or was aborted.
    """
    history = job.history or SpeakerHistory()
    # The model may be another one than that for which the language was given or found.
    language = next((one for one in (job.language, language, history.language) if one and model.supports(one)), None)
    lead_s = min(job.lead_s, _most_lead_s(job, skip_lead=skip_lead or not history.allows_left_context(language)))
    prompt = job.prompt_for(language)

    def run(lead_s: float, *, prompt: str = "", wide: bool = False) -> Transcript:
        samples = job.samples[round((job.lead_s - lead_s) * WHISPER_SAMPLE_RATE) :]
        answer = model.transcribe(
            samples,
            language,
            should_abort,
            wide=wide,
            prompt=prompt,
            translate=job.translate,
            greedy=job.prefers_speed,  # quick, and two partials of the same words agree
        )
        return replace(answer, lead_s=lead_s)

    answer = run(lead_s, prompt=prompt)
    if not under_load and not job.prefers_speed:
        # At a wide context and without a prompt: either may be the cause.
        may_help = (model.tight and not answer.wide) or bool(prompt)
        if may_help and (answer.ends_hurried or not _believed(answer, job)):
            answer = _better(answer, job, partial(run, lead_s, wide=True))
        shorter_s = max(OVERLAP_S, SHORTER_LEAD * lead_s)
        if shorter_s < lead_s and _says_nothing_of_speech(answer, job):
            answer = _better(answer, job, partial(run, shorter_s))
    kept = answer.without_hurried_end()
    reason = _suppression(kept, job)
    if answer.without_lead().words and not kept.without_lead().words:
        reason = reason or "rate"
    return replace(kept, text="", words=(), suppressed=reason) if reason else kept


def _most_lead_s(job: Job, *, skip_lead: bool) -> float:
    if skip_lead:
        return OVERLAP_S
    return max(OVERLAP_S, PARTIAL_S - job.duration_s) if job.prefers_speed else math.inf


def _better(first: Transcript, job: Job, run_again: Callable[[], Transcript]) -> Transcript:
    """The better of two transcripts."""
    try:
        second = run_again()
    except EngineError:
        return first
    better = max(second, first, key=lambda answer: _belief(answer, job))
    return replace(better, redone=True, processing_s=first.processing_s + second.processing_s)


def _suppression(transcript: Transcript, job: Job) -> Suppressed | None:
    """Why the text of ``job`` is held back: the whole is not credible, or its new words are not.

    The left context was mostly transcribed well. Together with it, hallucinated words look likely, and slow enough.
    """
    judge = partial(suppression, speech_prob=job.speech_prob)
    # How much of the left context is speech is not known: perhaps all.
    speech_s = None if job.speech_s is None else job.speech_s + transcript.lead_s
    new, doubted = transcript.without_lead(), transcript.doubt
    if not transcript.lead_s or not new.words:
        return judge(transcript.text, transcript.avg_logprob, doubted, speech_s=speech_s)
    if doubted == "repetition" and speech_s is not None and said_in_time(transcript.text, speech_s):
        doubted = None  # the new words decide
    return judge(transcript.text, transcript.avg_logprob, doubted, speech_s=speech_s) or judge(
        new.text,
        new.avg_logprob,
        _doubt_of_new(transcript),
        speech_s=None if job.speech_s is None else job.speech_s + SLIP_S,
    )


def _doubt_of_new(transcript: Transcript) -> Doubt | None:
    """Why the new words of a transcript with left context may be wrong."""
    new = transcript.without_lead()
    if not transcript.lead_s or not new.words:
        return None
    return doubt_of_new([word.word for word in new.words], new.avg_logprob, transcript.doubt)


def _believed(transcript: Transcript, job: Job) -> bool:
    """Whether there is no doubt; a decode that gave up has no text to hold back, and is doubtful all the same."""
    return not (transcript.doubt or _doubt_of_new(transcript) or _suppression(transcript, job))


def _says_nothing_of_speech(transcript: Transcript, job: Job) -> bool:
    """Whether a doubtful transcript would be held back, or is empty, where the detector is sure of speech."""
    sure = job.speech_prob is not None and job.speech_prob >= WEAK_SPEECH_PROB
    believed, shown, *_ = _belief(transcript, job)
    return sure and not (believed or shown)


def _belief(transcript: Transcript, job: Job) -> tuple[bool, bool, bool, float]:
    """Whether what would be published of it is credible, whether that is anything, whether it is all, and how sure the model is of it."""
    kept = transcript.without_hurried_end()
    shown = bool(kept.text) and not _suppression(kept, job)
    avg_logprob = -math.inf if kept.avg_logprob is None else kept.avg_logprob
    return _believed(kept, job), shown, not transcript.ends_hurried, avg_logprob
