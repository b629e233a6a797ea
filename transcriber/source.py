"""Audio to publish. In: a WAV or raw PCM file, or a pipe. Out: its format, and its PCM in pieces."""

import asyncio
import os
import stat
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from transcriber.audio.pcm import AudioFormat
from transcriber.audio.wav import WavParser
from transcriber.errors import BadInputError, ConfigError

_READ_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class AudioSource:
    """Something to be published.

    Attributes:
        format: of the samples.
        frames: how many there are; None where nobody knows.
        pieces: the samples, cut anywhere.
    """

    format: AudioFormat
    frames: int | None
    pieces: AsyncIterator[bytes]


@asynccontextmanager
async def open_source(path: Path | None, raw: AudioFormat | None) -> AsyncIterator[AudioSource]:
    """The audio of a file, or of stdin where ``path`` is None: a WAV file, or PCM of the format ``raw``.

    Raises:
        ConfigError: the file cannot be opened, or stdin is a terminal.
        BadInputError: not a WAV file, or one of a format that is not read.
    """
    with _open(path) as file:
        async with aclosing(_read(file)) as pieces:
            if raw:
                size_bytes = os.fstat(file.fileno()).st_size  # 0 of a pipe
                yield AudioSource(raw, size_bytes // raw.frame_bytes or None, pieces)
            else:
                yield await _parse_wav(pieces)


@dataclass(frozen=True, slots=True)
class ByteSource:
    """A file as it is.

    Attributes:
        size: its bytes; None of a pipe.
        pieces: the bytes, cut anywhere.
    """

    size: int | None
    pieces: AsyncIterator[bytes]


@asynccontextmanager
async def open_bytes(path: Path | None) -> AsyncIterator[ByteSource]:
    """The bytes of a file, or of stdin where ``path`` is None.

    Raises:
        ConfigError: the file cannot be opened, or stdin is a terminal.
    """
    with _open(path) as file:
        status = os.fstat(file.fileno())
        async with aclosing(_read(file)) as pieces:
            yield ByteSource(status.st_size if stat.S_ISREG(status.st_mode) else None, pieces)


def _open(path: Path | None) -> IO[bytes]:
    if path is None:
        if sys.stdin.isatty():
            raise ConfigError("stdin is a terminal: name a file, or pipe audio in")
        return open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)
    try:
        return path.open("rb", buffering=0)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None


async def _read(file: IO[bytes]) -> AsyncGenerator[bytes, None]:
    mode = os.fstat(file.fileno()).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        while piece := file.read(_READ_BYTES):
            yield piece
        return
    # A pipe may be silent for long, so the event loop waits for it: a thread could not be interrupted.
    reader = asyncio.StreamReader(_READ_BYTES)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), file
    )
    try:
        while piece := await reader.read(_READ_BYTES):
            yield piece
    finally:
        transport.close()


async def _parse_wav(pieces: AsyncIterator[bytes]) -> AudioSource:
    """The WAV file in ``pieces``, read up to its audio."""
    parser, first = WavParser(), b""
    async for piece in pieces:
        first = parser.feed(piece)
        if parser.format:
            break
    if parser.format is None:
        raise BadInputError("the WAV file ends before its audio begins")

    async def audio() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield parser.feed(piece)

    return AudioSource(parser.format, parser.frames, audio())
