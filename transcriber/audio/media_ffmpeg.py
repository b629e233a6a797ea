"""Containers and codecs, by FFmpeg. In: the bytes of a file. Out: its format, and its PCM in pieces.

FFmpeg lives in PyAV's wheel. It is given bytes and nothing else: no file, no address, only demuxers and decoders of a list. What it
allocates, reads and tries is bounded. The demuxer is chosen by the first bytes, so that no other looks at the file.
"""

import ctypes
import re
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Discard, Disposition
from numpy.typing import NDArray

from transcriber.audio.media_pieces import Chunk, Media, join
from transcriber.audio.media_timeline import Timeline
from transcriber.audio.mp4 import check_mp4
from transcriber.audio.pcm import MAX_CHANNELS, MAX_SAMPLE_RATE, MIN_SAMPLE_RATE, AudioFormat, SampleFormat
from transcriber.audio.sources import Reader
from transcriber.errors import EncryptedError, MediaError, NoAudioError, UnseekableError

MAX_MALLOC_BYTES = 2**26
"""FFmpeg allocates no more at once: sizes in a file are claims."""

_CODECS = frozenset({
    "aac", "aac_latm", "ac3", "alac", "eac3", "flac", "mp1", "mp1float", "mp2", "mp2float", "mp3", "mp3float", "opus", "vorbis",
    "adpcm_ima_qt", "adpcm_ima_wav", "adpcm_ms", "gsm_ms", "pcm_alaw", "pcm_mulaw", "pcm_s8", "pcm_u8", "pcm_s16be", "pcm_s16le",
    "pcm_s24be", "pcm_s24le", "pcm_s32be", "pcm_s32le", "pcm_f32be", "pcm_f32le", "pcm_f64be", "pcm_f64le",
})  # fmt: skip
_KINDS = (
    (0, b"fLaC", "flac"), (0, b"OggS", "ogg"), (0, b"\x1a\x45\xdf\xa3", "matroska"), (0, b".snd", "au"), (0, b"caff", "caf"),
    (0, b"FORM", "aiff"), (0, b"RIFF", "wav"), (0, b"RF64", "wav"),
    (4, b"ftyp", "mov"), (4, b"moov", "mov"), (4, b"mdat", "mov"), (4, b"free", "mov"), (4, b"skip", "mov"), (4, b"wide", "mov"),
)  # fmt: skip
"""Where in a file which bytes lie, and the demuxer that it belongs to."""
_TELL_LENGTH = frozenset({"flac", "mov", "aiff", "au", "caf", "wav"})
"""Their headers tell how long the audio is. Of an Ogg file the end tells; elsewhere FFmpeg may guess it from the size."""
_VBR_TAG = re.compile(rb"^.{4,200}?(Xing|Info|VBRI)", re.DOTALL)
"""In the first frame of an MP3 file; it tells how many there are."""
_DURATION = re.compile(rb"\x15\x49\xa9\x66.{1,256}?\x44\x89[\x84\x88]", re.DOTALL)
"""In the segment information of Matroska: the element of the length."""
_HEADER_BYTES = 4096

_OPTIONS = {
    "protocol_whitelist": "",  # nothing in a file opens another one
    "codec_whitelist": ",".join(sorted(_CODECS)),  # no picture is decoded, not even to find out its size
    "max_streams": "64",
    "max_probe_packets": "256",
    "probesize": "262144",
    "analyzeduration": "2000000",  # microseconds
}
_PROBED = "aac,mp3"
"""Demuxers of which one is tried where the first bytes tell nothing: these files may begin anywhere."""
_BUFFER_BYTES = 32_768
_MAX_CHANNELS = 64
_MAX_PACKET_BYTES = 2**23
_MAX_FRAME_SAMPLES = 2**22
"""In one decoded frame, of all channels."""
_MAX_ERRORS = 2000
"""Packets in a row that cannot be decoded: half a minute and more."""
_WRONG = (FFmpegError, ValueError, OverflowError)
"""What PyAV raises about a file."""
_SCALES = {"u8": (128, 2.0**-7), "s16": (0, 2.0**-15), "s32": (0, 2.0**-31), "flt": (0, 1.0), "dbl": (0, 1.0)}
"""What is subtracted of a sample, and what it is multiplied by, to be in [-1, 1]."""

# There is no way to it but through the library that PyAV has loaded; it is the limit of the whole process.
ctypes.CDLL(av._core.__file__).av_max_alloc(ctypes.c_size_t(MAX_MALLOC_BYTES))  # noqa: SLF001
av.logging.set_level(
    None
)  # else FFmpeg talks to stderr about each broken packet; what is wrong with a file is said by us


def open_file(reader: Reader) -> Media:
    """Open a file and decode its first frame, which tells what the container may not.

    Raises:
        MediaError: it cannot be read, or there is no sound in it.
    """
    _skip_tags(reader)
    head = reader.peek(16)
    if not head:
        raise NoAudioError("there is nothing in it")
    kind = find_kind(head)
    if kind == "mov":
        check_mp4(reader.source, reader.start, head)
    container = _open(reader, kind)
    try:
        return _Decoder(reader, container, kind).media()
    except BaseException:
        container.close()
        raise


def find_kind(head: bytes) -> str:
    """The demuxer for a file that begins so; empty where only a closer look can tell."""
    for at, magic, kind in _KINDS:
        if head[at : at + 4] == magic:
            return kind
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:  # noqa: PLR2004 - MPEG's sync word
        return "mp3" if head[1] & 0x06 else "aac"
    return ""


def _skip_tags(reader: Reader) -> None:
    """ID3 tags go before MP3, AAC and FLAC, with pictures of megabytes: FFmpeg does not see them."""
    while (head := reader.peek(10)).startswith(b"ID3") and len(head) == 10:  # noqa: PLR2004 - the tag's header
        size = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
        reader.skip(10 + size + (10 if head[5] & 0x10 else 0))


def _open(reader: Reader, kind: str) -> InputContainer:
    options = _OPTIONS if kind else _OPTIONS | {"format_whitelist": _PROBED}
    try:
        return av.open(
            reader,
            "r",
            format=kind or None,
            container_options=options,
            buffer_size=_BUFFER_BYTES,
            metadata_errors="replace",
        )
    except _WRONG as error:
        if reader.error:
            raise reader.error from None
        if not kind:
            raise MediaError("it is no audio file of a kind that is read") from None
        if kind == "mov" and not reader.seekable():
            raise UnseekableError("an MP4 file that cannot be read from a pipe, or a broken one") from None
        raise MediaError(f"a broken {kind} file: {_words(error)}") from None


def _words(error: Exception) -> str:
    """What is wrong, in FFmpeg's words, which never hold what is in the file."""
    return getattr(error, "strerror", None) or type(error).__name__


class _Decoder:
    """One file, while it is decoded."""

    def __init__(self, reader: Reader, container: InputContainer, kind: str) -> None:
        self._reader = reader
        self._container = container
        self._kind = kind
        self._stream = _choose(container)
        self._codec = self._stream.codec_context
        self._codec.thread_count = 1
        channels = max(1, self._codec.channels)
        if channels > _MAX_CHANNELS:
            raise MediaError(f"{channels} channels; {_MAX_CHANNELS} at most are read")
        self._codec.options = {"max_samples": str(_MAX_FRAME_SAMPLES // channels)}
        if self._codec.name == "flac":
            self._codec.options |= {"err_detect": "crccheck+explode"}  # else a broken frame is noise
        base = self._stream.time_base or Fraction(1, 1000)
        self._base = base
        self._lost: int | None = None  # packets since the last frame, in units of the time base; None: none
        self._format: AudioFormat
        self._mixer: av.AudioResampler | None = None

    def media(self) -> Media:
        """The file, once its first frame is decoded."""
        frames = self._frames()
        first = next(frames, None)
        if first is None:
            raise NoAudioError("no sound in it can be decoded")
        rate, channels = first.sample_rate, first.layout.nb_channels
        if not MIN_SAMPLE_RATE <= rate <= MAX_SAMPLE_RATE:
            raise MediaError(f"{rate} Hz; {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} are read")
        sample = SampleFormat.S16LE if first.format.packed.name in {"u8", "s16"} else SampleFormat.F32LE
        if channels > MAX_CHANNELS:
            sample = SampleFormat.F32LE
        self._format = AudioFormat(sample, rate, channels if channels <= MAX_CHANNELS else 1)
        length, promised = self._length()
        container = self._container.format.name.partition(",")[0]
        chunks = self._chunks(first, frames)
        return Media(
            self._format, length, container, self._codec.name, join(chunks, rate, length if promised else None)
        )

    def _length(self) -> tuple[int | None, bool]:
        """The length in frames, where it is told and no guess, and whether that is a promise of the header."""
        if self._kind == "matroska":
            told, length = bool(_DURATION.search(self._beginning())), self._container.duration or 0
            # It is the length of the longest stream, of which there may be others.
            return (
                (length * self._format.rate // av.time_base, len(self._container.streams) == 1)
                if told and length > 0
                else (None, False)
            )
        length = self._in_frames(self._stream.duration or 0)
        told = self._kind in _TELL_LENGTH or (self._kind == "mp3" and bool(_VBR_TAG.search(self._beginning())))
        return (length if length > 0 and (told or self._kind == "ogg") else None), told

    def _beginning(self) -> bytes:
        """The first bytes of the file, if there is a way back to them."""
        reader = self._reader
        return reader.source.read_at(reader.start, _HEADER_BYTES) if reader.seekable() else b""

    def _in_frames(self, ticks: int) -> int:
        """A time of the stream in frames."""
        units = self._base.numerator * self._format.rate
        return (2 * ticks * units + self._base.denominator) // (2 * self._base.denominator)

    def _frames(self) -> Iterator[av.AudioFrame]:
        """Decoded frames; what is lost before one is in ``_lost``.

        Raises:
            MediaError: nothing can be decoded any more.
        """
        errors = 0
        for packet in self._packets():
            if packet.has_sidedata("encryption_info"):
                raise EncryptedError("the audio is encrypted")
            try:
                if packet.size > _MAX_PACKET_BYTES:
                    raise ValueError  # as bad as what cannot be decoded
                frames = self._codec.decode(packet)
            except _WRONG:
                errors += 1
                if errors > _MAX_ERRORS:
                    raise MediaError(f"{errors} packets in a row cannot be decoded") from None
                self._lost = (self._lost or 0) + (packet.duration or 0)
                continue
            for frame in frames:
                if frame.samples:
                    errors = 0
                    self._reader.heard()
                    yield frame
                    self._lost = None

    def _packets(self) -> Iterator[av.Packet[av.AudioStream]]:
        """The packets of the stream, and an empty one at the end; the demuxer is asked again where it stumbles."""
        for _ in range(_MAX_ERRORS):
            try:
                yield from self._container.demux(self._stream)
            except _WRONG:
                continue
            if self._reader.error:
                raise self._reader.error
            return
        raise self._reader.error or MediaError("the container is broken")

    def _chunks(self, first: av.AudioFrame, frames: Iterator[av.AudioFrame]) -> Iterator[Chunk]:
        """The frames as samples with their places."""
        try:
            timeline = Timeline(self._format.rate, self._origin(first))
            for frame in chain([first], frames):
                if self._lost is not None:
                    timeline.lose(self._in_frames(self._lost))
                samples = self._samples(frame)
                stamp = None if frame.pts is None else self._in_frames(frame.pts)
                yield timeline.place(stamp, len(samples)), samples
        finally:
            self._container.close()

    def _origin(self, first: av.AudioFrame) -> int:
        """The time stamp, in frames, where the recording begins: where its first stream does, were it a picture."""
        starts = [
            stream.start_time * stream.time_base
            for stream in self._container.streams
            if stream.start_time is not None and stream.time_base
        ]
        if self._stream.start_time is None:
            return self._in_frames((first.pts or 0) - (self._lost or 0))
        return int(min(starts) * self._format.rate + Fraction(1, 2))

    def _samples(self, frame: av.AudioFrame) -> NDArray[Any]:
        """(frames, channels) of the file's format, whatever this frame's is."""
        wanted = self._format
        if frame.sample_rate != wanted.rate:
            raise MediaError(f"the sample rate changes from {wanted.rate} to {frame.sample_rate} Hz")
        channels = frame.layout.nb_channels
        samples: NDArray[Any]
        if channels > MAX_CHANNELS:
            samples = self._mixed(frame)
        else:
            array: NDArray[Any] = frame.to_ndarray()
            samples = array.T if frame.format.is_planar else array.reshape(-1, channels)
            if samples.dtype == np.int16 and wanted.sample is SampleFormat.S16LE and channels == wanted.channels:
                return np.ascontiguousarray(samples)
            zero, scale = _SCALES[frame.format.packed.name]
            samples = (samples.astype(np.float32) - np.float32(zero)) * np.float32(scale)
        if samples.shape[1] > wanted.channels:
            samples = samples.mean(axis=1, keepdims=True, dtype=np.float32)
        elif samples.shape[1] < wanted.channels:
            samples = samples.repeat(wanted.channels, axis=1)
        if wanted.sample is SampleFormat.S16LE:
            return np.clip(np.rint(samples * 2**15), -(2**15), 2**15 - 1).astype(np.int16)
        return np.ascontiguousarray(samples)

    def _mixed(self, frame: av.AudioFrame) -> NDArray[np.float32]:
        """A frame of many channels as one, (frames, 1); speech is louder than what goes around it.

        PyAV must not be asked for the planes of such a frame: it looks for more than there are.
        """
        for _ in range(2):
            self._mixer = self._mixer or av.AudioResampler(format="flt", layout="mono")
            try:
                parts = [part.to_ndarray().reshape(-1, 1) for part in self._mixer.resample(frame)]
            except _WRONG:
                self._mixer = None  # the layout has changed, or is none that can be mixed
            else:
                return np.concatenate(parts) if parts else np.zeros((0, 1), np.float32)
        raise MediaError(f"{frame.layout.nb_channels} channels that cannot be mixed")


def _choose(container: InputContainer) -> av.AudioStream:
    """The stream to decode; the demuxer leaves the others out.

    Raises:
        NoAudioError: there is none.
        MediaError: there is none that is decoded here.
    """
    streams = container.streams.audio
    if not streams:
        raise NoAudioError("there is no audio in it")
    # A codec that FFmpeg does not know leaves no context.
    names = {stream.index: getattr(stream.codec_context, "name", "") for stream in streams}
    readable = [stream for stream in streams if names[stream.index] in _CODECS]
    if not readable:
        raise MediaError(f"the codec {names[streams[0].index] or 'of the audio'} is not read")
    chosen = next((stream for stream in readable if stream.disposition & Disposition.default), readable[0])
    for stream in container.streams:
        if stream is not chosen:
            stream.discard = Discard.all
    return chosen
