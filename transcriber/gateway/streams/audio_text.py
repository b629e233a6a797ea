"""What the audio socket says. In: positions, errors. Out: the JSON of its text frames. Pure."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Text(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MissingFrames(_Text):
    """Frames that a daemon has reported as lost."""

    start_frame: int
    frames: int


class SessionText(_Text):
    """The first one."""

    type: Literal["session"] = "session"
    session: str
    position: int | None = Field(description="the frame that comes next; null: encoded audio, which has none")
    resumed: bool = Field(description="whether the session was there before")
    ended: bool = Field(description="it has ended; where its end is stored, the socket is closed")
    rate: int | None = Field(description="frames a second; null: encoded audio")
    missing: tuple[MissingFrames, ...]


class PositionText(_Text):
    """What the broker has, at most four a second."""

    type: Literal["position"] = "position"
    frames: int | None = Field(description="the frame that comes next; null: encoded audio")
    bytes: int = Field(description="since this socket was opened")


ErrorCode = Literal["invalid_message", "too_large", "not_published", "session_used"]


class ErrorText(_Text):
    """Something was not done; if the socket is closed, too, the close code follows."""

    type: Literal["error"] = "error"
    code: ErrorCode
    message: str


AudioText = Annotated[SessionText | PositionText | ErrorText, Field(discriminator="type")]
"""Any of them."""
