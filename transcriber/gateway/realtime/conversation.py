"""The state of a session. In: events of the client, messages of the daemon. Out: events for the client, payloads for the daemon.

Pure: no I/O, no clock. Frames are counted over the whole connection; the daemon counts from the start of each of its sessions.

Audio is published as it comes. An item is what lies between two marks: a commit, or a clear, whose text is discarded. With voice
activity the daemon ends items, too: one lasts from the first words until speech is over, be it one window or several.
"""

import itertools
from collections import deque
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from transcriber.gateway.realtime.client_events import ClientEvent, decode_audio, parse_event
from transcriber.gateway.realtime.item import Item
from transcriber.gateway.realtime.pieces import Piece, Tiling, piece_of
from transcriber.gateway.realtime.session_settings import RefusedEventError, SessionSettings
from transcriber.schema.messages import AnyMessage, End, Final, Gap, Partial, Silence, Status

PAYLOAD_S = 1.0
"""Of the longest payload."""
SHORTEST_S = 0.1
"""Of what is committed."""
LONGEST_S = 60.0
"""After which an item ends with its window, although speech does not."""
FULL_S = 900.0
"""After which an item ends that nobody commits."""
MAX_MARKS = 256
"""Commits whose text is not there yet."""
FLUSH_SLACK_S = 0.15
"""By which a window may end before the flush that closed it: what the resampler holds back."""

Event = dict[str, Any]


class Payload(NamedTuple):
    """For ``audio.<stream>``."""

    data: bytes
    headers: dict[str, str]


class _Mark(NamedTuple):
    """Where an item ends; without one, what was discarded."""

    frame: int
    item: Item | None


class Conversation:
    """Event loop only.

    Attributes:
        settings: what applies.
        appended: frames so far.
    """

    def __init__(
        self, session: str, settings: SessionSettings, names: Collection[str], new_id: Callable[[], str]
    ) -> None:
        """A new session.

        Args:
            session: its id, also of the daemon's first session.
            settings: to begin with.
            names: of the models that are loaded.
            new_id: makes ids.
        """
        self.settings = settings
        self.appended = 0
        self._id, self._names, self._new_id = session, names, new_id
        self._tiling = Tiling()
        self._settled = 0  # the frame before which all text is in its item
        self._marks: deque[_Mark] = deque()
        self._open: Item | None = None
        self._begin = 0  # of what is not committed
        self._previous: str | None = None
        self._daemon_session, self._base, self._begun = session, 0, False
        self._prompt_sent = ""
        self._out: list[Event | Payload] = []

    def greeting(self) -> list[Event | Payload]:
        """What the server says first."""
        self._send("session.created", session=self._session())
        return self._taken()

    def receive(self, frame: str | bytes) -> list[Event | Payload]:
        """Take a frame of the client. Never raises: what cannot be done is an ``error``."""
        event: ClientEvent | None = None
        try:
            event = parse_event(frame)
            self._dispatch(event)
        except RefusedEventError as refused:
            error = {
                "type": "invalid_request_error",
                "code": refused.code,
                "message": str(refused),
                "param": refused.param,
            }
            self._send("error", error=error | {"event_id": event.id if event else None})
        return self._taken()

    def receive_message(self, message: AnyMessage) -> list[Event | Payload]:
        """Take a message of the daemon; those of sessions that are over count no more."""
        if message.session == self._daemon_session:
            match message:
                case Status(state="started"):
                    if self._begun:  # another daemon, which has not got what was before
                        self._restart()
                    self._begun = True
                case End():
                    self._restart()
                case Partial():
                    self._guess(message)
                case Final() | Silence() | Gap():
                    self._tile(self._tiling.add(piece_of(message, self._base)))
        return self._taken()

    def end(self) -> list[Event | Payload]:
        """The client has gone."""
        if self.appended > self._base:
            self._publish(b"", self.appended, {"Audio-End": "1"})
        return self._taken()

    # What the client asks for.

    def _dispatch(self, event: ClientEvent) -> None:
        """Do what an event asks for.

        Raises:
            RefusedEventError: it cannot be done.
        """
        match event.kind:
            case "session.update":
                self._update(event)
            case "input_audio_buffer.append":
                self._append(event)
            case "input_audio_buffer.commit":
                self._commit()
            case "input_audio_buffer.clear":
                self._clear()
            case _:
                raise RefusedEventError("sessions of type transcription have no such event", "unknown_event", "type")

    def _update(self, event: ClientEvent) -> None:
        fixed = self.appended > 0
        self.settings = self.settings.updated(event.fields.get("session"), self._names, fixed_format=fixed)
        self._send("session.updated", session=self._session())

    def _append(self, event: ClientEvent) -> None:
        wire = self.settings.wire
        data = decode_audio(event, wire)
        if not self.settings.detects_turns and self.appended - self._begin > FULL_S * wire.rate:
            self._commit()  # clients whose own detector hears nobody never commit
        size = int(PAYLOAD_S * wire.rate) * wire.frame_bytes
        for at in range(0, len(data), size):
            piece = data[at : at + size]
            self._publish(piece, self.appended)
            self.appended += len(piece) // wire.frame_bytes

    def _commit(self) -> None:
        pending_s = (self.appended - self._begin) / self.settings.wire.rate
        if pending_s < SHORTEST_S:
            raise RefusedEventError(
                f"there are {1000 * pending_s:.0f} ms to commit, and at least {1000 * SHORTEST_S:.0f} are needed",
                "input_audio_buffer_commit_empty",
            )
        item = self._open or Item(self._new_id(), self._begin)
        self._mark(item)
        self._announce(item, self.appended)
        self._settle()

    def _clear(self) -> None:
        if self.appended > self._begin:
            if self._open:
                self._stop_speaking(self._open, self.appended)
            self._mark(None)
            self._settle()
        self._send("input_audio_buffer.cleared")

    def _mark(self, item: Item | None) -> None:
        """End what is open here, and have the daemon close its window."""
        if len(self._marks) >= MAX_MARKS:
            raise RefusedEventError(f"the text of {MAX_MARKS} commits is not there yet", "too_many_commits")
        self._publish(b"", self.appended, {"Audio-Flush": "1"})
        self._marks.append(_Mark(self.appended, item))
        self._open, self._begin = None, self.appended

    def _publish(self, data: bytes, at: int, headers: dict[str, str] | None = None) -> None:
        settings = self.settings
        found = {
            "Content-Type": settings.wire.content_type,
            "Audio-Session": self._daemon_session,
            "Audio-Offset": str(at - self._base),
        }
        if settings.language:
            found["Language"] = settings.language
        if settings.prompt != self._prompt_sent:
            found["Prompt"] = self._prompt_sent = settings.prompt
        self._out.append(Payload(data, found | (headers or {})))

    # What the daemon says.

    def _guess(self, partial: Partial) -> None:
        start = self._base + partial.start_frame
        if start > self._settled or not partial.text.strip():  # what is before it is not there yet
            return
        item = mark.item if (mark := self._mark_of(start)) else self._open_item(start)
        if item:
            self._send_delta(item, item.guess(partial))

    def _tile(self, pieces: list[Piece]) -> None:
        for piece in pieces:
            if mark := self._mark_of(piece.start):
                if mark.item:
                    self._add(mark.item, piece)
            elif self.settings.detects_turns:
                self._add_turn(piece)
            else:
                self._add(self._open or self._open_item(piece.start), piece)
            self._settled = max(self._settled, piece.end)  # not the tiling's position, which is past all of them
            self._settle(piece)

    def _add(self, item: Item, piece: Piece) -> None:
        item.frames += piece.end - piece.start
        item.language = piece.language or item.language
        if piece.reason:
            seconds = (piece.end - piece.start) / self.settings.wire.rate
            item.failure = f"{seconds:.1f} s were not transcribed: {piece.reason}"
        self._send_delta(item, item.take(piece.text))

    def _add_turn(self, piece: Piece) -> None:
        """Add a piece where the daemon ends items."""
        if piece.reason and self._open and self._open.transcript:
            self._finish(self._open, piece.start)  # its words stand
        if piece.text or piece.reason:
            self._open_item(piece.start)
        if (item := self._open) is None:
            return
        spoken = bool(piece.text or piece.reason)
        if spoken or not piece.ends_speech:
            self._add(item, piece)
        long = piece.end - item.start >= LONGEST_S * self.settings.wire.rate
        if piece.reason or piece.ends_speech or long:
            self._finish(item, piece.end if spoken else piece.start)

    def _open_item(self, start: int) -> Item:
        """The item that is open, or a new one; with voice activity somebody begins to speak."""
        if self._open is None:
            self._open = Item(self._new_id(), max(start, self._begin))
        item = self._open
        if self.settings.detects_turns and not item.speaking:
            item.speaking = True
            self._send("input_audio_buffer.speech_started", item_id=item.id, audio_start_ms=self._ms(item.start))
        return item

    def _finish(self, item: Item, end: int) -> None:
        """The open item ends here, as speech does."""
        self._open, self._begin = None, max(self._begin, end)
        self._announce(item, end)
        self._complete(item)

    def _settle(self, piece: Piece | None = None) -> None:
        """Complete the items whose audio is transcribed."""
        slack = int(FLUSH_SLACK_S * self.settings.wire.rate) if piece and piece.flushed else 0
        while self._marks and self._settled + slack >= self._marks[0].frame:
            if item := self._marks.popleft().item:
                self._complete(item)

    def _restart(self) -> None:
        """The daemon's session is over. What it has not answered is lost, and the next audio begins another."""
        self._tile(self._tiling.rest())
        if self._tiling.position < self.appended:
            lost = Piece(self._tiling.position, self.appended, reason="the daemon's session ended")
            self._tile(self._split(lost))
        self._daemon_session, self._base, self._begun = self._new_id(), self.appended, False
        self._prompt_sent = ""

    def _split(self, lost: Piece) -> list[Piece]:
        """At the marks, so that each item has its part; the position is at its end."""
        edges = [lost.start, *(mark.frame for mark in self._marks if lost.start < mark.frame < lost.end), lost.end]
        self._tiling.position = lost.end
        return [lost._replace(start=a, end=b) for a, b in itertools.pairwise(edges)]

    def _mark_of(self, start: int) -> _Mark | None:
        return next((mark for mark in self._marks if start < mark.frame), None)

    # Events for the client.

    def _announce(self, item: Item, end: int) -> None:
        self._stop_speaking(item, end)
        self._send("input_audio_buffer.committed", item_id=item.id, previous_item_id=self._previous)
        self._previous = item.id

    def _stop_speaking(self, item: Item, end: int) -> None:
        if item.speaking:
            item.speaking = False
            self._send("input_audio_buffer.speech_stopped", item_id=item.id, audio_end_ms=self._ms(end))

    def _send_delta(self, item: Item, delta: str) -> None:
        if delta:
            self._send(
                "conversation.item.input_audio_transcription.delta", item_id=item.id, content_index=0, delta=delta
            )

    def _complete(self, item: Item) -> None:
        common = {"item_id": item.id, "content_index": 0}
        if item.failure:
            error = {
                "type": "transcription_error",
                "code": "audio_not_transcribed",
                "message": item.failure,
                "param": None,
            }
            self._send("conversation.item.input_audio_transcription.failed", **common, error=error)
            return
        languages = [{"code": item.language}] if item.language else []
        usage = {"type": "duration", "seconds": round(item.frames / self.settings.wire.rate, 3)}
        self._send(
            "conversation.item.input_audio_transcription.completed",
            **common, transcript=item.transcript, usage=usage, languages=languages,
        )  # fmt: skip

    def _session(self) -> dict[str, Any]:
        audio = {"input": self.settings.as_json()}
        return {"id": self._id, "object": "realtime.transcription_session", "type": "transcription", "audio": audio}

    def _ms(self, frame: int) -> int:
        return round(1000 * frame / self.settings.wire.rate)

    def _send(self, kind: str, **fields: Any) -> None:
        self._out.append({"type": kind, "event_id": self._new_id(), **fields})

    def _taken(self) -> list[Event | Payload]:
        out, self._out = self._out, []
        return out
