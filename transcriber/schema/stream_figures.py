"""The present state of a daemon's streams, on ``transcriber.streams.<instance>`` and in answer to ``transcriber.streams``."""

from typing import Literal

from pydantic import AwareDatetime, Field

from transcriber.schema.base import Frames, MessageModel, Seconds
from transcriber.schema.messages import StreamState

MAX_MISSING = 20
"""Ranges that are listed, the latest."""


class Missing(MessageModel):
    """Frames that were never received."""

    offset: int = Field(description="of the first one, as `next_offset`; where that is null, in frames of the session")
    frames: Frames


class StreamFigure(MessageModel):
    """One stream of a daemon."""

    stream: str
    session: str
    state: StreamState | Literal["ended"]
    rate: int = Field(gt=0, description="the stream's own sample rate, Hz")
    received_frames: Frames
    next_offset: int | None = Field(
        None, description="the `Audio-Offset` that follows what was received; null: the publisher sends none in frames"
    )
    missing: tuple[Missing, ...] = Field(
        (),
        max_length=MAX_MISSING,
        description="the latest of the session's gaps of frames that this daemon never received",
    )
    level_dbfs: float | None = Field(description="of the latest audio; null: not known")
    speaking: bool | None = Field(description="null: not known")
    last_text_at: AwareDatetime | None = Field(description="null: no text yet")
    lag_s: Seconds
    lost_s: Seconds


class StreamFigures(MessageModel):
    """A page of the streams of one daemon."""

    schema_: Literal[1] = Field(1, alias="schema", description="version of this schema")
    instance: str
    at: AwareDatetime
    page: int = Field(ge=0, description="from 0")
    pages: int = Field(ge=1)
    streams: tuple[StreamFigure, ...]
