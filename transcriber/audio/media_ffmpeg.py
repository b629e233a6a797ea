"""Containers and codecs, by FFmpeg. In: the bytes of a file. Out: its format, and its PCM in pieces.

FFmpeg lives in PyAV's wheel. It is given bytes and nothing else: no file, no address, only demuxers and decoders of a list. What it
allocates, reads and tries is bounded. The demuxer is chosen by the first bytes, so that no other looks at the file.
"""

import ctypes
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from typing import Any

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Discard, Disposition

from transcriber.audio.icy import without_titles
from transcriber.audio.media_kinds import HEAD_BYTES, find_kind, skip_tags, tells_length, unread_kind
from transcriber.audio.media_outline import Outline
from transcriber.audio.media_pieces import CLEARLY_S, Chunk, Finish, Media, join
from transcriber.audio.media_samples import Samples
from transcriber.audio.media_timeline import Timeline
from transcriber.audio.mixing import Noticed
from transcriber.audio.mp4 import check_mp4
from transcriber.audio.mpeg import LOOK_BYTES, check_clear
from transcriber.audio.sources import Reader
from transcriber.errors import EncryptedError, MediaError, NoAudioError, TruncatedError, UnseekableError

MAX_MALLOC_BYTES = 2**26
"""FFmpeg allocates no more at once: sizes in a file are claims."""

_CODECS = frozenset({
    "aac", "aac_latm", "ac3", "alac", "eac3", "flac", "mp1", "mp1float", "mp2", "mp2float", "mp3", "mp3float", "opus", "vorbis",
    "adpcm_ima_qt", "adpcm_ima_wav", "adpcm_ms", "adpcm_swf", "adpcm_yamaha", "amrnb", "amrwb", "dca", "gsm_ms", "mlp", "nellymoser",
    "pcm_bluray", "pcm_dvd", "s302m", "speex", "truehd", "wmalossless", "wmapro", "wmav1", "wmav2", "wmavoice",
    "pcm_alaw", "pcm_mulaw", "pcm_s8", "pcm_u8", "pcm_s16be", "pcm_s16le", "pcm_s24be", "pcm_s24le", "pcm_s32be", "pcm_s32le",
    "pcm_f32be", "pcm_f32le", "pcm_f64be", "pcm_f64le",
})  # fmt: skip
_OPTIONS = {
    "protocol_whitelist": "",  # nothing in a file opens another one
    "codec_whitelist": ",".join(sorted(_CODECS)),  # no picture is decoded, not even to find out its size
    "max_streams": "64",
    "max_probe_packets": "256",
    "probesize": "262144",
    "analyzeduration": "2000000",  # microseconds
}
_LONG_LOOK = {"probesize": "5000000", "analyzeduration": "10000000"}
"""For demuxers that learn of a stream from its first packet, which comes behind some of a film's picture."""
_MORE_OPTIONS = {
    "mpegts": _LONG_LOOK,
    "mpeg": _LONG_LOOK,
    "": {"format_whitelist": "aac,mp3"},  # tried where the first bytes tell nothing: these files may begin anywhere
}
_FRAMES_ALONE = frozenset({"", "aac", "mp3"})
"""Kinds of which a station's stream is."""
_BUFFER_BYTES = 32_768
_MAX_CHANNELS = 64
_MAX_PACKET_BYTES = 2**23
_MAX_FRAME_SAMPLES = 2**22
"""In one decoded frame, of all channels."""
_NEEDED = {"flac": 1, "mp3": 64}
"""By demuxer: to decode a packet to the last bit alike so many packets are needed, itself included. A frame of FLAC stands alone; one
of MP3 overlaps the one before, and has a part of its bits up to 511 bytes earlier, which at 8 kbit/s are 47 frames."""
_TELL_FILE_LENGTH = frozenset({"matroska", "flv"})
"""Demuxers that know how long the file is, not each stream of it."""
_ONE_PART = frozenset({"asf", "avi", "caf", "w64"})
"""Kinds in which all audio is in one part; their demuxers take its end for that of the file."""
_MAX_ERRORS = 2000
"""Packets in a row that cannot be decoded: half a minute and more."""
_TAGS: dict[str, Any] = {"metadata_errors": "replace"} if av.__version__.startswith("18.") else {}
"""A title in another encoding costs no audio: PyAV 18 must be told so, and 19 knows of nothing else."""
_WRONG = (FFmpegError, ValueError, OverflowError)
"""What PyAV raises about a file."""

# There is no way to it but through the library that PyAV has loaded; it is the limit of the whole process.
ctypes.CDLL(av._core.__file__).av_max_alloc(ctypes.c_size_t(MAX_MALLOC_BYTES))  # noqa: SLF001
# Else FFmpeg talks to stderr about each broken packet; what is wrong with a file is said by us.
av.logging.set_level(None)


def open_file(reader: Reader, first: int) -> Media:
    """Open a file and decode its first frame, which tells what the container may not; its pieces begin with the frame ``first``.

    Raises:
        MediaError: it cannot be read, or there is no sound in it.
    """
    skip_tags(reader)
    head = reader.peek(HEAD_BYTES)
    if not head:
        raise NoAudioError("there is nothing in it")
    kind = find_kind(head)
    if kind in _FRAMES_ALONE and not reader.start:
        reader = without_titles(reader)
        head = reader.peek(HEAD_BYTES)
    if kind == "mov":
        check_mp4(reader)
    if kind in {"mpegts", "mpeg"}:
        check_clear(kind, reader.peek(LOOK_BYTES))
    outline = Outline(kind, head)
    reader.seen = outline.see
    container = _open(reader, kind)
    try:
        return _Decoder(reader, container, kind, outline).media(first)
    except BaseException:
        container.close()
        raise


def _open(reader: Reader, kind: str) -> InputContainer:
    try:
        return av.open(  # type: ignore[no-any-return]
            reader,
            "r",
            format=kind or None,
            container_options=_OPTIONS | _MORE_OPTIONS.get(kind, {}),
            buffer_size=_BUFFER_BYTES,
            **_TAGS,
        )
    except _WRONG as error:
        if reader.error:
            raise reader.error from None
        if not kind:
            name = unread_kind(reader.peek(HEAD_BYTES))
            raise MediaError(f"it is no audio file of a kind that is read{name and ': ' + name}") from None
        if kind == "mov" and not reader.seekable():
            raise UnseekableError("an MP4 file that cannot be read from a pipe, or a broken one") from None
        raise MediaError(f"a broken {kind} file: {_words(error)}") from None


def _words(error: Exception) -> str:
    """What is wrong, in FFmpeg's words, which never hold what is in the file."""
    return getattr(error, "strerror", None) or type(error).__name__


class _Decoder:
    """One file, while it is decoded."""

    def __init__(self, reader: Reader, container: InputContainer, kind: str, outline: Outline) -> None:
        self._reader = reader
        self._container = container
        self._kind = kind
        self._outline = outline
        self._stream = _choose(container)
        self._codec = self._stream.codec_context
        self._codec.thread_count = 1
        channels = max(1, self._codec.channels)
        if channels > _MAX_CHANNELS:
            raise MediaError(f"{channels} channels; {_MAX_CHANNELS} at most are read")
        self._codec.options = {"max_samples": str(_MAX_FRAME_SAMPLES // channels)}
        if self._codec.name == "flac":
            self._codec.options |= {"err_detect": "crccheck+explode"}  # else a broken frame is noise
        self._base = self._stream.time_base or Fraction(1, 1000)
        self._lost: int | None = None  # packets since the last frame, in units of the time base; None: none
        self._samples: Samples
        self._scale: tuple[int, int]  # frames in so many ticks of the time base
        self._timeline: Timeline
        self._passing = 0  # so many packets before the first that is wanted must be decoded; 0: all, from now on
        self._first = 0
        self._before: av.Packet[av.AudioStream] | None = None  # the packet before this one

    def media(self, first_frame: int) -> Media:
        """The file, once its first frame is decoded."""
        frames = self._frames()
        first = next(frames, None)
        if first is None:
            raise NoAudioError("no sound in it can be decoded")
        self._samples = Samples(first)
        fmt = self._samples.format
        self._scale = (self._base.numerator * fmt.rate, self._base.denominator)
        length, promised = self._length()
        frames = self._to_the_end(frames, length)
        container = self._container.format.name.partition(",")[0]
        if first_frame:
            self._first, self._passing = first_frame, _NEEDED.get(self._kind, 0)
        noticed = Noticed()
        finish = Finish(self._samples.gains, noticed, as_written=self._codec.name.startswith("pcm_f"))
        pieces = join(self._chunks(first, frames), fmt.rate, length if promised else None, first_frame, finish)
        # Of fragments it is that of those which were looked at.
        told = None if self._outline.fragmented else length
        return Media(fmt, told, container, self._codec.name, pieces, noticed)

    def _length(self) -> tuple[int | None, bool]:
        """The length in frames, None where it were a guess; and whether so much must come."""
        told = tells_length(self._kind, self._reader)
        if self._kind in _TELL_FILE_LENGTH:
            # It is the length of the longest stream, which may be another one.
            promised = told and len(self._container.streams) == 1
            length = (self._container.duration or 0) * self._samples.format.rate // av.time_base
        else:
            promised, length = told, self._in_frames(self._stream.duration or 0)
        # The end of an Ogg file tells how long it is, not how long it should be.
        return length if length > 0 and (told or self._kind == "ogg") else None, promised

    def _to_the_end(self, frames: Iterator[av.AudioFrame], length: int | None) -> Iterator[av.AudioFrame]:
        """The frames of a file of which ``length`` is known, which may be longer than its sound, or shorter.

        Raises:
            TruncatedError: its end is cut off, and sound with it.
            MediaError: as well, but how much is not known.
        """
        yield from frames
        end, reach = self._reader.end, self._outline.reach
        if end is None or reach <= end:
            return
        rate, frame = self._samples.format.rate, self._timeline.frame
        if length is not None and frame < length - rate * CLEARLY_S:
            raise TruncatedError(f"it ends after {frame / rate:.1f} s of {length / rate:.1f} s", length)
        if self._outline.fragmented or self._kind in _ONE_PART:
            raise MediaError(f"it is cut off: it has {end} bytes of {reach} or more")

    def _in_frames(self, ticks: int) -> int:
        """A time of the stream in frames."""
        units, per = self._scale
        return ticks if units == per else (2 * ticks * units + per) // (2 * per)

    def _frames(self) -> Iterator[av.AudioFrame]:
        """Decoded frames; what is lost before one is in ``_lost``.

        Raises:
            MediaError: nothing can be decoded any more.
        """
        errors = 0
        for packet in self._packets():
            if self._passing and self._passes(packet):
                continue
            self._before = packet
            if self._kind == "mov" and packet.has_sidedata("encryption_info"):
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

    def _passes(self, packet: "av.Packet[av.AudioStream]") -> bool:
        """Whether a packet need not be decoded. Only where it is sure how many frames are in it, and that they are not wanted."""
        ticks, before = packet.duration or 0, self._before
        frames = self._in_frames(ticks)
        exact = ticks and frames / self._base == ticks * self._samples.format.rate
        wanted = self._timeline.frame + self._passing * frames > self._first
        # A lost one that is shorter than what is rounded leaves no hole, so that nobody would know of it.
        follows = before and before.pts is not None and packet.pts == before.pts + (before.duration or 0)
        if not (follows and exact) or frames <= self._timeline.rounding or wanted:
            self._passing = 0
            return False
        self._timeline.frame += frames
        self._before = packet
        self._reader.heard()
        return True

    def _packets(self) -> Iterator["av.Packet[av.AudioStream]"]:
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
            self._timeline = timeline = Timeline(self._samples.format.rate, self._origin(first))
            for frame in chain([first], frames):
                if self._lost is not None:
                    timeline.lose(self._in_frames(self._lost))
                samples = self._samples.of(frame)
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
        return int(min(starts) * self._samples.format.rate + Fraction(1, 2))


def _choose(container: InputContainer) -> av.AudioStream:
    """The stream to decode; the demuxer leaves the others out.

    Raises:
        NoAudioError: there is none.
        MediaError: there is none that is decoded here.
        EncryptedError: a Matroska or WMA file says that it is; its packets look like any others.
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
    if "enc_key_id" in chosen.metadata or "ASF_Protection_Type" in container.metadata:
        raise EncryptedError("the audio is encrypted")
    for stream in container.streams:
        if stream is not chosen:
            stream.discard = Discard.all
    return chosen
