"""Audio in. In: ``WS /v1/streams/<stream>/audio``. Out: messages on the stream's subject; to the client, how far they got.

One binary frame is read, published or stored, and only then the next one is read: while the broker is away the client's own
socket fills, and nothing else.
"""

import asyncio
import json
import logging
from dataclasses import dataclass, field, replace

from starlette.websockets import WebSocket, WebSocketDisconnect

from transcriber.audio.format import ENCODED_TYPES, media_type
from transcriber.bus.jetstream.client import JetStream
from transcriber.errors import BadInputError, TranscriberError
from transcriber.gateway.api_error import ApiError, as_api_error
from transcriber.gateway.runtime import GatewayRuntime, runtime_of
from transcriber.gateway.sockets import DONE, FAILED, TOO_LARGE, accept, close, refuse
from transcriber.gateway.streams.commands import (
    AudioQuery,
    Command,
    End,
    Flush,
    Offset,
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
from transcriber.gateway.streams.storage import Storage, storage_of

log = logging.getLogger(__name__)

REPORT_S = 0.25
"""Between two positions."""


async def audio_socket(websocket: WebSocket) -> None:
    """Serve one socket until it is closed."""
    try:
        stream = checked_stream(websocket.path_params["stream"])
        runtime = runtime_of(websocket)
        runtime.keys.authorise(websocket, "publish", stream)
        query = parse_query(websocket.query_params)
        subject = f"{runtime.settings.audio_prefix}.{stream}"
        storage = await storage_of(runtime.connection, subject)
        query, position = await _position(websocket, runtime, stream, query, storage)
    except TranscriberError as error:
        await refuse(websocket, as_api_error(error))
        return
    sink: AudioSink = (DurableSink if storage else LiveSink)(runtime.connection, subject)
    socket = _Socket(websocket, runtime, stream, sink, query.framing(position.frames))
    socket.always = {"Audio-Session": query.session, "Content-Type": query.content_type}
    socket.update(Update(type="update", language=query.language, prompt=query.prompt))
    await accept(websocket)
    await socket.send(_session(query, position, socket.framing))
    if position.ended:
        await close(websocket, DONE, "the session has ended")
        return
    await socket.serve()


async def _position(
    websocket: WebSocket, runtime: GatewayRuntime, stream: str, query: AudioQuery, storage: Storage | None
) -> tuple[AudioQuery, Position]:
    """Where the session is resumed, and the query in its format.

    Raises:
        ApiError: encoded audio cannot be stored; another format than the session's. UnansweredError, RefusedError.
    """
    if storage is None:
        if not query.given:
            return query, Position()
        board = board_of(websocket)
        await board.refresh()
        return query, live_position(board.figure(stream, query.session), query)
    if media_type(query.content_type) in ENCODED_TYPES:
        raise ApiError(
            400,
            f"{storage.name} stores this stream, and encoded audio is live only: send audio/x-raw",
            param="content_type",
            code="encoded_audio_is_live_only",
        )
    if not query.given:
        return query, Position()
    jetstream = JetStream(runtime.connection)
    last = await jetstream.message(storage.name, last_by_subj=storage.filter)
    position, fmt = stored_position(last, query.session)
    if not position.resumed:
        return query, position
    text = f"{runtime.settings.transcript_subject_prefix}.{stream}.gap"
    gaps = await storage_of(runtime.connection, text)
    missing = await lost_frames(jetstream, gaps, query.session) if gaps else ()
    return in_format(query, fmt), replace(position, missing=missing)


def _session(query: AudioQuery, position: Position, framing: PcmFraming | EncodedFraming) -> dict[str, object]:
    """The first message."""
    return {
        "type": "session",
        "session": query.session,
        "position": None if query.format is None else position.frames,
        "resumed": position.resumed,
        "ended": position.ended,
        "rate": framing.rate,
        "missing": [{"start_frame": first, "frames": frames} for first, frames in position.missing],
    }


@dataclass(slots=True)
class _Socket:
    """One accepted socket. ``always`` are the headers of each message; ``once`` those of the next."""

    websocket: WebSocket
    runtime: GatewayRuntime
    stream: str
    sink: AudioSink
    framing: PcmFraming | EncodedFraming
    always: dict[str, str] = field(default_factory=dict)
    once: dict[str, str] = field(default_factory=dict)
    progress: Progress = field(init=False)
    chunks: int = 0

    def __post_init__(self) -> None:
        self.progress = Progress(self.framing.next_frame)

    async def send(self, message: dict[str, object]) -> None:
        await self.websocket.send_text(json.dumps(message))

    async def serve(self) -> None:
        """Read and publish, and report beside it, until the end or the client goes."""
        reading, reporting = asyncio.create_task(self._read()), asyncio.create_task(self._report())
        try:
            await asyncio.wait({reading, reporting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (reading, reporting):
                task.cancel()
            await asyncio.gather(reading, reporting, return_exceptions=True)
        failed = next((task for task in (reading, reporting) if not task.cancelled() and task.exception()), None)
        error = failed.exception() if failed else None
        try:
            if error is None and not reading.cancelled() and reading.result():
                await self._confirmed()
                await close(self.websocket, DONE, "end")
            elif isinstance(error, BadInputError):
                await self._error("too_large", str(error))
                await close(self.websocket, TOO_LARGE, str(error))
            elif isinstance(error, TranscriberError | ConnectionError):
                await self._error("not_published", str(error))
                await close(self.websocket, FAILED, str(error))
            elif error is not None and not isinstance(error, WebSocketDisconnect):
                raise error
        except (WebSocketDisconnect, RuntimeError) as gone:
            log.debug("the client is gone: %s", gone)

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
        await self.sink.put(piece.data, headers, f"{self.stream}:{headers['Audio-Session']}:{place}{kind}")

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
            await self.send({"type": "position", "frames": frames, "bytes": size_bytes})
        else:
            self.progress.changed.set()

    async def _error(self, code: str, message: str) -> None:
        await self.send({"type": "error", "code": code, "message": message})
