"""What is kept of one speaker of a session from window to window: a channel that is heard apart, or all of them mixed.

In: what became of its windows. Out: the words that are its own, and when a partial is due.
"""

from transcriber.audio.session import Window
from transcriber.audio.window import WindowCutter
from transcriber.engine.agreement import Agreement
from transcriber.engine.context import Context
from transcriber.engine.job import Transcript
from transcriber.engine.seam import Heard, Seam, written
from transcriber.messages import SpeakerState

MAX_QUIET = 64
"""Ranges without a word that are kept apart: far more than windows that can wait for their text."""


class Speaker:
    """Event loop only.

    Attributes:
        context: what was said, as prompt for the next window; None when that is switched off.
        rev: of the latest partial of the open window; 0 before the first.
    """

    def __init__(self, *, with_context: bool, state: SpeakerState | None = None) -> None:
        """A speaker who has not been heard yet, or as another daemon stored it."""
        self.context = Context(state.said if state else "") if with_context else None
        self.rev = 0
        self._quiet: list[tuple[int, int]] = []  # where there was no word, and for how many frames: after the last word
        self._seam = Seam(Heard(state.seam[0], list(state.seam[1]), state.seam[2]) if state and state.seam else None)
        self._number = 0  # of the window that partials are made of
        self._agreement = Agreement()
        self._asked_s = 0.0  # how much of it the latest partial was asked for
        self._asked_speech = -1

    def state(self) -> SpeakerState:
        """What another daemon needs to know of it."""
        seam = self._seam.before
        return SpeakerState(
            said=self.context.text if self.context else "",
            seam=(seam.number, tuple(seam.words), seam.written) if seam else None,
        )

    def due(self, number: int, cutter: WindowCutter, interval_s: float) -> bool:
        """Whether there is enough news in open window ``number`` for another partial."""
        if number != self._number:
            self._number, self._agreement, self.rev = number, Agreement(), 0
            self._asked_s, self._asked_speech = 0.0, -1
        # Silence after what was said is no news.
        return cutter.open_s - self._asked_s >= interval_s and cutter.spoken and cutter.last_speech > self._asked_speech

    def asked(self, cutter: WindowCutter) -> None:
        """A partial is being made of all that the open window holds."""
        self._asked_s, self._asked_speech = cutter.open_s, cutter.last_speech

    def partial(self, window: Window, transcript: Transcript) -> Transcript | None:
        """What to show of a pass over the open window; None if it is no longer open, or there is nothing to show."""
        # A pass that is not believed has nothing to say, least of all that the words before it were wrong.
        if window.number != self._number or transcript.suppressed:
            return None
        own = self._seam.own(transcript, window.number, lead_s=window.cut.lead_s)
        words = None if own.words is None else self._agreement.follow(own.words)
        text = own.text if words is None else written(words, own.language)
        if not text:
            return None
        self.rev += 1
        return own.with_words(text, words)

    def final(self, window: Window, transcript: Transcript) -> Transcript:
        """What a window says, without the words of its neighbours."""
        cut, duration_s = window.cut, window.frames / window.session.rate
        if transcript.text:
            # Silence is known at once, and text only later: some of it may lie after these words.
            self._quiet = [(start, frames) for start, frames in self._quiet if start > window.start_frame]
        else:
            self._add_quiet(window.start_frame, window.frames)
        return self._seam.close(transcript, window.number, lead_s=cut.lead_s, tail_s=cut.tail_s, duration_s=duration_s)

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

    def _add_quiet(self, start_frame: int, frames: int) -> None:
        start, before = self._quiet[-1] if self._quiet else (0, 0)
        if before and start + before == start_frame:
            self._quiet[-1] = start, before + frames
        else:
            self._quiet.append((start_frame, frames))
        if len(self._quiet) > MAX_QUIET:  # holes split it
            (start, frames), (_, more), *rest = self._quiet
            self._quiet = [(start, frames + more), *rest]
