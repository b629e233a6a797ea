"""Where a stream stands, to and fro between a daemon's memory and the messages that it stores."""

from dataclasses import dataclass, replace
from datetime import datetime

from transcriber.audio.contention import Claim, Contenders
from transcriber.audio.format import parse_content_type
from transcriber.audio.frame_account import FrameAccount
from transcriber.audio.offsets import Known
from transcriber.audio.session import ChannelResumePoint, Session, SessionResumePoint
from transcriber.audio.vad.detector import Network
from transcriber.config import Settings
from transcriber.pipeline.session_output import SessionOutput
from transcriber.schema.messages import (
    AccountState,
    Checkpoint,
    ClaimState,
    ContendersState,
    OffsetsState,
    PlaceState,
    SessionState,
)


@dataclass(frozen=True, slots=True)
class StreamResumePoint:
    """Where audio goes on after an event.

    Attributes:
        seq: of the first payload that must be read.
        session: the open one; None between sessions.
        clock: its frame at which that payload begins.
        contenders: who published before it.
        heard_at: when the payload with audio before it was stored.
        places, received, offsets, captured, skipped_at: as in a ``SessionResumePoint``.
        ending: whether the session has ended with what is told, but for its ``end``.
        language, prompt: what the publisher had said of them by then.
    """

    seq: int
    session: Session | None = None
    clock: int = 0
    contenders: Contenders | None = None
    heard_at: datetime | None = None
    places: tuple[ChannelResumePoint, ...] = ()
    received: int | None = None
    offsets: Known | None = None
    captured: tuple[int, datetime] | None = None
    skipped_at: int | None = None
    ending: bool = False
    language: str | None = None
    prompt: str = ""


def checkpoint(
    cursor: StreamResumePoint, report: SessionOutput | None, *, instance: str, attempts: int, owed_from: int | None
) -> Checkpoint:
    """What the next daemon needs, once all that was told of the session so far is stored."""
    return Checkpoint(
        instance=instance,
        seq=cursor.seq,
        attempts=attempts,
        owed_from=owed_from,
        session=_session_state(cursor, cursor.session, report) if cursor.session and report else None,
    )


def restored(state: SessionState, settings: Settings, network: Network | None) -> Session:
    """The session as it was after the stored message that ``state`` is of. Speakers stay as it began with them."""
    return Session(
        state.id,
        parse_content_type(state.format, settings.input),
        replace(settings.cutting, apart=len(state.places) > 1),
        network,
        max_hole_s=settings.max_hole_secs,
        bookmark=SessionResumePoint(
            clock=state.clock,
            places=tuple(ChannelResumePoint(**p.model_dump()) for p in state.places),
            account=FrameAccount.restored(state.account.model_dump()),
            received=state.received,
            offsets=_offsets(state),
            captured=state.captured,
            segments=state.segments,
            skipped_at=state.skipped_at,
        ),
    )


def cursor_of(found: Checkpoint, session: Session | None) -> StreamResumePoint:
    """The cursor from which ``found`` was made."""
    state = found.session
    if state is None:
        return StreamResumePoint(found.seq)
    return StreamResumePoint(
        found.seq, session, state.clock, contenders_of(state), state.heard_at, session.places if session else (),
        state.received, _offsets(state), state.captured, state.skipped_at, state.ending, state.language, state.prompt,
    )  # fmt: skip


def contenders_of(state: SessionState) -> Contenders | None:
    """Who published when ``state`` was."""
    found = state.contenders
    if found is None:
        return None
    other = None if found.other is None else Claim(**found.other.model_dump())
    return Contenders(Claim(**found.heard.model_dump()), found.heard_at_s, other, found.other_at_s, found.noticed)


def cut_loose(found: Checkpoint, seq: int) -> Checkpoint:
    """``found`` for when the audio it asks for is gone: the session goes on where the last of its windows ended."""
    if found.session is None:
        return found.model_copy(update={"seq": seq})
    end = max(place.frame for place in found.session.places)
    places = tuple(PlaceState(frame=end, lead=0, run_start=end, number=p.number) for p in found.session.places)
    state = found.session.model_copy(update={"clock": end, "received": None, "places": places})
    return found.model_copy(update={"seq": seq, "session": state})


def _session_state(cursor: StreamResumePoint, session: Session, report: SessionOutput) -> SessionState:
    return SessionState(
        id=session.id,
        format=session.format.content_type,
        clock=cursor.clock,
        received=cursor.received,
        offsets=OffsetsState(**cursor.offsets._asdict()) if cursor.offsets else None,
        contenders=_contenders_state(cursor.contenders),
        heard_at=cursor.heard_at,
        captured=cursor.captured,
        skipped_at=cursor.skipped_at,
        places=tuple(PlaceState(**place._asdict()) for place in cursor.places),
        account=AccountState(**session.account.snapshot()),
        segments=session.segments,
        ending=cursor.ending,
        language=cursor.language,
        prompt=cursor.prompt,
        **report.state(),
    )


def _offsets(state: SessionState) -> Known | None:
    return Known(**state.offsets.model_dump()) if state.offsets else None


def _contenders_state(now: Contenders | None) -> ContendersState | None:
    if now is None:
        return None
    return ContendersState(
        heard=ClaimState(**now.heard._asdict()),
        heard_at_s=now.heard_at_s,
        other=None if now.other is None else ClaimState(**now.other._asdict()),
        other_at_s=now.other_at_s,
        noticed=now.noticed,
    )
