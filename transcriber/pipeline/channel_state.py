"""What is kept of one speaker of a session from window to window: a channel that is heard apart, or all of them mixed.

In: what became of its windows. Out: the words that are its own, and when a partial is partial_due.
"""

import numpy as np

from transcriber.audio.session import Window
from transcriber.audio.window import OVERLAP_S, WindowCutter
from transcriber.config import Settings
from transcriber.engine.language_evidence import Spoken
from transcriber.engine.prompt import Context, Trail
from transcriber.engine.transcript import Transcript, written
from transcriber.pipeline.left_context import LeftContext, TranscribedRange, Written
from transcriber.pipeline.local_agreement import LocalAgreement
from transcriber.pipeline.pauses import FRAME_S, Pauses, spoken_ranges
from transcriber.schema.messages import SpeakerState, SpokenState, WrittenState

MAX_QUIET = 64
"""Ranges without a word that are kept apart: far more than windows that can wait for their text."""

REACH_S = 1.0
"""Times slip: so much further back than a window hears, what was written is kept."""


class ChannelState:
    """Event loop only.

    Attributes:
        context: what was said, as prompt for the next window; None when that is switched off.
        trail: says whether the next window may be heard together with what came before.
        spoken: what is known of the language, as of the last window that was told.
        rev: of the latest partial of the open window; 0 before the first.
    """

    def __init__(self, settings: Settings, state: SpeakerState | None = None) -> None:
        """A speaker who has not been heard yet, or as another daemon stored it."""
        with_context = settings.whisper_context == "prompt"
        self.context = Context(state.said if state else "") if with_context else None
        self.rev = 0
        self._threshold = settings.speech_threshold
        self._quiet: list[tuple[int, int]] = []  # where there was no word, and for how many frames: after the last word
        before = Written(**state.written.model_dump()) if state else Written()
        left_s, hold_back_s = settings.cutting.left_s, settings.hold_back_s
        self._left_context = LeftContext((left_s or OVERLAP_S) + REACH_S, hold_back_s, before)
        self.spoken = Spoken(**state.spoken.model_dump()) if state else Spoken()
        self.trail = Trail(sure=before.sure, language=before.language, spoken=self.spoken)
        self._failed: list[int] = []  # numbers of windows without text, as long as no later one has any
        self._number = 0  # of the window that partials are made of
        self._agreement = LocalAgreement()
        self._partial_s = 0.0  # how much of it the latest partial was partial_requested for
        self._partial_speech = self._closing_speech = -1

    def state(self) -> SpeakerState:
        """What another daemon needs to know of it."""
        self._forget_failed()
        return SpeakerState(
            said=self.context.text if self.context else "",
            written=WrittenState(**self._left_context.before._asdict()),
            spoken=SpokenState(**self.spoken._asdict()),
        )

    def partial_due(self, number: int, cutter: WindowCutter, interval_s: float) -> bool:
        """Whether there is enough news in open window ``number`` for another partial."""
        self._open_window(number)
        # Silence after what was said is no news.
        news = cutter.spoken and cutter.last_speech > self._partial_speech
        return news and cutter.open_s - self._partial_s >= interval_s and not cutter.pauses

    def closes(self, number: int, cutter: WindowCutter) -> bool:
        """Whether open window ``number`` ends as it is unless somebody speaks again, and nobody has partial_requested for that yet."""
        self._open_window(number)
        return cutter.closing and cutter.last_speech > self._closing_speech

    def partial_requested(self, cutter: WindowCutter, *, ahead: bool = False) -> None:
        """A partial is being made of all that the open window holds; ``ahead``: as of one that closes."""
        self._partial_s, self._partial_speech = cutter.open_s, cutter.last_speech
        if ahead:
            self._closing_speech = cutter.last_speech

    def _open_window(self, number: int) -> None:
        if number != self._number:
            self._number, self._agreement, self.rev = number, LocalAgreement(), 0
            self._partial_s, self._partial_speech, self._closing_speech = 0.0, -1, -1

    def partial(self, window: Window, transcript: Transcript) -> Transcript | None:
        """What to show of a pass over the open window; None if it is no longer open, or there is nothing to show."""
        # A pass that is not believed has nothing to say, least of all that the words before it were wrong.
        if window.number != self._number or transcript.suppressed:
            return None
        own = self._left_context.new_text(transcript, self._transcribed_range(window, transcript))
        words = None if own.words is None else self._agreement.follow(own.words)
        text = own.text if words is None else written(words, own.language)
        if not text:
            return None
        self.rev += 1
        return own.with_words(text, words)

    def final(self, window: Window, transcript: Transcript, *, again: bool = False) -> Transcript:
        """What a window says, without the words of its neighbours.

        ``again``: the one after it has been told, and will not say what this one holds back.
        """
        if transcript.text:
            # Silence is known at once, and text only later: some of it may lie after these words.
            self._quiet = [(start, frames) for start, frames in self._quiet if start > window.start_frame]
        else:
            self._add_quiet(window.start_frame, window.frames)
        self._forget_failed(window.number)
        self.spoken = transcript.spoken or self.spoken
        return self._left_context.close_window(transcript, self._transcribed_range(window, transcript), again=again)

    def failed(self, window: Window, reason: str) -> None:
        """A window has no text: it was not heard."""
        self._failed.append(window.number)
        if reason != "queue_full":  # what it holds may do the same to the next one
            self.trail.follow(None)

    def silence(self, start_frame: int, frames: int) -> None:
        """So many frames without speech."""
        self._add_quiet(start_frame, frames)
        self.interrupted()

    @property
    def quiet_frames(self) -> int:
        """Frames since the last word, as far as is known."""
        return sum(frames for _, frames in self._quiet)

    def interrupted(self) -> None:
        """What comes does not follow upon what was said: something is missing, or was silent."""
        if self.context:
            self.context.drop()

    def _forget_failed(self, before: int | None = None) -> None:
        """What comes after a window that was not heard does not follow upon what was written. All are told up to number ``before``."""
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
        """Where the answer to a window lies, and where nobody speaks in it."""
        cut, rate = window.cut, window.session.rate
        start_s, end_s = window.start_frame / rate, (window.start_frame + window.frames) / rate
        pauses = Pauses()
        if cut.speech is not None:
            before = () if cut.speech_before is None else cut.speech_before
            first_s = start_s - FRAME_S * len(before)
            speech = spoken_ranges(np.concatenate((before, cut.speech)), self._threshold, first_s)
            pauses = Pauses(transcript.phrases_from(start_s), speech, (first_s, end_s))
        return TranscribedRange(start_s, end_s, transcript.lead_s, cut.tail_s, cut.goes_on, pauses)
