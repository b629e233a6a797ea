"""Where a session is to be resumed. In: its id, what is stored or what daemons report. Out: a position, and what is missing."""

from dataclasses import dataclass, replace

from transcriber.audio.format import WAV_TYPES, AudioFormat, media_type, parse_content_type
from transcriber.audio.headers import parse_headers
from transcriber.bus.jetstream.client import JetStream, Stored
from transcriber.errors import BadInputError
from transcriber.gateway.api_error import ApiError
from transcriber.gateway.streams.commands import AudioQuery
from transcriber.gateway.streams.storage import Storage, stored_messages
from transcriber.schema.messages import Gap
from transcriber.schema.stream_figures import StreamFigure


@dataclass(frozen=True, slots=True)
class Position:
    """Where the next frame of a session goes.

    Attributes:
        frames: its offset.
        resumed: whether the session was there before.
        ended: its end is stored: no audio follows.
        missing: (first frame, frames) that were never received.
    """

    frames: int = 0
    resumed: bool = False
    ended: bool = False
    missing: tuple[tuple[int, int], ...] = ()


def stored_position(last: Stored | None, session: str) -> tuple[Position, AudioFormat | None]:
    """The position of ``session`` if ``last``, the last stored payload of its stream, is its own; and its format."""
    headers = parse_headers(last.headers if last else None)
    if last is None or headers.session != session or headers.offset is None or headers.content_type is None:
        return Position(), None
    try:
        fmt = parse_content_type(headers.content_type, AudioFormat())
    except BadInputError:
        return Position(), None
    return Position(headers.offset + len(last.payload) // fmt.frame_bytes, resumed=True, ended=headers.end), fmt


def live_position(figure: StreamFigure | None, query: AudioQuery) -> Position:
    """The position that a daemon reports; frames that come again are ignored, so that too early is no loss."""
    if figure is None or figure.session != query.session or figure.state == "ended":
        return Position()
    if (
        query.format is not None
        and media_type(query.content_type) not in WAV_TYPES
        and figure.rate != query.format.rate
    ):
        return Position()
    return Position(figure.received_frames, resumed=True)


def in_format(query: AudioQuery, fmt: AudioFormat | None) -> AudioQuery:
    """The query for a session that is stored in ``fmt``; WAV takes it over, as its header was at the beginning.

    Raises:
        ApiError: 409, it is another format, which would end the session.
    """
    if fmt is None or query.format == fmt:
        return query
    if media_type(query.content_type) in WAV_TYPES:
        return replace(query, content_type=fmt.content_type, format=fmt)
    raise ApiError(
        409, f"the session {query.session} is {fmt.content_type}", param="content_type", code="format_changed"
    )


async def lost_frames(jetstream: JetStream, gaps: Storage, session: str) -> tuple[tuple[int, int], ...]:
    """The frames of a session that its daemon has missed so far, from its stored gaps.

    Raises:
        UnansweredError, RefusedError.
    """
    found = [
        (message.start_frame, message.frames)
        async for message in stored_messages(jetstream, gaps)
        if isinstance(message, Gap) and message.session == session and message.reason == "lost_input"
    ]
    return tuple(found)
