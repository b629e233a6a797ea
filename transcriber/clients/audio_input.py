"""Audio to publish. In: an audio file of any kind or raw PCM, as a file or from a pipe. Out: its format, and its PCM in pieces."""

import asyncio
import os
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from transcriber.audio.codecs.wav import WavFiles, is_wav
from transcriber.audio.format import AudioFormat, SampleFormat
from transcriber.errors import BadInputError, ConfigError, UnseekableError
from transcriber.pipeline.decoder_pool import open_file

_READ_BYTES = 65_536
_WAV_HEADER_BYTES = 12


@dataclass(frozen=True, slots=True)
class Hole:
    """So many ``frames`` could not be decoded."""

    frames: int


@dataclass(frozen=True, slots=True)
class AudioSource:
    """Something to be published.

    Attributes:
        format: of the samples.
        frames: how many there are; None where nobody knows.
        pieces: the samples, cut anywhere, and what is missing between them.
    """

    format: AudioFormat
    frames: int | None
    pieces: AsyncIterator[bytes | Hole]


@asynccontextmanager
async def open_source(path: Path | None, raw: AudioFormat | None) -> AsyncIterator[AudioSource]:
    """The audio of a file, or of stdin where ``path`` is None: of any kind, or PCM of the format ``raw``.

    Raises:
        ConfigError: the file cannot be opened, or stdin is a terminal.
        BadInputError: it cannot be decoded.
    """
    with _open(path) as file:
        if _is_pipe(file):
            async with _read_pipe(file) as pipe:
                if raw:
                    yield AudioSource(raw, None, pipe.pieces())
                elif await pipe.is_wav():
                    yield await _parse_wav(pipe.pieces(), None)
                else:
                    async with _decoded(pipe) as source:
                        yield source
        elif raw:
            size_bytes = os.fstat(file.fileno()).st_size
            yield AudioSource(raw, size_bytes // raw.frame_bytes or None, _read(file))
        else:
            async with _open_file(file) as source:
                yield source


@dataclass(frozen=True, slots=True)
class FileBytes:
    """A file as it is.

    Attributes:
        size: its bytes; None of a pipe.
        pieces: the bytes, cut anywhere.
    """

    size: int | None
    pieces: AsyncIterator[bytes]


@asynccontextmanager
async def open_bytes(path: Path | None) -> AsyncIterator[FileBytes]:
    """The bytes of a file, or of stdin where ``path`` is None.

    Raises:
        ConfigError: the file cannot be opened, or stdin is a terminal.
    """
    with _open(path) as file:
        if _is_pipe(file):
            async with _read_pipe(file) as pipe:
                yield FileBytes(None, pipe.pieces())
        else:
            yield FileBytes(os.fstat(file.fileno()).st_size, _read(file))


def _open(path: Path | None) -> IO[bytes]:
    if path is None:
        if sys.stdin.isatty():
            raise ConfigError("stdin is a terminal: name a file, or pipe audio in")
        return open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)
    try:
        return path.open("rb", buffering=0)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None


def _is_pipe(file: IO[bytes]) -> bool:
    mode = os.fstat(file.fileno()).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


async def _read(file: IO[bytes]) -> AsyncIterator[bytes]:
    while piece := file.read(_READ_BYTES):
        yield piece


class _File:
    """A file on a disk; may be read in any thread."""

    def __init__(self, file: IO[bytes]) -> None:
        self.size = os.fstat(file.fileno()).st_size
        self._file = file

    def read_at(self, offset: int, length: int) -> bytes:
        return os.pread(self._file.fileno(), length, offset)


class _Pipe:
    """A pipe, which may be silent for long: the event loop waits for it, as a thread could not be interrupted.

    Attributes:
        size: nobody knows.
    """

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self.size = None
        self._reader = reader
        self._loop = asyncio.get_running_loop()
        self._begun = b""  # read already, and not given to anybody
        self._offset = 0

    async def is_wav(self) -> bool:
        """Look at what comes first; something else is known by its first byte."""
        while len(self._begun) < _WAV_HEADER_BYTES and b"RIFF".startswith(self._begun[:4]):
            piece = await self._reader.read(_WAV_HEADER_BYTES - len(self._begun))
            if not piece:
                break
            self._begun += piece
        return is_wav(self._begun)

    async def pieces(self) -> AsyncIterator[bytes]:
        """All of it, for who reads it on the event loop."""
        while piece := await self._next(_READ_BYTES):
            yield piece

    def read_at(self, offset: int, length: int) -> bytes:
        """For the thread of a decoder."""
        if offset < self._offset:
            raise UnseekableError("a pipe cannot go back")
        while True:
            skipped = offset - self._offset
            piece = asyncio.run_coroutine_threadsafe(
                self._next(min(skipped, _READ_BYTES) or length), self._loop
            ).result()
            self._offset += len(piece)
            if not (skipped and piece):
                return piece

    async def _next(self, count: int) -> bytes:
        piece, self._begun = self._begun[:count], self._begun[count:]
        return piece or await self._reader.read(count)


@asynccontextmanager
async def _read_pipe(file: IO[bytes]) -> AsyncIterator[_Pipe]:
    reader = asyncio.StreamReader(_READ_BYTES)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), file
    )
    try:
        yield _Pipe(reader)
    finally:
        reader.feed_eof()  # a decoder that still waits ends
        transport.close()


@asynccontextmanager
async def _open_file(file: IO[bytes]) -> AsyncIterator[AudioSource]:
    head = os.pread(file.fileno(), _WAV_HEADER_BYTES, 0)
    wav: AudioSource | None = None
    if is_wav(head):
        with suppress(BadInputError):  # more channels or another codec than we read ourselves
            wav = await _parse_wav(_read(file), os.fstat(file.fileno()).st_size)
    if wav and wav.format.sample is not SampleFormat.F32LE:  # whose samples may need scaling
        yield wav
        return
    async with _decoded(_File(file)) as source:
        yield source


@asynccontextmanager
async def _decoded(source: _File | _Pipe) -> AsyncIterator[AudioSource]:
    async with open_file(source) as file:

        async def audio() -> AsyncIterator[bytes | Hole]:
            frame = 0
            async for piece in file.pieces:
                if piece.frame > frame:
                    yield Hole(piece.frame - frame)
                yield piece.data
                frame = piece.frame + len(piece.data) // file.media.format.frame_bytes

        yield AudioSource(file.media.format, file.media.frames, audio())


async def _parse_wav(pieces: AsyncIterator[bytes], size: int | None) -> AudioSource:
    """The WAV file of ``size`` bytes in ``pieces``, read up to its audio."""
    parser, first = WavFiles(size), b""
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
        yield parser.finish()

    return AudioSource(parser.format, parser.frames, audio())
