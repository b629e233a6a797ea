"""The payloads that a windower took, and where audio resumes after an event: the first payload that must be read again.

In: payloads, as they are taken. Out: resume points of the stream.
"""

from collections import deque
from datetime import datetime
from typing import NamedTuple

from transcriber.audio.contention import Contenders
from transcriber.audio.offsets import OffsetsSnapshot
from transcriber.audio.resume_point import ChannelResumePoint, replay_from
from transcriber.audio.session import Session
from transcriber.durable.checkpoint import StreamResumePoint


class TakenPayload(NamedTuple):
    """A payload of the open session.

    Attributes:
        seq: its stream sequence.
        before, clock: the session's clock before it, and where its frames begin: there is a hole between, or nothing.
        received, offsets: those of the session before it; None: there were none yet.
        contenders: who published before it.
        heard_before: when audio was last stored before it.
    """

    seq: int
    before: int
    clock: int
    received: int
    offsets: OffsetsSnapshot | None
    contenders: Contenders | None
    heard_before: datetime | None


class TakenPayloads:
    """Those of the open session, from the first that a replay would need. Event loop only.

    Attributes:
        last_seq: of the last payload taken, of any session.
    """

    def __init__(self, last_seq: int) -> None:
        self.last_seq = last_seq
        self._payloads: deque[TakenPayload] = deque()

    def append(self, payload: TakenPayload) -> None:
        """One more of the open session."""
        self._payloads.append(payload)

    def begin(self, payload: TakenPayload) -> None:
        """The first of a new session."""
        self._payloads = deque([payload])

    def holding(self, session: Session, frame: int, upcoming: TakenPayload) -> TakenPayload:
        """The payload that holds ``frame``, or the hole before it; ``upcoming``, the next one to be taken, if none does."""
        ends = [*(payload.before for payload in self._payloads), session.clock][1:]
        pairs = zip(self._payloads, ends, strict=True)
        return next((payload for payload, end in pairs if end > frame), upcoming)

    def resume_point(
        self,
        session: Session,
        channels: tuple[ChannelResumePoint, ...],
        upcoming: TakenPayload,
        *,
        flushed_at: int | None,
        ending: bool,
        language: str | None,
        prompt: str,
    ) -> StreamResumePoint:
        """Where audio resumes if the next windows begin at ``channels``; what is before is forgotten.

        ``upcoming`` is the next payload to be taken; ``flushed_at`` as in a ``SessionResumePoint``; ``ending``: only the session's end follows; ``language`` and ``prompt`` are
        what the publisher has set by now.
        """
        frame = min(replay_from(channel, session.rate) for channel in channels)
        first = self.holding(session, frame, upcoming)
        while self._payloads and self._payloads[0].seq < first.seq:
            self._payloads.popleft()
        # What begins before a hole, or within it, resumes there, and the payload after the hole shows it again.
        clock = first.clock if frame >= first.clock else first.before
        return StreamResumePoint(
            first.seq,
            session,
            clock,
            first.contenders,
            first.heard_before,
            channels,
            first.received,
            first.offsets or (session.offsets.initial if session.offsets else None),
            session.capture(clock),
            session.skipped_at,
            flushed_at,
            # The payload that ended it is not read again.
            ending=ending and first.seq > self.last_seq,
            language=language,
            prompt=prompt,
        )


def known_offsets(session: Session) -> OffsetsSnapshot | None:
    """What the session knows of its publisher's offsets."""
    return session.offsets.snapshot if session.offsets else None
