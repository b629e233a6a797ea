"""What is told of one session.

In: what happened to it. Out: its ``status``, ``final``, ``gap`` and ``end``, for the publisher.
"""

import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from transcriber.audio.session import Gap, Session, Window
from transcriber.bus.publisher import Publisher
from transcriber.engine.context import Context
from transcriber.engine.job import Job, Transcript
from transcriber.messages import End, Final, Gap as GapMessage, Status, StreamState, Timing, Word
from transcriber.telemetry import session_traceparent


class SessionReport:
    """Everything that is published of one session goes through here. Event loop only.

    Attributes:
        language: what its windows are to be heard as; None to detect.
        context: what was said, as prompt for its next window; None when that is switched off.
        parent: ``traceparent`` of the latest payload that had one.
        stalled, silent: states that were told.
        quiet_frames: frames since the last word.
        counted_overlap: frames that came twice, as far as they are counted.
    """

    def __init__(self, stream: str, session: Session, language: str | None, publisher: Publisher) -> None:
        self.language = language
        self.context: Context | None = None
        self.parent: str | None = None
        self.stalled = self.silent = False
        self.quiet_frames = self.counted_overlap = 0
        self._stream = stream
        self._session = session
        self._publisher = publisher
        self._own_traceparent = session_traceparent(stream, session.id)
        # Several of these can lie at one frame; their ids must differ all the same.
        self._statuses = self._unknown_gaps = 0

    def status(self, state: StreamState, frame: int | None = None) -> None:
        """The state changed at ``frame``; default: now."""
        at = self._session.clock if frame is None else frame
        self._put(Status(**self._range(at, 0, datetime.now(UTC)), state=state), rev=self._statuses)
        self._statuses += 1

    def gap(self, gap: Gap, received_at: datetime, traceparent: str | None = None) -> None:
        self._unknown_gaps += not gap.frames
        message = GapMessage(**self._range(gap.start_frame, gap.frames, received_at), reason=gap.reason)
        self._put(message, rev=0 if gap.frames else self._unknown_gaps, traceparent=traceparent)

    def final(
        self,
        window: Window,
        job: Job,
        transcript: Transcript,
        *,
        model: str,
        received_at: datetime,
        traceparent: str,
        record: Callable[[Timing], None],
    ) -> None:
        """``record`` gets the timing, which is whole only when the message is sent."""

        def build() -> Final:
            timing = _timing(job, transcript)
            record(timing)
            return Final(
                **self._range(window.start_frame, window.frames, received_at),
                segment=window.number,
                rev=0,
                text=transcript.text,
                suppressed=transcript.suppressed,
                words=_words(transcript, window.start_frame / self._session.rate),
                language=transcript.language,
                confidence=None if transcript.avg_logprob is None else math.exp(transcript.avg_logprob),
                avg_logprob=transcript.avg_logprob,
                no_speech_prob=transcript.no_speech_prob,
                speech_final=False,
                speaker=None,
                model=model,
                timing=timing,
                captured_at=window.captured_at,
            )

        self._publisher.put(build, traceparent)

    def end(self) -> None:
        """The session's account; the last of its messages."""
        session = self._session
        account = {
            "received": session.received,
            "lost": session.lost,
            "transcribed": session.transcribed,
            "silent": session.silent,
            "dropped": session.dropped,
        }
        self._put(
            End(
                **self._range(0, session.clock, datetime.now(UTC)),
                segments=session.segments,
                **{f"{name}_frames": frames for name, frames in account.items()},
                **{f"{name}_s": frames / session.rate for name, frames in account.items()},
            )
        )

    def _put(self, message: Status | GapMessage | End, *, rev: int = 0, traceparent: str | None = None) -> None:
        self._publisher.put(lambda: message, traceparent or self.parent or self._own_traceparent, rev)

    def _range(self, start_frame: int, frames: int, received_at: datetime) -> dict[str, Any]:
        """The fields that every message has."""
        rate = self._session.rate
        return {
            "stream": self._stream,
            "session": self._session.id,
            "rate": rate,
            "start_frame": start_frame,
            "frames": frames,
            "start": start_frame / rate,
            "duration": frames / rate,
            "received_at": received_at,
        }


def _timing(job: Job, transcript: Transcript) -> Timing:
    """Where the time went, if the message goes to the client now."""
    now_s = time.monotonic()
    return Timing(
        queue_ms=1000 * (job.started_s - job.enqueued_s),
        processing_ms=1000 * transcript.processing_s,
        handover_ms=1000 * (now_s - job.finished_s),
        end_to_end_ms=1000 * (now_s - job.arrived_s),
        rtf=transcript.processing_s / job.duration_s,
    )


def _words(transcript: Transcript, start_s: float) -> tuple[Word, ...] | None:
    """The words in seconds of the session; the window begins at ``start_s``."""
    if transcript.words is None:
        return None
    return tuple(
        Word(word=w.word, start=start_s + w.start_s, end=start_s + w.end_s, confidence=w.confidence)
        for w in transcript.words
    )
