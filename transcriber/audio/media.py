"""Audio files of any kind. In: a clip's bytes, or a source of bytes. Out: its format, and its PCM in pieces.

WAV is read here; FLAC, MP3, AAC, M4A, Ogg, WebM and others are decoded by FFmpeg. What it is decides the content, not a name. No
file is written, nothing is decoded before it is asked for, and memory does not depend on the length. It blocks: it belongs into a
pool's thread.
"""

from collections.abc import Generator
from contextlib import suppress

import numpy as np

from transcriber.audio.media_pieces import Chunk, Finish, Media, Piece, join
from transcriber.audio.pcm import AudioFormat, SampleFormat, decode
from transcriber.audio.sources import BytesSource, Reader, Source
from transcriber.audio.wav import WavParser, is_wav
from transcriber.errors import BadInputError, MediaError

__all__ = ["Media", "Piece", "Source", "open_media"]

_READ_BYTES = 2**16
_MAX_HEADER_BYTES = 2**20
"""Of a WAV file; FFmpeg skips more than that faster."""


def open_media(source: Source | bytes, first: int = 0) -> Media:
    """A file or a clip; its first sound is decoded already.

    Its pieces begin with the frame ``first``. Only who has heard all before it, and found no hole, may name one: it need not be
    decoded again then.

    Raises:
        MediaError: it cannot be read: what it is, what is in it, or where it comes from. One line.
    """
    reader = Reader(BytesSource(source) if isinstance(source, bytes) else source)
    if is_wav(reader.peek(12)):
        try:
            return _open_wav(reader, first)
        except BadInputError as error:
            # More channels or another codec than we read ourselves, or nothing that anybody reads.
            if reader.seekable():
                reader.seek(0)
                with suppress(MediaError):
                    return _open_other(reader, first)
            raise MediaError(str(error)) from None
    return _open_other(reader, first)


def _open_other(reader: Reader, first: int) -> Media:
    from transcriber.audio.media_ffmpeg import open_file  # noqa: PLC0415 - FFmpeg is 20 MB, and many daemons read no file

    return open_file(reader, first)


def _open_wav(reader: Reader, first: int) -> Media:
    parser, head = WavParser(reader.source.size), b""
    while parser.format is None:
        if reader.tell() > _MAX_HEADER_BYTES:
            raise MediaError(f"no audio in the first {_MAX_HEADER_BYTES >> 20} MB of the WAV file")
        data = reader.read(_READ_BYTES)
        if not data:
            raise reader.error or BadInputError("the WAV file ends before its audio begins")
        head = parser.feed(data)
    fmt = parser.format
    as_is = fmt.sample in {SampleFormat.S16LE, SampleFormat.F32LE}
    out = fmt if as_is else AudioFormat(SampleFormat.F32LE, fmt.rate, fmt.channels)
    finish = Finish(as_written=fmt.sample is SampleFormat.F32LE)
    pieces = join(_wav_chunks(reader, parser, head, fmt), fmt.rate, parser.frames, first, finish)
    return Media(out, parser.frames, "wav", str(fmt.sample).lower(), pieces)


def _wav_chunks(reader: Reader, parser: WavParser, pcm: bytes, fmt: AudioFormat) -> Generator[Chunk, None, None]:
    frame, size = 0, max(_READ_BYTES, fmt.rate * fmt.frame_bytes)
    while True:
        if pcm:
            reader.heard()
            match fmt.sample:
                case SampleFormat.S16LE:
                    samples = np.frombuffer(pcm, "<i2").reshape(-1, fmt.channels)
                case SampleFormat.F32LE:
                    samples = np.frombuffer(pcm, "<f4").reshape(-1, fmt.channels)
                case _:
                    samples = decode(pcm, fmt, split=True).T
            yield frame, samples
            frame += len(samples)
        data = reader.read(size)
        if not data:
            if reader.error:
                raise reader.error
            return
        pcm = parser.feed(data)
