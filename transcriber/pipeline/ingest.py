"""What live and durable ingest have in common: the streams that are served, and their figures."""

import asyncio
from collections.abc import Collection, Mapping
from typing import Generic, Protocol, TypeVar

from transcriber.audio.resampler import output_samples
from transcriber.audio.session import Session
from transcriber.pipeline.session_output import SessionOutput


class Served(Protocol):
    """A stream, as far as figures need it."""

    @property
    def session(self) -> Session | None: ...

    @property
    def stalled(self) -> bool: ...

    @property
    def outputs(self) -> Mapping[Session, SessionOutput]: ...


Stream = TypeVar("Stream", bound=Served)


class Ingest(Generic[Stream]):
    """Event loop only, except the figures, which telemetry reads on a thread of its own.

    Attributes:
        streams: those that are served, by name.
        tasks: of streams that have one.
    """

    tasks: Collection[asyncio.Task[None]] = ()

    def __init__(self) -> None:
        self.streams: dict[str, Stream] = {}

    # list() copies in one step of the interpreter, while the event loop continues.

    @property
    def active(self) -> int:
        """Streams with an open session."""
        return sum(stream.session is not None for stream in list(self.streams.values()))

    @property
    def stalled(self) -> int:
        """Streams with an open session that receive nothing, not even heartbeats."""
        return sum(stream.stalled for stream in list(self.streams.values()))

    @property
    def open_samples(self) -> int:
        """16 kHz samples received and in no window yet."""
        sessions = [stream.session for stream in list(self.streams.values())]
        return sum(output_samples(session.open_frames, session.rate) for session in sessions if session)
