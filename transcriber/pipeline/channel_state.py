"""State of one speaker of a session from window to window: a channel that is transcribed separately, or all of them mixed.

In: transcripts of its windows. Out: the words that are new, and when a partial is due.
"""

from base64 import b64decode, b64encode

import numpy as np

from transcriber.audio.session import Window
from transcriber.audio.window import OVERLAP_S
from transcriber.audio.window_cutter import WindowCutter
from transcriber.config import Settings
from transcriber.diarization.job_speakers import ChannelVoices, JobSpeakers, passage_speakers, window_speakers
from transcriber.diarization.live_labeller import LiveLabeller
from transcriber.diarization.voices import KnownVoice, KnownVoices
from transcriber.engine.job import Job, Lane
from transcriber.engine.language_evidence import LanguageEvidence
from transcriber.engine.prompt import SpeakerHistory, SpeakerPrompt
from transcriber.engine.transcript import Transcript, text_of
from transcriber.pipeline.left_context import LeftContext, TranscribedRange, Written
from transcriber.pipeline.local_agreement import LocalAgreement
from transcriber.pipeline.pauses import FRAME_S, Pauses, spoken_ranges
from transcriber.schema.checkpoint import SpeakerState, SpokenState, VoiceState, WrittenState

MAX_QUIET = 64
"""Ranges without a word that are kept separately: far more than windows that can have text pending."""

VECTOR_BYTES = 384
"""Of a voice as it is stored: 192 float16."""

REACH_S = 1.0
"""Word times are imprecise: published words are kept for so much longer than a window's left context."""


class ChannelState:
    """Event loop only.

    Attributes:
        context: text so far, as prompt for the next window; None when that is switched off.
        trail: says whether the next window may be transcribed together with its left context.
        spoken: what is known of the language, as of the last window that was published.
        known: the voices as of then.
        rev: of the latest partial of the open window; 0 before the first.
    """

    def __init__(self, settings: Settings, state: SpeakerState | None = None) -> None:
        """A new speaker, or one as another daemon stored it."""
        with_context = settings.whisper_context == "prompt"
        self.prompt = SpeakerPrompt(state.said if state else "") if with_context else None
        self.rev = 0
        self._quiet: list[tuple[int, int]] = []  # first frame and length of ranges without words, after the last word
        before = Written(**state.written.model_dump()) if state else Written()
        self._left_context = LeftContext(OVERLAP_S + REACH_S, settings.hold_back_s, before, settings.most_held_back_s)
        self.spoken = LanguageEvidence(**state.spoken.model_dump()) if state else LanguageEvidence()
        self.known: KnownVoices = known_voices(state) if state else ()
        self._voices = ChannelVoices(self.known)  # as of the last window that the worker labelled
        self.history = SpeakerHistory(sure=before.sure, language=before.language, spoken=self.spoken)
        self._failed: list[int] = []  # numbers of windows that failed, while no later one has text
        self._number = 0  # of the window that partials are of
        self._agreement = LocalAgreement()
        self._partial_s = 0.0  # how much of it the latest partial covers
        self._partial_speech = self._closing_speech = -1

    def state(self) -> SpeakerState:
        """What another daemon needs to resume."""
        self._forget_failed()
        return SpeakerState(
            said=self.prompt.text if self.prompt else "",
            written=WrittenState(**self._left_context.before._asdict()),
            spoken=SpokenState(**self.spoken._asdict()),
            voices=tuple(
                VoiceState(vector=b64encode(one.vector).decode(), weight_s=one.weight_s) for one in self.known
            ),
        )

    def speakers_of(self, window: Window, lane: Lane, labeller: LiveLabeller | None) -> JobSpeakers | None:
        """Finds who speaks in a window, and which voices are known after it; None: nobody asks."""
        cut = window.cut
        if labeller is None or lane is Lane.PARTIAL:
            return None
        if lane is Lane.FINAL:
            return window_speakers(labeller, cut.samples, cut.lead_s, cut.tail_s, self._voices, window.number)
        return passage_speakers(labeller, cut.samples, self.known)  # of backfill: the windows after it are labelled

    def partial_due(self, number: int, cutter: WindowCutter, interval_s: float) -> bool:
        """Whether open window ``number`` has enough new speech for another partial."""
        self._open_window(number)
        # Silence after speech is nothing new.
        news = cutter.spoken and cutter.last_speech > self._partial_speech
        return news and cutter.open_s - self._partial_s >= interval_s and not cutter.pauses

    def closes(self, number: int, cutter: WindowCutter) -> bool:
        """Whether open window ``number`` ends as it is unless speech resumes, and that partial was not requested yet."""
        self._open_window(number)
        return cutter.closing and cutter.last_speech > self._closing_speech

    def partial_requested(self, cutter: WindowCutter, *, ahead: bool = False) -> None:
        """A partial of the whole open window was requested; ``ahead``: one that may become the final."""
        self._partial_s, self._partial_speech = cutter.open_s, cutter.last_speech
        if ahead:
            self._closing_speech = cutter.last_speech

    def _open_window(self, number: int) -> None:
        if number != self._number:
            self._number, self._agreement, self.rev = number, LocalAgreement(), 0
            self._partial_s, self._partial_speech, self._closing_speech = 0.0, -1, -1

    def partial(self, window: Window, transcript: Transcript) -> Transcript | None:
        """The text to publish of a pass over the open window; None if it is closed, or there is no text."""
        # A suppressed pass says nothing, least of all that the words before it were wrong.
        if window.number != self._number or transcript.suppressed:
            return None
        own = self._left_context.new_text(transcript, self._transcribed_range(window, transcript))
        words = None if own.words is None else self._agreement.follow(own.words)
        text = own.text if words is None else text_of(words, own.language)
        if not text:
            return None
        self.rev += 1
        return own.with_words(text, words)

    def final(
        self, window: Window, transcript: Transcript, job: Job | None = None, *, again: bool = False
    ) -> Transcript:
        """The text of a window, without the words of its neighbours; ``job`` may have found voices.

        ``again``: the next window is published already, and will not say what this one would hold back.
        """
        if transcript.text:
            # Silence is known at once, text only later: some silence may follow these words.
            self._quiet = [(start, frames) for start, frames in self._quiet if start > window.start_frame]
        else:
            self._add_quiet(window.start_frame, window.frames)
        self._forget_failed(window.number)
        self.spoken = transcript.spoken or self.spoken
        if job and isinstance(job.speakers, JobSpeakers) and job.speakers.known is not None:
            self.known = job.speakers.known
        # The window after it begins with as much left context.
        self._left_context.reach_s = (window.policy.left_context_s or OVERLAP_S) + REACH_S
        return self._left_context.close_window(transcript, self._transcribed_range(window, transcript), again=again)

    def failed(self, window: Window, reason: str) -> None:
        """A window was not transcribed."""
        self._failed.append(window.number)
        if reason != "queue_full":  # as left context its audio could make the next one fail, too
            self.history.record(None)

    def silence(self, start_frame: int, frames: int) -> None:
        """A window without speech."""
        self._add_quiet(start_frame, frames)
        self.interrupted()

    @property
    def quiet_frames(self) -> int:
        """Frames since the last word, as far as known."""
        return sum(frames for _, frames in self._quiet)

    def interrupted(self) -> None:
        """What follows does not continue the text so far: something is missing, or was silent."""
        if self.prompt:
            self.prompt.reset()

    def _forget_failed(self, before: int | None = None) -> None:
        """Drop left context after a window that failed. All windows up to number ``before`` are published."""
        if any(before is None or number < before for number in self._failed):
            self._left_context.interrupted()
            self._failed = [number for number in self._failed if before is not None and number > before]

    def _add_quiet(self, start_frame: int, frames: int) -> None:
        start, before = self._quiet[-1] if self._quiet else (0, 0)
        if before and start + before == start_frame:
            self._quiet[-1] = start, before + frames
        else:
            self._quiet.append((start_frame, frames))
        if len(self._quiet) > MAX_QUIET:  # holes split it
            (start, frames), (_, more), *rest = self._quiet
            self._quiet = [(start, frames + more), *rest]

    def _transcribed_range(self, window: Window, transcript: Transcript) -> TranscribedRange:
        """Which range the transcript of a window covers, with its pauses."""
        cut, rate = window.cut, window.session.rate
        start_s, end_s = window.start_frame / rate, (window.start_frame + window.frames) / rate
        pauses, silence_s = Pauses(), 0.0
        if cut.speech is not None:
            before = () if cut.speech_before is None else cut.speech_before
            first_s = start_s - FRAME_S * len(before)
            speech = spoken_ranges(np.concatenate((before, cut.speech)), window.policy.speech_threshold, first_s)
            pauses = Pauses(transcript.phrases_from(start_s), speech, (first_s, end_s))
            silence_s = end_s - speech[-1][1] if speech else end_s - first_s
        return TranscribedRange(start_s, end_s, transcript.lead_s, cut.tail_s, cut.goes_on, silence_s, pauses)


def known_voices(state: SpeakerState) -> KnownVoices:
    """The voices that another daemon stored; none if they are of another network."""
    known = tuple(KnownVoice(b64decode(one.vector), one.weight_s) for one in state.voices)
    return known if all(len(one.vector) == VECTOR_BYTES for one in known) else ()
