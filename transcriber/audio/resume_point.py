"""Where the audio of a session resumes after one of its events. Plain data."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from transcriber.audio.contiguous import input_start
from transcriber.audio.frame_account import FrameAccount
from transcriber.audio.offsets import OffsetsSnapshot
from transcriber.audio.window_policy import Changes


class ChannelResumePoint(NamedTuple):
    """Where a channel resumes; in frames of the session.

    Attributes:
        frame: the first of its next window.
        lead: frames before it which that window includes again.
        run_start: where the run begins that it belongs to.
        number: that window's.
        goes_on: whether the last words before it were left to it.
        follows: whether the window before it was cut in the middle of speech.
        settings: the live settings that its next window is cut and transcribed with.
    """

    frame: int
    lead: int
    run_start: int
    number: int
    goes_on: bool = False
    follows: bool = False
    settings: Changes = ()


def replay_from(place: ChannelResumePoint, rate: int) -> int:
    """The first frame of the session that is needed to resume at ``place``, at ``rate`` Hz."""
    return place.run_start + input_start(place.frame - place.run_start, place.lead, rate)


@dataclass(frozen=True, slots=True)
class SessionResumePoint:
    """The state from which a session resumes after one of its events.

    Attributes:
        clock: frame of the session from which audio is replayed: in the run that ``places`` belong to, and no later
            than ``replay_from`` of any.
        places: of that event.
        account: outcomes of all frames before ``places``, and of holes after them.
        received: frames received before ``clock``; None: all that were not lost.
        offsets: state of the publisher's offsets then; None if there were none.
        captured: ``Session.capture`` of that ``clock``.
        segments: windows that became a ``final``.
        skipped_at: where unreadable payloads were last reported, None if never.
        flushed_at: where the publisher last asked for the open windows to end, as far as that was answered.
    """

    clock: int
    places: tuple[ChannelResumePoint, ...]
    account: FrameAccount
    received: int | None = None
    offsets: OffsetsSnapshot | None = None
    captured: tuple[int, datetime] | None = None
    segments: int = 0
    skipped_at: int | None = None
    flushed_at: int | None = None
