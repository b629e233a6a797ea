"""Binary frames of a socket as payloads of audio. In: bytes, as they come. Out: pieces that a message can carry. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from transcriber.audio.codecs.pcm_payload import read_payload
from transcriber.audio.format import L16, WAV_TYPES, AudioFormat, media_type
from transcriber.errors import BadInputError


class Piece(NamedTuple):
    """What one message carries.

    Attributes:
        data: whole frames; of encoded audio, a chunk as it came.
        content_type: of ``data``.
        offset: index of its first frame; None for encoded audio.
    """

    data: bytes
    content_type: str
    offset: int | None


@dataclass(slots=True)
class EncodedFraming:
    """Encoded audio: a binary frame is a payload."""

    content_type: str
    next_frame: None = None
    rate: None = None

    def jump(self, frame: int) -> None:  # noqa: ARG002 - that of PCM
        """Refused.

        Raises:
            BadInputError: always.
        """
        raise BadInputError("encoded audio has no offsets")

    def pieces(self, data: bytes, room_bytes: int) -> Iterator[Piece]:
        """The chunk.

        Raises:
            BadInputError: it is larger than a message.
        """
        if len(data) > room_bytes:
            raise BadInputError(f"a chunk of {len(data)} bytes: the broker takes {room_bytes}")
        if data:
            yield Piece(data, self.content_type, None)


class PcmFraming:
    """PCM with its offsets. A frame that is cut by the end of one binary frame continues in the next.

    Attributes:
        next_frame: offset of the next frame that comes.
    """

    def __init__(self, content_type: str, fmt: AudioFormat, next_frame: int = 0) -> None:
        self.next_frame = next_frame
        self._format: AudioFormat | None = None if media_type(content_type) in WAV_TYPES else fmt
        self._wav = self._format is None
        self._default = fmt
        # L16 is written as itself: the daemon finds out its byte order.
        self._content_type = content_type if media_type(content_type) == L16 else fmt.content_type
        self._rest = b""

    @property
    def content_type(self) -> str:
        """Of the payloads."""
        return self._content_type

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame."""
        return (self._format or self._default).frame_bytes

    @property
    def rate(self) -> int | None:
        """Hz; None before the header of a WAV file."""
        return self._format.rate if self._format else None

    def jump(self, frame: int) -> None:
        """The next frame that comes is ``frame``; a frame that was cut is dropped."""
        self.next_frame, self._rest = frame, b""

    def pieces(self, data: bytes, room_bytes: int) -> Iterator[Piece]:
        """The whole frames so far, in pieces of at most ``room_bytes``.

        Raises:
            BadInputError: a WAV header that cannot be read.
        """
        if self._wav and data:
            data = self._without_header(data)
        fmt = self._format
        if fmt is None:
            return
        data = self._rest + data
        whole = len(data) - len(data) % fmt.frame_bytes
        self._rest = data[whole:]
        size = max(1, room_bytes // fmt.frame_bytes) * fmt.frame_bytes
        for start in range(0, whole, size):
            piece = data[start : min(whole, start + size)]
            offset = self.next_frame
            self.next_frame += len(piece) // fmt.frame_bytes
            yield Piece(piece, self._content_type, offset)

    def _without_header(self, data: bytes) -> bytes:
        """The samples of a WAV file's beginning; from now on they have its format."""
        read = read_payload(data, "audio/wav", None, self._default)
        self._wav, self._format = False, read.format
        self._content_type = read.format.content_type
        return read.data if read.has_wav_header else data
