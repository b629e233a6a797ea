"""Audio files of any kind. In: a clip's bytes, or a source of bytes. Out: its format, and its PCM in pieces.

WAV is read here; FLAC, MP3, AAC, M4A, Ogg, WebM and others are decoded by FFmpeg. The kind is decided by content, not by name. No
file is written, decoding is lazy, and memory does not depend on the length. It blocks: it belongs in a pool's thread.
"""

from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
from numpy.typing import NDArray

from transcriber.audio.codecs.pcm import decode
from transcriber.audio.codecs.wav import TRAILER_BYTES, WavParser, is_wav, what_follows
from transcriber.audio.format import AudioFormat, SampleFormat
from transcriber.audio.media.parts import watch
from transcriber.audio.media.pieces import Chunk, Media, Piece, SampleNormalizer, join
from transcriber.audio.media.rate import RateConverter
from transcriber.audio.media.sources import BytesSource, Reader, Source, read_exactly
from transcriber.errors import BadInputError, ClaimError, MediaError, TruncatedError

if TYPE_CHECKING:
    from transcriber.audio.media.samples import SampleConverter

_READ_BYTES = 2**16
_MAX_HEADER_BYTES = 2**20
"""Of a WAV file; FFmpeg skips more than that faster."""
_MAX_UNREAD = 100
"""Limit of unreadable files in a row, one behind the other."""


def open_media(source: Source | bytes, first: int = 0) -> Media:
    """A file or a clip; its first frame is decoded already.

    The audio of files that lie behind it follows, converted to be like that of the first.

    Its pieces begin with the frame ``first``: allowed only if all before it was decoded once without a hole, so that it need not be
    decoded again.

    Raises:
        MediaError: it cannot be read: what it is, what is in it, or where it comes from. One line.
    """
    reader = Reader(BytesSource(source) if isinstance(source, bytes) else source)
    media, like = _open(reader, first, None)
    return replace(media, pieces=_JoinedFiles(media, reader, like, first).pieces())


class _JoinedFiles:
    """A file, and those behind it. One that cannot be read, or not to its end, costs the others nothing."""

    def __init__(self, media: Media, reader: Reader, like: "SampleConverter | AudioFormat", first: int) -> None:
        self._media, self._reader, self._like, self._first = media, reader, like, first
        self._begin = self._end = 0  # of the current file
        self._decoded_end = 0  # the place after the last sample

    def pieces(self) -> Generator[Piece, None, int]:
        """The pieces of all files.

        Raises:
            MediaError: the last one cannot be read to its end.
        """
        pieces: Generator[Piece, None, int] | None = self._media.pieces
        while pieces:
            error = yield from self._file(pieces)
            pieces = None
            if self._first and not self._decoded_end and self._behind(error):
                # The end of a file that was skipped to its end is not known to the frame.
                return (yield from self._from_the_start())
            for _ in range(_MAX_UNREAD):
                if pieces or not (following := self._behind(error)):
                    break
                if error and (isinstance(error, ClaimError) or not isinstance(error, TruncatedError)):
                    yield Piece(self._end, b"", str(error))
                self._reader, self._begin, error = following, self._end, None
                try:
                    pieces = _open(following, max(0, self._first - self._begin), self._like)[0].pieces
                except MediaError as caught:
                    error = caught
            if error:
                raise error
        return self._end

    def _from_the_start(self) -> Generator[Piece, None, int]:
        whole = open_media(self._reader.source).pieces
        with closing(whole):
            for piece in whole:
                if piece.frame >= self._first:
                    yield piece
        return self._end

    def _file(self, pieces: Generator[Piece, None, int]) -> Generator[Piece, None, MediaError | None]:
        """The pieces of one file; returns why there are no more."""
        begin, frame_bytes = self._begin, self._media.format.frame_bytes
        with closing(pieces):
            while True:
                try:
                    piece = next(pieces)
                except StopIteration as over:
                    self._end = begin + over.value
                    return None
                except TruncatedError as error:
                    self._end = begin + error.frames
                    return type(error)(str(error), self._end)
                except MediaError as error:
                    return error
                yield piece._replace(frame=begin + piece.frame)
                self._end = self._decoded_end = begin + piece.frame + len(piece.data) // frame_bytes

    def _behind(self, error: MediaError | None) -> Reader | None:
        """The next file, if there is one."""
        if error and self._reader.error:
            return None
        try:
            following = self._reader.behind()
        except MediaError:  # too much without audio
            return None
        if following and isinstance(error, TruncatedError) and self._media.container == "mp3":
            self._end = self._decoded_end  # FFmpeg has guessed the length from the size of all files
        return following


def _open(
    reader: Reader, first: int, like: Optional["SampleConverter | AudioFormat"]
) -> "tuple[Media, SampleConverter | AudioFormat]":
    """A file, and the format of its samples: that of the file before it, if there is one."""
    if is_wav(reader.peek(12)):
        try:
            return _open_wav(reader, first, like)
        except BadInputError as error:
            # More channels or another codec than are read here, or not readable at all.
            if reader.seekable():
                reader.seek(0)
                with suppress(MediaError):
                    return _open_other(reader, first, like)
            raise MediaError(str(error)) from None
    return _open_other(reader, first, like)


def _open_other(
    reader: Reader, first: int, like: Optional["SampleConverter | AudioFormat"]
) -> "tuple[Media, SampleConverter | AudioFormat]":
    from transcriber.audio.media.ffmpeg import open_file  # noqa: PLC0415 - FFmpeg is 20 MB, and many daemons read no file

    return open_file(reader, first, like)


def _open_wav(
    reader: Reader, first: int, like: Optional["SampleConverter | AudioFormat"]
) -> "tuple[Media, SampleConverter | AudioFormat]":
    watch(reader, "wav")
    parser, head = WavParser(reader.source.size and reader.source.size - reader.start), b""
    while parser.format is None:
        if reader.tell() > _MAX_HEADER_BYTES:
            raise MediaError(f"no audio in the first {_MAX_HEADER_BYTES >> 20} MB of the WAV file")
        data = reader.read(_READ_BYTES)
        if not data:
            raise reader.error or BadInputError("the WAV file ends before its audio begins")
        head = parser.feed(data)
    fmt = parser.format
    as_is = fmt.sample in {SampleFormat.S16LE, SampleFormat.F32LE}
    alike = like or (fmt if as_is else AudioFormat(SampleFormat.F32LE, fmt.rate, fmt.channels))
    out = alike if isinstance(alike, AudioFormat) else alike.format
    normalize = SampleNormalizer(
        None if isinstance(alike, AudioFormat) else alike.gains,
        as_written=fmt.sample is SampleFormat.F32LE and out.sample is SampleFormat.F32LE,
    )
    length = (
        None if parser.frames is None or _continues(reader, parser) else _frames_at(parser.frames, fmt.rate, out.rate)
    )
    claimed = _frames_at(parser.claimed, fmt.rate, out.rate)
    chunks = _wav_chunks(reader, parser, head, fmt)
    if like is not None:
        chunks = _alike(chunks, alike, fmt)
    return Media(
        out, length, "wav", str(fmt.sample).lower(), join(chunks, out.rate, None, first, normalize, claimed)
    ), alike


def _frames_at(frames: int, rate: int, to_rate: int) -> int:
    return frames if rate == to_rate else frames * to_rate // rate


def _continues(reader: Reader, parser: WavParser) -> bool:
    """Whether audio, or another file, follows where the audio should end by the header."""
    if parser.audio_end is None or not reader.seekable():
        return False
    at = reader.start + parser.audio_end
    behind = read_exactly(reader.source, at, 13)
    left_bytes = (reader.source.size or 0) - at
    follows = {what_follows(behind[pad : pad + 12], left_bytes) for pad in (0, parser.audio_end % 2)}
    return "file" in follows or (left_bytes > TRAILER_BYTES and "chunk" not in follows)


def _alike(chunks: Iterator[Chunk], like: "SampleConverter | AudioFormat", fmt: AudioFormat) -> Iterator[Chunk]:
    """The samples of a WAV file, converted to be like those of the file before it."""
    from transcriber.audio.media.samples import SampleConverter  # noqa: PLC0415 - it needs FFmpeg, too

    converter = SampleConverter(like) if isinstance(like, AudioFormat) else like
    rates, place = RateConverter(converter.format.rate), 0
    for _, chunk in chunks:
        made = converter.convert_array(chunk)
        frames = rates.frames(len(made), fmt.rate)
        yield from rates.add(place, frames, made, fmt.rate)
        place += frames
    yield from rates.flush()


def _wav_chunks(reader: Reader, parser: WavParser, pcm: bytes, fmt: AudioFormat) -> Iterator[Chunk]:
    frame, size = 0, max(_READ_BYTES, fmt.rate * fmt.frame_bytes)
    data = b"begun"
    while data or pcm:
        if pcm:
            reader.reset_silence()
            samples = _samples(pcm, fmt)
            yield frame, samples
            frame += len(samples)
        elif not data:
            break
        data = reader.read(size)
        pcm = parser.feed(data) if data else parser.finish()
    if reader.error:
        raise reader.error


def _samples(pcm: bytes, fmt: AudioFormat) -> NDArray[Any]:
    """(frames, channels) int16 or float32."""
    match fmt.sample:
        case SampleFormat.S16LE:
            return np.frombuffer(pcm, "<i2").reshape(-1, fmt.channels)
        case SampleFormat.F32LE:
            return np.frombuffer(pcm, "<f4").reshape(-1, fmt.channels)
        case _:
            return decode(pcm, fmt, split=True).T
