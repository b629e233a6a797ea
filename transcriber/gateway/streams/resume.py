"""Where a session is to be resumed. In: its id, what is stored or what daemons report. Out: a position, and what is missing."""

from dataclasses import dataclass, replace

from transcriber.audio.format import WAV_TYPES, AudioFormat, media_type, parse_content_type
from transcriber.audio.headers import parse_headers
from transcriber.bus.jetstream.client import JetStream, Stored
from transcriber.errors import BadInputError
from transcriber.gateway.api_error import ApiError
from transcriber.gateway.streams.commands import AudioQuery
from transcriber.gateway.streams.sessions import latest_gaps
from transcriber.gateway.streams.storage import Storage
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
    """The position that a daemon reports; frames that come again are ignored, so that too early is no loss.

    Raises:
        ApiError: 409, the session goes on in another format, or as WAV, whose header only its beginning has.
    """
    if figure is None:
        return Position()
    ended, fmt = figure.state == "ended", query.format
    if change := _change(figure, query):
        if ended:  # then it is another recording
            return Position()
        raise ApiError(409, f"the session {query.session} {change}", param="content_type", code="format_changed")
    if fmt is None:
        return Position(resumed=True, ended=ended)
    frames = figure.received_frames if figure.next_offset is None else figure.next_offset
    missing = tuple((one.offset, one.frames) for one in figure.missing)
    return Position(frames, resumed=True, ended=ended, missing=missing)


def _change(figure: StreamFigure, query: AudioQuery) -> str:
    """Why audio as in ``query`` cannot go on with a session, as far as its figure tells; empty if it can."""
    if query.format is None:
        return ""  # a figure does not tell whether its session is encoded
    if media_type(query.content_type) in WAV_TYPES:
        return "takes no second WAV header: send what follows as audio/x-raw, with the format of the file"
    return "" if figure.rate == query.format.rate else f"has {figure.rate} Hz"


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


async def lost_frames(jetstream: JetStream, text: Storage, session: str) -> tuple[tuple[int, int], ...]:
    """The frames of a session that its daemon has missed so far, of the latest gaps.

    Raises:
        UnansweredError, RefusedError.
    """
    gaps = await latest_gaps(jetstream, text, session)
    return tuple((gap.start_frame, gap.frames) for gap in gaps if gap.reason == "lost_input")
