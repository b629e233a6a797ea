"""Audit entries: who submitted, cancelled, purged, swapped or read what. Plain data; no I/O, never text or audio.

One JSON object each, on ``transcriber.audit.<event>``, stored by the JetStream stream ``AUDIT`` (``AUDIT=1``).
"""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from transcriber.schema.base import MessageModel

AuditEvent = Literal["submitted", "cancelled", "purged", "swapped", "configured", "read"]

REQUESTED_BY = "Requested-By"
"""Header of a cancellation: who asks for it; a submission has ``by``."""

PlaceName = Literal["audio", "text", "file", "results", "queue", "record"]
"""What is stored of a stream or a job."""

MAX_NAME = 1000
Name = Annotated[str, Field(max_length=MAX_NAME)]


class Removed(MessageModel):
    """What was removed from one place."""

    place: PlaceName = Field(
        description="what it was: `audio` and `text` of a stream, `file`, `results` and so on of a job"
    )
    stream: str = Field(description="the JetStream stream that had it")
    messages: int = Field(ge=0)
    bytes: int = Field(ge=0, description="of the payloads")


class AuditEntry(MessageModel):
    """Who did what, and when; never what was said."""

    schema_: Literal[1] = Field(1, alias="schema", description="version of this schema")
    event: AuditEvent
    at: AwareDatetime = Field(description="clock of the program that wrote it")
    by: Name = Field(description="who: the name of a key of the gateway, else as the request states it; may be empty")
    known_by: Literal["key", "stated"] = Field(
        description="`key`: a gateway has checked the key; `stated`: nobody has checked the name"
    )
    writer: str = Field(
        description="the program that wrote the entry: a daemon's instance, a gateway's, or the command's host"
    )
    stream: str | None = Field(None, description="of a live or durable stream")
    session: str | None = Field(None, description="one session of it; null: not one alone")
    job: str | None = Field(None, description="id of a file's job")
    what: Name = Field(
        "",
        description="of `read`: what was read, such as `transcript`, `captions` or `result.srt`; of `swapped`: the model; of"
        " `configured`: the key",
    )
    phase: Literal["begun", "done"] | None = Field(
        None,
        description="of `purged` and `swapped`: before it, with what is to be removed, and after it; null: of other events",
    )
    before: AwareDatetime | None = Field(None, description="of `purged`: only what was stored before that; null: all")
    removed: tuple[Removed, ...] = Field((), description="of `purged`: what is, or was, removed")
