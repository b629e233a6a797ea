"""The second pass over a live stream: passages are transcribed again from memory, while the worker is idle.

In: what is published of the stream's sessions. Out: jobs for the worker, and revisions. Only the session's ``end`` waits for it, and
no longer than ``END_S`` and the run that is in progress then.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Protocol

from transcriber.audio.session import Gap, Session, Silence, Window
from transcriber.diarization.voices import KnownVoices
from transcriber.engine.job import Job, Lane, Outcome
from transcriber.engine.transcript import Transcript
from transcriber.engine.worker import Worker
from transcriber.pipeline.passages import Part, Passage, PassageAudio, Passages, audio_of
from transcriber.pipeline.revision import revise_text_or_speakers
from transcriber.schema.messages import SkippedRevision
from transcriber.telemetry import Counters

KEPT_S = 60.0
"""How long audio is kept after its text was published, and how much of it: 64 kB a second."""

END_S = 5.0
"""How long a session's ``end`` waits for its passages."""

MOST_TRIES = 3
"""Attempts at a passage, which more urgent jobs interrupt; then its text stays as published."""


class FinalsToRevise(Protocol):
    """Makes jobs of passages, and publishes revisions; ``StreamOutput`` is one."""

    counters: Counters

    def passage_job(
        self, session: Session, passage: Passage, sound: PassageAudio, settle: Callable[[Job, Outcome], None]
    ) -> Job: ...

    def known_voices(self, session: Session, channel: int) -> KnownVoices: ...

    def note_speakers(self, job: Job) -> None: ...

    def revised(self, session: Session, channel: int, passage: Passage, job: Job, transcript: Transcript) -> None: ...

    def end_if_complete(self, session: Session) -> None: ...


@dataclass(slots=True, eq=False)
class _Waiting:
    """A passage that is not transcribed again yet.

    Attributes:
        until_s: monotonic time at which it is given up.
        tries: how often it was given to the worker.
    """

    session: Session
    channel: int
    passage: Passage
    until_s: float
    tries: int = 0


class SecondPass:
    """Event loop only."""

    def __init__(self, worker: Worker, output: FinalsToRevise, *, voices: bool = False) -> None:
        """``voices`` are distinguished."""
        self._worker, self._output, self._voices = worker, output, voices
        self._sessions: dict[Session, list[Passages]] = {}  # by channel
        self._waiting: deque[_Waiting] = deque()
        self._running: _Waiting | None = None
        self._job: Job | None = None  # of that
        self._stopped = False

    def final(self, window: Window, own: Transcript, job: Job, message_id: str, received_at: datetime) -> None:
        """A window was published with the words of ``own``, as ``job`` has them."""
        if not self._stopped:
            part = Part.of_window(window, own, job, message_id, received_at)
            self._add(window.session, window.channel, self._passages_of(window.session)[window.channel].add(part))

    def silence(self, silence: Silence) -> None:
        if not self._stopped:
            found = self._passages_of(silence.session)[silence.channel].add(Part.of_silence(silence))
            self._add(silence.session, silence.channel, found)

    def gap(self, gap: Gap) -> None:
        """A gap that no window spans."""
        if not self._stopped:
            for channel, passages in enumerate(self._passages_of(gap.session)):
                if gap.channel in {None, channel}:
                    self._add(gap.session, channel, passages.gap(gap.start_frame, gap.frames))

    def holds(self, session: Session) -> bool:
        """Whether passages of ``session`` are pending; all of it is published but its end."""
        for channel, passages in enumerate(self._sessions.pop(session, ())):
            self._add(session, channel, [] if self._stopped else passages.end())
        left = [one for one in (*self._waiting, self._running) if one and one.session is session]
        for one in left:
            one.until_s = min(one.until_s, time.monotonic() + END_S)
        return bool(left)

    def start_next(self) -> None:
        """Give the next passage to the worker, if it is idle; give up those that have waited too long."""
        now_s = time.monotonic()
        # Giving up one may publish an end, which calls this again.
        while late := next((one for one in self._waiting if one.until_s <= now_s), None):
            self._waiting.remove(late)
            self._give_up(late, "busy")
        queue = self._worker.queue
        # Its job may wait behind others, perhaps a file of hours.
        if (late := self._running) and late.until_s <= now_s and self._job and queue.withdraw(self._job):
            self._running = self._job = None
            self._give_up(late, "busy")
        if self._waiting and not self._running and queue.idle and queue.has_room(Lane.SECOND_PASS):
            one = self._running = self._waiting.popleft()
            one.tries += 1
            # By now more voices may be known than when it was complete.
            one.passage = replace(one.passage, known=self._output.known_voices(one.session, one.channel))
            sound = audio_of(one.passage, [part.audio for part in one.passage.parts if part.audio])
            job = self._job = self._output.passage_job(
                one.session, one.passage, sound, partial(self._answered, one, sound)
            )
            if queue.try_put(job):
                self._retry(one)

    def stop(self) -> None:
        """Give up all passages, now and from now on."""
        self._stopped = True
        left, self._running, self._job = [*self._waiting, *([self._running] if self._running else [])], None, None
        self._waiting.clear()
        for one in left:
            self._give_up(one, "busy")

    def _passages_of(self, session: Session) -> list[Passages]:
        if session not in self._sessions:
            self._sessions[session] = [Passages(session.rate, voices=self._voices) for _ in range(session.channels)]
        return self._sessions[session]

    def _add(self, session: Session, channel: int, passages: list[Passage]) -> None:
        until_s = time.monotonic() + KEPT_S
        self._waiting.extend(_Waiting(session, channel, passage, until_s) for passage in passages)
        while sum(one.passage.frames / one.session.rate for one in self._waiting) > KEPT_S:
            self._give_up(self._waiting.popleft(), "busy")
        if passages:
            self.start_next()

    def _answered(self, one: _Waiting, sound: PassageAudio, job: Job, outcome: Outcome) -> None:
        """A passage's job is done, or was interrupted."""
        if one is not self._running:
            return
        self._job = None
        if not isinstance(outcome, Transcript):
            self._retry(one)
        else:
            self._running = None
            self._output.note_speakers(job)
            better = revise_text_or_speakers(one.passage, job, outcome, one.session.rate, sound)
            if isinstance(better, Transcript):
                self._output.revised(one.session, one.channel, one.passage, job, better)
                self._output.end_if_complete(one.session)
            else:
                self._give_up(one, better)
        self.start_next()

    def _retry(self, one: _Waiting) -> None:
        self._running = None
        if one.tries < MOST_TRIES:
            self._waiting.appendleft(one)
        else:
            self._give_up(one, "busy")

    def _give_up(self, one: _Waiting, why: SkippedRevision) -> None:
        """Count why; its text stays as published."""
        self._output.counters.revisions_left_out[why] += 1
        self._output.end_if_complete(one.session)
