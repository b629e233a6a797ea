"""Audio in. In: ``WS /v1/streams/<stream>/audio``. Out: messages on the stream's subject; to the client, how far they got.

One binary frame is read, published or stored, and only then the next one is read: while the broker is away the client's own
socket fills, and nothing else.
"""

import asyncio
import logging
from dataclasses import dataclass, field, replace

from starlette.websockets import WebSocket, WebSocketDisconnect

from transcriber.audio.format import ENCODED_TYPES, media_type
from transcriber.bus.jetstream.client import JetStream
from transcriber.errors import BadInputError, TranscriberError
from transcriber.gateway.api_error import ApiError, as_api_error
from transcriber.gateway.guard import session_parent
from transcriber.gateway.openapi.operation import Content, Parameter, answer, operation
from transcriber.gateway.runtime import GatewayRuntime, runtime_of
from transcriber.gateway.sockets import DONE, FAILED, POLICY, TOO_LARGE, accept, close, refuse
from transcriber.gateway.streams.audio_text import (
    AudioText,
    ErrorCode,
    ErrorText,
    MissingFrames,
    PositionText,
    SessionText,
)
from transcriber.gateway.streams.commands import (
    STREAM,
    AudioQuery,
    Command,
    End,
    Flush,
    Offset,
    Prompt,
    Session,
    Update,
    checked_language,
    checked_stream,
    one_line,
    parse_command,
    parse_query,
)
from transcriber.gateway.streams.figures import board_of
from transcriber.gateway.streams.framing import EncodedFraming, PcmFraming, Piece
from transcriber.gateway.streams.resume import Position, in_format, live_position, lost_frames, stored_position
from transcriber.gateway.streams.sinks import AudioSink, DurableSink, LiveSink, Progress
from transcriber.gateway.streams.storage import Storage, storage_of, text_storage_of
from transcriber.gateway.streams.turns import Turn, turns_of
from transcriber.tasks import cancel

log = logging.getLogger(__name__)

REPORT_S = 0.25
"""Between two positions."""


@operation(
    "audio in, by WebSocket",
    tag="streams",
    access="publish",
    parameters=(
        STREAM,
        Parameter("session", "query", Session, "id of the recording; that of an earlier one resumes it"),
        Parameter("content_type", "query", str, "of the binary frames", example="audio/webm;codecs=opus"),
        Parameter("language", "query", str, "code or name of a language, or `auto`", example="en"),
        Parameter("prompt", "query", Prompt, "names and terms that may occur"),
    ),
    answers={101: answer("a WebSocket", {"application/json": Content({"client": Command, "server": AudioText})})},
    refusals=(400, 409),
    details="Audio by WebSocket",
)
async def audio_socket(websocket: WebSocket) -> None:
    """Serve one socket until it is closed."""
    try:
        stream = checked_stream(websocket.path_params["stream"])
        runtime = runtime_of(websocket)
        runtime.keys.authorise(websocket, "publish", stream)
        query, turns = parse_query(websocket.query_params), turns_of(websocket)
        if turns.held(stream, query.session):
            await _position(websocket, runtime, stream, query)  # what is refused does not end the other's turn
    except TranscriberError as error:
        await refuse(websocket, as_api_error(error))
        return
    async with turns.take(stream, query.session) as turn:
        await _serve(websocket, runtime, stream, query, turn)


async def _serve(websocket: WebSocket, runtime: GatewayRuntime, stream: str, query: AudioQuery, turn: Turn) -> None:
    try:
        query, position, storage = await _position(websocket, runtime, stream, query)
    except TranscriberError as error:
        await refuse(websocket, as_api_error(error))
        return
    sink: AudioSink = (DurableSink if storage else LiveSink)(
        runtime.connection, f"{runtime.settings.audio_prefix}.{stream}"
    )
    socket = _Socket(websocket, runtime, stream, storage, sink, query.framing(position.frames))
    socket.always = {"Audio-Session": query.session, "Content-Type": query.content_type}
    if parent := session_parent(websocket):
        socket.always["traceparent"] = parent
    if position.resumed:
        runtime.figures.sessions_resumed["durable" if storage else "live"] += 1
    socket.update(Update(type="update", language=query.language, prompt=query.prompt))
    await accept(websocket)
    await socket.send(_session(query, position, socket.framing))
    if position.ended and storage:
        await close(websocket, DONE, "the session has ended")
        return
    await socket.serve(turn)


async def _position(
    websocket: WebSocket, runtime: GatewayRuntime, stream: str, query: AudioQuery
) -> tuple[AudioQuery, Position, Storage | None]:
    """Where the session is resumed, the query in its format, and where its audio is stored.

    Raises:
        ApiError: encoded audio cannot be stored; another format than the session's; live, no daemon says where it is.
        UnansweredError, RefusedError.
    """
    storage = await storage_of(runtime.connection, f"{runtime.settings.audio_prefix}.{stream}")
    if storage is None:
        return query, await _live_position(websocket, stream, query), None
    if media_type(query.content_type) in ENCODED_TYPES:
        raise ApiError(
            400,
            f"{storage.name} stores this stream, and encoded audio is live only: send audio/x-raw",
            param="content_type",
            code="encoded_audio_is_live_only",
        )
    if not query.given:
        return query, Position(), storage
    jetstream = JetStream(runtime.connection)
    last = await jetstream.message(storage.name, last_by_subj=storage.filter)
    position, fmt = stored_position(last, query.session)
    if not position.resumed:
        return query, position, storage
    text = await text_storage_of(runtime.connection, f"{runtime.settings.transcript_subject_prefix}.{stream}")
    missing = await lost_frames(jetstream, text, query.session) if text else ()
    return in_format(query, fmt), replace(position, missing=missing), storage


async def _live_position(websocket: WebSocket, stream: str, query: AudioQuery) -> Position:
    if not query.given:
        return Position()
    board = board_of(websocket)
    answered = await board.refresh()
    figure = board.figure(stream, query.session)
    if figure is None and not answered:  # a daemon that has the session would ignore audio from 0 on
        message = "no daemon says where the session is: try again, or leave out session for a new one"
        raise ApiError(503, message, param="session", headers={"Retry-After": "1"})
    return live_position(figure, query)


def _session(query: AudioQuery, position: Position, framing: PcmFraming | EncodedFraming) -> SessionText:
    """The first message."""
    return SessionText(
        session=query.session,
        position=None if query.format is None else position.frames,
        resumed=position.resumed,
        ended=position.ended,
        rate=framing.rate,
        missing=tuple(MissingFrames(start_frame=first, frames=frames) for first, frames in position.missing),
    )


@dataclass(slots=True)
class _Socket:
    """One accepted socket. ``always`` are the headers of each message; ``once`` those of the next."""

    websocket: WebSocket
    runtime: GatewayRuntime
    stream: str
    storage: Storage | None
    sink: AudioSink
    framing: PcmFraming | EncodedFraming
    always: dict[str, str] = field(default_factory=dict)
    once: dict[str, str] = field(default_factory=dict)
    progress: Progress = field(init=False)
    chunks: int = 0
    gone: bool = False

    def __post_init__(self) -> None:
        self.progress = Progress(self.framing.next_frame)

    async def send(self, message: AudioText) -> None:
        """A client that is gone hears nothing more, and what it sent before is still read."""
        if self.gone:
            return
        try:
            await self.websocket.send_text(message.model_dump_json())
        except (WebSocketDisconnect, RuntimeError) as gone:  # the latter: it has closed, or was closed
            log.debug("the client is gone: %s", gone)
            self.gone = True

    async def serve(self, turn: Turn) -> None:
        """Read and publish, and report beside it, until the end, the client goes, or another socket has its turn."""
        reading, reporting = asyncio.create_task(self._read()), asyncio.create_task(self._report())
        taking = asyncio.create_task(turn.taken.wait())
        try:
            await asyncio.wait({reading, reporting, taking}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel([task for task in (reading, reporting, taking) if not task.done()])
            turn.over.set()
        failed = next((task for task in (reading, reporting) if not task.cancelled() and task.exception()), None)
        error = failed.exception() if failed else None
        if error is None and not reading.cancelled() and reading.result():
            await self._confirmed()
            await close(self.websocket, DONE, "end")
        elif isinstance(error, BadInputError):
            await self._error("too_large", str(error))
            await close(self.websocket, TOO_LARGE, str(error))
        elif isinstance(error, ApiError):
            await self._error("session_used", str(error))
            await close(self.websocket, POLICY, str(error))
        elif isinstance(error, TranscriberError | ConnectionError):
            await self._error("not_published", str(error))
            await close(self.websocket, FAILED, str(error))
        elif error is not None:
            raise error
        elif turn.taken.is_set():
            await close(self.websocket, POLICY, "another connection goes on with this session")

    async def _read(self) -> bool:
        """Whether the client has ended the session; False if it is gone."""
        while True:
            message = await self.websocket.receive()
            if message["type"] == "websocket.disconnect":
                return False
            if (data := message.get("bytes")) is not None:
                await self._publish(data)
            elif await self._obey(message.get("text") or ""):
                return True

    async def _publish(self, data: bytes) -> None:
        headers = self.always | self.once
        for piece in self.framing.pieces(data, self.runtime.connection.room(headers)):
            await self._put(piece, self.always | self.once)
            self.once = {}
            self.progress.add(self.framing.next_frame, len(piece.data))

    async def _put(self, piece: Piece, headers: dict[str, str], kind: str = "") -> None:
        headers = headers | {"Content-Type": piece.content_type}
        place = str(self.chunks)
        if piece.offset is not None:
            place = headers["Audio-Offset"] = str(piece.offset)
        self.chunks += 1
        name, known = f"{self.stream}:{headers['Audio-Session']}:{place}{kind}", self.sink.duplicates
        await self.sink.put(piece.data, headers, name)
        if self.storage and self.sink.duplicates > known:
            await self._put_rest(piece, headers, name, await self._stored(self.storage, headers["Audio-Session"]))

    async def _stored(self, storage: Storage, session: str) -> int:
        """How far a session is stored of which something was stored before it was sent: by another gateway just now, or long ago.

        Raises:
            ApiError: 409, the latter: the broker would go on to ignore what is sent. UnansweredError, RefusedError.
        """
        last = await JetStream(self.runtime.connection).message(storage.name, last_by_subj=storage.filter)
        position, _ = stored_position(last, session)
        if not position.resumed:
            message = f"the session {session} was stored before: a recording needs a session of its own"
            raise ApiError(409, message, param="session", code="session_used")
        return position.frames

    async def _put_rest(self, piece: Piece, headers: dict[str, str], name: str, stored_frames: int) -> None:
        """Store what is not stored of a piece: the one that was stored under its id may have been shorter."""
        if isinstance(self.framing, EncodedFraming) or piece.offset is None:
            return
        frames = len(piece.data) // self.framing.frame_bytes
        begun = max(0, stored_frames - piece.offset)
        if begun < frames:
            data = piece.data[begun * self.framing.frame_bytes :]
            await self.sink.put(data, headers | {"Audio-Offset": str(piece.offset + begun)}, f"{name}:{frames}")

    async def _obey(self, text: str) -> bool:
        """Do what a text frame says; True at the end. One that makes no sense is answered, and changes nothing."""
        try:
            command: Command = parse_command(text)
            match command:
                case Offset(frame=frame):
                    self.framing.jump(frame)
                case Update():
                    self.update(command)
                case Flush():
                    await self._mark("Audio-Flush", ":flush")
                case End():
                    await self._mark("Audio-End", ":end")
                    return True
        except BadInputError as error:
            await self._error("invalid_message", str(error))
        return False

    async def _mark(self, header: str, kind: str) -> None:
        """An empty payload with a header, behind the audio so far."""
        piece = Piece(b"", self.framing.content_type, self.framing.next_frame)
        await self._put(piece, self.always | self.once | {header: "1"}, kind)
        self.once = {}
        self.progress.add(self.framing.next_frame, 0)

    def update(self, command: Update) -> None:
        """From now on this language; with the next message, these terms.

        Raises:
            BadInputError: an unknown language.
        """
        if command.language is not None:
            self.always["Language"] = checked_language(command.language) or "auto"
        if command.prompt is not None:
            self.once["Prompt"] = one_line(command.prompt) or ""

    async def _report(self) -> None:
        while True:
            await self.progress.changed.wait()
            await self._confirmed()
            await asyncio.sleep(REPORT_S)

    async def _confirmed(self) -> None:
        """Send the position, once the broker has it."""
        self.progress.changed.clear()
        frames, size_bytes = self.progress.frames, self.progress.size_bytes
        if await self.sink.confirm():
            await self.send(PositionText(frames=frames, bytes=size_bytes))
        else:
            self.progress.changed.set()

    async def _error(self, code: ErrorCode, message: str) -> None:
        await self.send(ErrorText(code=code, message=message))
