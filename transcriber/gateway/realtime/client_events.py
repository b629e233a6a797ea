"""What a client sends. In: a frame of the WebSocket. Out: the event, or why it is refused. Pure; no I/O."""

import base64
import binascii
import json
from typing import Any, NamedTuple

from transcriber.gateway.realtime.session_settings import RefusedEventError, Wire

MAX_EVENT_ID = 512


class ClientEvent(NamedTuple):
    """An event; ``id`` is the client's, if it has one."""

    kind: str
    id: str | None
    fields: dict[str, Any]


def parse_event(text: str | bytes) -> ClientEvent:
    """The event of a frame.

    Raises:
        RefusedEventError: it is none.
    """
    if isinstance(text, bytes):
        raise RefusedEventError("events are text, and audio is base64 in them", "invalid_event")
    try:
        fields = json.loads(text)
        if "\\u" in text:  # half a surrogate pair could neither be published nor sent back
            json.dumps(fields, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise RefusedEventError("this is not JSON", "invalid_json") from None
    if not isinstance(fields, dict) or not isinstance(kind := fields.get("type"), str):
        raise RefusedEventError("an event is an object with a type", "invalid_event", "type")
    event_id = fields.get("event_id")
    known = isinstance(event_id, str) and len(event_id) <= MAX_EVENT_ID
    return ClientEvent(kind, event_id if known else None, fields)


def decode_audio(event: ClientEvent, wire: Wire) -> bytes:
    """The samples of ``input_audio_buffer.append``.

    Raises:
        RefusedEventError: they cannot be read.
    """
    audio = event.fields.get("audio")
    try:
        data = base64.b64decode(audio if isinstance(audio, str) else "", validate=True)
    except (ValueError, binascii.Error):
        raise RefusedEventError("audio is not base64", "invalid_value", "audio") from None
    if not data:
        raise RefusedEventError("audio is missing", "invalid_value", "audio")
    if len(data) % wire.frame_bytes:
        raise RefusedEventError(f"audio is not whole frames of {wire.frame_bytes} bytes", "invalid_value", "audio")
    return data
