"""Where a stream resumes: a resume point in a daemon's memory, a checkpoint in the messages that it stores."""

from dataclasses import dataclass
from datetime import datetime

from transcriber.audio.contention import Contenders, RecordingClaim
from transcriber.audio.format import parse_content_type
from transcriber.audio.frame_account import FrameAccount
from transcriber.audio.offsets import OffsetsSnapshot
from transcriber.audio.resume_point import ChannelResumePoint, SessionResumePoint
from transcriber.audio.session import Session
from transcriber.audio.vad.detector import Network
from transcriber.audio.window_policy import WindowPolicies
from transcriber.config import Settings
from transcriber.pipeline.session_output import SessionOutput
from transcriber.schema.checkpoint import (
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
    """Where audio resumes after an event.

    Attributes:
        seq: of the first payload that must be read.
        session: the open one; None between sessions.
        clock: its frame at which that payload begins.
        contenders: who published before it.
        heard_at: when the payload with audio before it was stored.
        channels: where each channel's next window begins.
        received, offsets, captured, skipped_at, flushed_at: as in a ``SessionResumePoint``.
        ending: whether of the session only its ``end`` is missing.
        language, prompt: what the publisher had set by then.
    """

    seq: int
    session: Session | None = None
    clock: int = 0
    contenders: Contenders | None = None
    heard_at: datetime | None = None
    channels: tuple[ChannelResumePoint, ...] = ()
    received: int | None = None
    offsets: OffsetsSnapshot | None = None
    captured: tuple[int, datetime] | None = None
    skipped_at: int | None = None
    flushed_at: int | None = None
    ending: bool = False
    language: str | None = None
    prompt: str = ""


def make_checkpoint(
    resume_point: StreamResumePoint,
    output: SessionOutput | None,
    *,
    instance: str,
    attempts: int,
    owed_from: int | None,
) -> Checkpoint:
    """What the next daemon needs, once all messages of the session up to here are stored."""
    session = resume_point.session
    return Checkpoint(
        instance=instance,
        seq=resume_point.seq,
        attempts=attempts,
        owed_from=owed_from,
        session=_session_state(resume_point, session, output) if session and output else None,
    )


def restore_session(
    state: SessionState, settings: Settings, policies: WindowPolicies, network: Network | None
) -> Session:
    """The session as it was after the stored message that ``state`` is of. Its speakers stay as it began with them."""
    return Session(
        state.id,
        parse_content_type(state.format, settings.input),
        policies,
        network,
        max_hole_s=settings.max_hole_secs,
        bookmark=SessionResumePoint(
            clock=state.clock,
            places=tuple(
                ChannelResumePoint(**channel.model_dump() | {"settings": tuple(sorted(channel.settings.items()))})
                for channel in state.places
            ),
            account=FrameAccount.restored(state.account.model_dump()),
            received=state.received,
            offsets=_offsets(state),
            captured=state.captured,
            segments=state.segments,
            skipped_at=state.skipped_at,
            flushed_at=state.flushed_at,
        ),
    )


def restore_resume_point(checkpoint: Checkpoint, session: Session | None) -> StreamResumePoint:
    """The resume point of which ``checkpoint`` was made; ``session`` is the restored one."""
    state = checkpoint.session
    if state is None:
        return StreamResumePoint(checkpoint.seq)
    return StreamResumePoint(
        checkpoint.seq, session, state.clock, restore_contenders(state), state.heard_at, session.places if session else (),
        state.received, _offsets(state), state.captured, state.skipped_at, state.flushed_at,
        state.ending, state.language, state.prompt,
    )  # fmt: skip


def restore_contenders(state: SessionState) -> Contenders | None:
    """Who published at the time of ``state``."""
    found = state.contenders
    if found is None:
        return None
    other = None if found.other is None else RecordingClaim(**found.other.model_dump())
    return Contenders(
        RecordingClaim(**found.heard.model_dump()), found.heard_at_s, other, found.other_at_s, found.noticed
    )


def without_audio(checkpoint: Checkpoint, seq: int) -> Checkpoint:
    """``checkpoint`` where the audio it needs is gone: the session resumes at ``seq``, at the end of its last window."""
    if checkpoint.session is None:
        return checkpoint.model_copy(update={"seq": seq})
    end = max(channel.frame for channel in checkpoint.session.places)
    channels = tuple(
        PlaceState(frame=end, lead=0, run_start=end, number=channel.number, settings=channel.settings)
        for channel in checkpoint.session.places
    )
    state = checkpoint.session.model_copy(update={"clock": end, "received": None, "places": channels})
    return checkpoint.model_copy(update={"seq": seq, "session": state})


def _session_state(resume_point: StreamResumePoint, session: Session, output: SessionOutput) -> SessionState:
    return SessionState(
        id=session.id,
        format=session.format.content_type,
        clock=resume_point.clock,
        received=resume_point.received,
        offsets=OffsetsState(**resume_point.offsets._asdict()) if resume_point.offsets else None,
        contenders=_contenders_state(resume_point.contenders),
        heard_at=resume_point.heard_at,
        captured=resume_point.captured,
        skipped_at=resume_point.skipped_at,
        flushed_at=resume_point.flushed_at,
        places=tuple(
            PlaceState(**channel._asdict() | {"settings": dict(channel.settings)}) for channel in resume_point.channels
        ),
        account=AccountState(**session.account.snapshot()),
        segments=session.segments,
        ending=resume_point.ending,
        language=resume_point.language,
        prompt=resume_point.prompt,
        **output.state(),
    )


def _offsets(state: SessionState) -> OffsetsSnapshot | None:
    return OffsetsSnapshot(**state.offsets.model_dump()) if state.offsets else None


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
