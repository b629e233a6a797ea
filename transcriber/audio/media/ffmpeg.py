"""Containers and codecs, by FFmpeg. In: the bytes of a file. Out: its format, and its PCM in pieces.

FFmpeg lives in PyAV's wheel. It is given bytes and nothing else: no file, no address, only demuxers and decoders of a list. What it
allocates, reads and tries is bounded. The demuxer is chosen by the first bytes, so that no other looks at the file.
"""

import ctypes
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from typing import Any, NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Discard, Disposition
from numpy.typing import NDArray

from transcriber.audio.codecs.wav import HUGE_BYTES, is_placeholder
from transcriber.audio.format import AudioFormat
from transcriber.audio.media.icy import without_titles
from transcriber.audio.media.mp4_check import check_mp4
from transcriber.audio.media.mpeg import LOOK_BYTES, check_clear, is_scrambled
from transcriber.audio.media.outline import Outline
from transcriber.audio.media.parts import first_pages, first_time, last_granule, watch
from transcriber.audio.media.pieces import CLEARLY_S, Chunk, Finish, Media, join
from transcriber.audio.media.rate import OneRate
from transcriber.audio.media.samples import Samples, is_read
from transcriber.audio.media.sizes import mend_sizes
from transcriber.audio.media.sniff import HEAD_BYTES, find_kind, skip_tags, tells_length, unread_kind
from transcriber.audio.media.sources import Reader
from transcriber.audio.media.timeline import Timeline
from transcriber.audio.mixing import Noticed
from transcriber.errors import ClaimError, EncryptedError, MediaError, NoAudioError, TruncatedError, UnseekableError

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
_FOUND_LATE = {"max_streams": "24"}
"""For demuxers that learn of a stream from its first packet. Where it comes after the file is open, PyAV looks beyond the bytes that it
has asked for, one for each stream that it knew of; nobody gets fewer than 24."""
_LONG_LOOK = _FOUND_LATE | {"probesize": "5000000", "analyzeduration": "10000000"}
"""As well; and that packet comes behind some of a film's picture."""
_MORE_OPTIONS = {
    "mpegts": _LONG_LOOK,
    "mpeg": _LONG_LOOK,
    "flv": _FOUND_LATE,
    "ogg": _FOUND_LATE,
    "": {"format_whitelist": "aac,mp3"},  # tried where the first bytes tell nothing: these files may begin anywhere
}
_FRAMES_ALONE = frozenset({"", "aac", "mp3"})
"""Kinds of which a station's stream is."""
_BUFFER_BYTES = 32_768
_MAX_SILENCE = 8192
"""Frames at once."""
_MAX_CHANNELS = 64
_MAX_PACKET_BYTES = 2**23
_MAX_RAW_PACKET_BYTES = 2881
"""No frame of MP3 is larger."""
_MAX_FRAME_SAMPLES = 2**22
"""In one decoded frame, of all channels."""
_NEEDED = {"flac": 1, "mp3": 64}
"""By demuxer: to decode a packet to the last bit alike so many packets are needed, itself included. A frame of FLAC stands alone; one
of MP3 overlaps the one before, and has a part of its bits up to 511 bytes earlier, which at 8 kbit/s are 47 frames."""
_TELL_FILE_LENGTH = frozenset({"matroska", "flv"})
"""Demuxers that know how long the file is, not each stream of it."""
_ONE_PART = frozenset({"asf", "avi", "caf", "w64"})
"""Kinds in which all audio is in one part; their demuxers take its end for that of the file."""
_CLAIM_LENGTH = frozenset({"wav", "aiff", "au", "caf", "w64"})
"""Demuxers of files whose header claims a length that nobody may ever have filled in."""
_WITHOUT_CLOCK = frozenset({"", "aac", "mp3"})
"""Demuxers of files without time stamps: FFmpeg counts on, whatever lies between the packets, and at the rate with which they began."""
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


def open_file(reader: Reader, first: int, like: AudioFormat | Samples | None = None) -> tuple[Media, Samples]:
    """Open a file and decode its first frame, which tells what the container may not; its pieces begin with the frame ``first``.

    Where it lies behind another file its samples are made ``like`` those.

    Raises:
        MediaError: it cannot be read, or there is no sound in it.
    """
    skip_tags(reader)
    head = reader.peek(HEAD_BYTES)
    if not head:
        raise NoAudioError("there is nothing in it")
    kind = find_kind(head)
    if kind in _FRAMES_ALONE and (sound := without_titles(reader.source, reader.start)):
        reader.read_instead(sound)
        head = reader.peek(HEAD_BYTES)
        kind = find_kind(head)
    if kind == "mov":
        check_mp4(reader)
    if kind == "mpeg":
        check_clear(reader.peek(LOOK_BYTES))
    scrambled = kind == "mpegts" and is_scrambled(reader.peek(LOOK_BYTES))
    mend_sizes(reader, kind)
    serials = [serial for _, serial in first_pages(reader)] if kind == "ogg" else []
    # FFmpeg begins to count at 0 in FLAC, whatever its first page says.
    times = [first_time(reader, serial) for serial in serials] if serials and b"\x7fFLAC" in reader.peek(512) else []
    watch(reader, kind)
    outline = Outline(kind, head)
    reader.seen = outline.see
    container = _open(reader, kind)
    try:
        alike = Samples(like) if isinstance(like, AudioFormat) else like
        return _Decoder(reader, container, kind, _Known(outline, serials, times), alike).media(first)
    except BaseException as error:
        container.close()
        if scrambled and isinstance(error, MediaError):  # nothing of it is clear
            raise EncryptedError("the audio is encrypted") from None
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


class _Known(NamedTuple):
    """What we know of a file and FFmpeg does not.

    Attributes:
        outline: follows where its parts end.
        serials: of an Ogg file, the numbers of its streams.
        times: of one with FLAC, the first time in each, and how many packets end by then.
    """

    outline: Outline
    serials: list[int]
    times: list[tuple[int, int] | None]


class _Decoder:
    """One file, while it is decoded."""

    def __init__(
        self, reader: Reader, container: InputContainer, kind: str, known: _Known, like: Samples | None
    ) -> None:
        self._known = known
        self._untimed = 0  # so many frames have time stamps that are none
        self._like = like
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
        self._base = self._stream.time_base or Fraction(1, 1000)
        self._lost: int | None = None  # packets since the last frame, in units of the time base; None: none
        self._samples: Samples
        self._scale: tuple[int, int]  # frames in so many ticks of the time base
        self._timeline: Timeline
        self._passing = 0  # so many packets before the first that is wanted must be decoded; 0: all, from now on
        self._first = 0
        self._before: av.Packet[av.AudioStream] | None = None  # the packet before this one
        self._packet_bytes = self._packet_count = 0
        self._sort = b""  # of the packets that are passed over

    def media(self, first_frame: int) -> tuple[Media, Samples]:
        """The file, once its first frame is decoded."""
        frames = self._frames()
        first = next(frames, None)
        if first is None:
            raise NoAudioError("no sound in it can be decoded")
        self._samples = self._like or Samples(first)
        fmt = self._samples.format
        self._scale = (self._base.numerator * fmt.rate, self._base.denominator)
        self._timeline = Timeline(fmt.rate, self._origin(first))
        length, promised, claimed = self._length()
        frames = self._to_the_end(frames, length)
        container = self._container.format.name.partition(",")[0]
        if first_frame:
            self._first, self._passing = first_frame, _NEEDED.get(self._kind, 0)
        noticed = Noticed()
        finish = Finish(self._samples.gains, noticed, as_written=self._codec.name.startswith("pcm_f"))
        pieces = join(self._chunks(first, frames), fmt.rate, promised, first_frame, finish, claimed)
        # Of fragments it is that of those which were looked at.
        told = None if self._known.outline.fragmented else length
        return Media(fmt, told, container, self._codec.name, pieces, noticed), self._samples

    def _length(self) -> tuple[int | None, int | None, int]:
        """In frames: the length, None where it were a guess; how much must come, None where nobody promised; what is claimed."""
        told = tells_length(self._kind, self._reader)
        length = self._in_frames(self._stream.duration or 0)
        if self._kind in _CLAIM_LENGTH:
            return self._there(length)
        if self._kind in _TELL_FILE_LENGTH:
            # It is the end of the longest stream, which may be another one.
            end = (self._container.duration or 0) * self._samples.format.rate // av.time_base
            length = max(0, end - self._timeline.origin) if end > self._timeline.origin else end
            told_of_it = told and len(self._container.streams) == 1
            return length if told and length else None, length if told_of_it and length else None, 0
        if self._kind == "ogg":
            return self._end_of_ogg(), None, 0
        if self._kind == "mov" and self._stream.start_time:
            length += max(0, self._in_frames(self._stream.start_time) - self._timeline.origin)
        return (length, length, 0) if told and length > 0 else (None, None, 0)

    def _there(self, claimed: int) -> tuple[int | None, int | None, int]:
        """The same, of a length that is only a claim: there is no more than the bytes of the file."""
        size, bits = self._reader.source.size, self._codec.bit_rate or 0
        if size is None or not bits:
            return claimed or None, None, claimed
        size -= self._reader.start
        rate = self._samples.format.rate
        there, claimed_bytes = size * 8 * rate // bits, claimed * bits // (8 * rate)
        if claimed <= there:
            return claimed or None, None, 0
        return there or None, None, 0 if is_placeholder(claimed_bytes, size) else claimed

    def _end_of_ogg(self) -> int | None:
        """Where an Ogg file ends; None where another stream ends there."""
        if self._stream.index >= len(self._known.serials):
            return None
        granule = last_granule(self._reader, self._known.serials[self._stream.index])
        length = self._in_frames(granule) - self._timeline.origin if granule else 0
        return length if length > 0 else None

    def _to_the_end(self, frames: Iterator[av.AudioFrame], length: int | None) -> Iterator[av.AudioFrame]:
        """The frames of a file of which ``length`` is known, which may be longer than its sound, or shorter.

        Raises:
            TruncatedError: its end is cut off, and sound with it.
            ClaimError: as well, but how much is not known.
        """
        yield from frames
        end, reach = self._reader.length, self._known.outline.reach
        if end is None or reach <= end:
            return
        rate, frame = self._samples.format.rate, self._timeline.frame
        if length is not None and frame < length - rate * CLEARLY_S:
            raise TruncatedError(f"it ends after {frame / rate:.1f} s of {length / rate:.1f} s", length)
        # Of 64 bits much is no placeholder yet.
        filled_in = not is_placeholder(min(reach, HUGE_BYTES - 1), end)
        if self._known.outline.fragmented or (self._kind in _ONE_PART and filled_in):
            raise ClaimError(f"it is cut off: it has {end} bytes of {reach} or more", frame)

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
            self._packet_bytes += packet.size
            self._packet_count += 1
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
                self._lost = (self._lost or 0) + self._length_of(packet)
                continue
            for frame in frames:
                if frame.samples:
                    errors = 0
                    self._reader.heard()
                    yield frame
                    self._lost = None

    def _length_of(self, packet: "av.Packet[av.AudioStream]") -> int:
        """How long a packet is that cannot be decoded; in MP3 and AAC it may be whatever lies between two that can."""
        duration = packet.duration or 0
        if self._kind not in _WITHOUT_CLOCK or packet.size <= _MAX_RAW_PACKET_BYTES:
            return duration
        before = self._packet_bytes - packet.size
        return duration * round(packet.size * (self._packet_count - 1) / before) if before else duration

    def _passes(self, packet: "av.Packet[av.AudioStream]") -> bool:
        """Whether a packet need not be decoded. Only where it is sure how many frames are in it, and that they are not wanted."""
        ticks, before = packet.duration or 0, self._before
        frames = self._in_frames(ticks)
        exact = ticks and frames / self._base == ticks * self._samples.format.rate
        wanted = self._timeline.frame + self._passing * frames > self._first
        # A lost one that is shorter than what is rounded leaves no hole, so that nobody would know of it.
        follows = before and before.pts is not None and packet.pts == before.pts + (before.duration or 0)
        sort = _sort(self._kind, packet)
        self._sort = self._sort or sort
        if not (follows and exact and sort == self._sort) or frames <= self._timeline.rounding or wanted:
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
            except IndexError:
                pass  # PyAV's, at the end of a stream that it found late; ours has ended before
            except _WRONG:
                continue
            if self._reader.error:
                raise self._reader.error
            return
        raise self._reader.error or MediaError("the container is broken")

    def _chunks(self, first: av.AudioFrame, frames: Iterator[av.AudioFrame]) -> Iterator[Chunk]:
        """The frames as samples with their places, all at one rate."""
        rates, timeline = OneRate(self._samples.format.rate), self._timeline
        clock = self._kind not in _WITHOUT_CLOCK
        try:
            for frame in chain([first], frames):
                if not is_read(frame.sample_rate):  # broken
                    timeline.lose(rates.frames(frame.samples, frame.sample_rate) if frame.sample_rate > 0 else 0)
                    continue
                samples, end = self._samples.of(frame), timeline.frame
                leading = self._lost is None and timeline.at_start
                if self._lost is not None:
                    timeline.lose(self._in_frames(self._lost))
                stamp = self._in_frames(frame.pts) if clock and frame.pts is not None else None
                if self._untimed:
                    self._untimed, stamp = self._untimed - 1, None
                count = rates.frames(len(samples), frame.sample_rate)
                place = timeline.place(stamp, count)
                if leading and place > end:  # the picture began before the sound, and nothing is missing
                    yield from rates.flush()
                    yield from _silence(end, place, samples)
                yield from rates.add(place, count, samples, frame.sample_rate)
            yield from rates.flush()
            yield timeline.frame, self._samples.none()  # what was passed over counts, too
        finally:
            self._container.close()

    def _origin(self, first: av.AudioFrame) -> int:
        """The time stamp, in frames, where the recording begins: where its first stream does, were it a picture."""
        starts = [
            stream.start_time * stream.time_base
            for stream in self._container.streams
            if stream.type in {"audio", "video"}
            and not stream.disposition & Disposition.attached_pic
            and stream.start_time is not None
            and stream.time_base
        ]
        if (
            self._codec.name == "flac"
            and self._stream.index < len(self._known.times)
            and (time := self._known.times[self._stream.index])
        ):
            self._untimed = time[1]
            return max(0, time[0] - time[1] * first.samples)
        if self._stream.start_time is None:
            return self._in_frames((first.pts or 0) - (self._lost or 0))
        return int(min(starts) * self._samples.format.rate + Fraction(1, 2))


def _silence(start: int, end: int, like: NDArray[Any]) -> Iterator[Chunk]:
    """Nothing to be heard, as samples like these."""
    nothing = np.zeros((_MAX_SILENCE, like.shape[1]), like.dtype)
    for place in range(start, end, _MAX_SILENCE):
        yield place, nothing[: end - place]


def _sort(kind: str, packet: "av.Packet[av.AudioStream]") -> bytes:
    """What its header says of a packet's rate: packets of different rates may last as long."""
    head = bytes(memoryview(packet)[:3]).ljust(3, b"\0")
    return bytes([head[1] & 0x1E, head[2] & 0x0C]) if kind == "mp3" else bytes([head[2] & 0x0F])


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
