"""Media files to PCM. In: bytes. Out: format and pieces."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from transcriber.audio.pcm import AudioFormat
from transcriber.audio.wav import WavParser
from transcriber.errors import BadInputError


class Piece(NamedTuple):
    """Whole frames; ``frame`` is the index of the first."""

    frame: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Media:
    """An opened recording."""

    format: AudioFormat
    frames: int | None
    container: str
    codec: str
    pieces: Iterator[Piece]


def open_media(source: bytes) -> Media:
    """Open it.

    Raises:
        BadInputError: it cannot be read.
    """
    parser = WavParser()
    data = parser.feed(source)
    if parser.format is None:
        raise BadInputError("no audio in it")
    if parser.frames is not None and len(data) < parser.frames * parser.format.frame_bytes:
        raise BadInputError("the file is cut off")
    return Media(parser.format, parser.frames, "wav", "pcm", iter([Piece(0, data)]))
