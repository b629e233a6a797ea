"""Binary frames as payloads, commands and queries of the audio socket, and where a session is resumed."""

import asyncio
from datetime import UTC, datetime

import pytest
from hypothesis import given, strategies as st

from transcriber.audio.format import AudioFormat
from transcriber.bus.jetstream.client import Stored
from transcriber.errors import BadInputError
from transcriber.gateway.api_error import ApiError
from transcriber.gateway.streams.commands import Offset, parse_command, parse_query
from transcriber.gateway.streams.framing import PcmFraming
from transcriber.gateway.streams.listeners import Listener
from transcriber.gateway.streams.resume import Position, in_format, stored_position

STEREO = AudioFormat(channels=2)


@given(st.lists(st.binary(max_size=50)), st.integers(4, 40), st.integers(0, 1000))
def test_pieces_are_the_frames_in_order_wherever_the_binary_frames_are_cut(chunks, room_bytes, first):
    framing = PcmFraming(STEREO.content_type, STEREO, first)
    pieces = [piece for chunk in chunks for piece in framing.pieces(chunk, room_bytes)]
    sent = b"".join(chunks)
    frames = len(sent) // STEREO.frame_bytes

    assert b"".join(piece.data for piece in pieces) == sent[: frames * STEREO.frame_bytes]
    assert all(0 < len(piece.data) <= room_bytes for piece in pieces)
    expected = first
    for piece in pieces:
        assert piece.offset == expected
        expected += len(piece.data) // STEREO.frame_bytes
    assert framing.next_frame == expected == first + frames


@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(str))
def test_a_text_frame_is_a_command_or_one_line_that_says_why_not(text):
    with pytest.raises(BadInputError) as error:
        parse_command(text)
    assert "\n" not in str(error.value)


def test_a_command_is_read():
    assert parse_command('{"type": "offset", "frame": 3}') == Offset(type="offset", frame=3)


@pytest.mark.parametrize(
    ("param", "value"),
    [("session", "ü"), ("content_type", "text/plain"), ("language", "what?"), ("prompt", "x" * 1001)],
)
def test_a_query_that_makes_no_sense_is_refused_with_its_parameter(param, value):
    with pytest.raises(ApiError) as error:
        parse_query({param: value})
    assert (error.value.status, error.value.param) == (400, param)


def last(**headers):
    return Stored(7, datetime.now(UTC), {name.replace("_", "-"): value for name, value in headers.items()}, bytes(40))


def test_a_session_is_resumed_behind_its_last_stored_payload_in_its_format():
    stored = last(Audio_Session="a", Audio_Offset="100", Content_Type=STEREO.content_type)

    assert stored_position(stored, "a") == (Position(110, resumed=True), STEREO)
    assert stored_position(stored, "b") == stored_position(None, "a") == (Position(), None)
    wav = in_format(parse_query({"content_type": "audio/wav"}), STEREO)
    assert (wav.content_type, wav.format) == (STEREO.content_type, STEREO)
    with pytest.raises(ApiError, match="audio/x-raw"):
        in_format(parse_query({}), STEREO)


def test_a_listener_that_does_not_read_is_dropped_with_a_reason():
    async def fill():
        listener = Listener(most_items=2)
        for number in range(3):
            listener.put("final", str(number), number)
        return listener.dropped, [batch async for batch in listener.batches()]

    assert asyncio.run(fill()) == ("slow reader: 3 messages, 3 characters wait", [])
