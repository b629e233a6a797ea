"""One file, while FFmpeg decodes it. In: an open container, and what was read of it before. Out: its format, and its PCM in pieces."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from typing import Any, NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from numpy.typing import NDArray

from transcriber.audio.codecs.wav import HUGE_BYTES, is_placeholder
from transcriber.audio.media.outline import Outline
from transcriber.audio.media.parts import last_granule
from transcriber.audio.media.pieces import CLEARLY_S, Chunk, Media, SampleNormalizer, join
from transcriber.audio.media.rate import RateConverter
from transcriber.audio.media.samples import SampleConverter, is_read
from transcriber.audio.media.sniff import states_length
from transcriber.audio.media.sources import Reader
from transcriber.audio.media.timeline import Timeline
from transcriber.audio.mixing import MixReport
from transcriber.errors import ClaimError, EncryptedError, MediaError, NoAudioError, TruncatedError

_MAX_SILENCE = 8192
"""Frames at once."""
_MAX_CHANNELS = 64
_MAX_PACKET_BYTES = 2**23
_MAX_RAW_PACKET_BYTES = 2881
"""No frame of MP3 is larger."""
_MAX_FRAME_SAMPLES = 2**22
"""In one decoded frame, of all channels."""
_NEEDED = {"flac": 1, "mp3": 64}
"""By demuxer: how many packets, itself included, are needed to decode a packet bit-identically. A frame of FLAC stands alone; one of
MP3 overlaps the one before, and has a part of its bits up to 511 bytes earlier, which at 8 kbit/s are 47 frames."""
_TELL_FILE_LENGTH = frozenset({"matroska", "flv"})
"""Demuxers that know how long the file is, not each stream of it."""
_ONE_PART = frozenset({"asf", "avi", "caf", "w64"})
"""Kinds with all audio in one part; their demuxers take its end for that of the file."""
_CLAIM_LENGTH = frozenset({"wav", "aiff", "au", "caf", "w64"})
"""Demuxers of files whose header claims a length that may never have been filled in."""
_WITHOUT_CLOCK = frozenset({"", "aac", "mp3"})
"""Demuxers of files without time stamps: FFmpeg counts on, whatever lies between the packets, and at the rate with which they began."""
_MAX_ERRORS = 2000
"""Packets in a row that cannot be decoded: half a minute and more."""
FFMPEG_ERRORS = (FFmpegError, ValueError, OverflowError)
"""What PyAV raises about a file."""


class ContainerFacts(NamedTuple):
    """What was read of a file before FFmpeg opened it.

    Attributes:
        outline: tracks where its parts end.
        serials: of an Ogg file, the numbers of its streams.
        times: of one with FLAC, the first time in each, and how many packets end by then.
    """

    outline: Outline
    serials: list[int]
    times: list[tuple[int, int] | None]


class FileDecoder:
    """One file, while it is decoded."""

    def __init__(
        self,
        reader: Reader,
        container: InputContainer,
        stream: av.AudioStream,
        kind: str,
        facts: ContainerFacts,
        like: SampleConverter | None,
    ) -> None:
        self._facts = facts
        self._untimed = 0  # so many frames have no valid time stamps
        self._like = like
        self._reader = reader
        self._container = container
        self._kind = kind
        self._stream = stream
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
        self._converter: SampleConverter
        self._scale: tuple[int, int]  # frames in so many ticks of the time base
        self._timeline: Timeline
        self._passing = 0  # so many packets before the first that is wanted must be decoded; 0: all, from now on
        self._first = 0
        self._before: av.Packet[av.AudioStream] | None = None  # the packet before this one
        self._packet_bytes = self._packet_count = 0
        self._rate_bits = b""  # of the packets that are passed over

    def media(self, first_frame: int) -> tuple[Media, SampleConverter]:
        """The file, once its first frame is decoded."""
        frames = self._frames()
        first = next(frames, None)
        if first is None:
            raise NoAudioError("no audio in it can be decoded")
        self._converter = self._like or SampleConverter(first)
        fmt = self._converter.format
        self._scale = (self._base.numerator * fmt.rate, self._base.denominator)
        self._timeline = Timeline(fmt.rate, self._origin(first))
        length, promised, claimed = self._length()
        frames = self._to_the_end(frames, length)
        container = self._container.format.name.partition(",")[0]
        if first_frame:
            self._first, self._passing = first_frame, _NEEDED.get(self._kind, 0)
        mix_report = MixReport()
        normalize = SampleNormalizer(self._converter.gains, mix_report, as_written=self._codec.name.startswith("pcm_f"))
        pieces = join(self._chunks(first, frames), fmt.rate, promised, first_frame, normalize, claimed)
        # Of a fragmented file it is the length of the fragments read so far.
        known = None if self._facts.outline.fragmented else length
        return Media(fmt, known, container, self._codec.name, pieces, mix_report), self._converter

    def _length(self) -> tuple[int | None, int | None, int]:
        """In frames: the length, None if it would be a guess; the promised length, None if there is none; the claimed length."""
        stated = states_length(self._kind, self._reader)
        length = self._in_frames(self._stream.duration or 0)
        if self._kind in _CLAIM_LENGTH:
            return self._there(length)
        if self._kind in _TELL_FILE_LENGTH:
            # It is the end of the longest stream, which may be another one.
            end = (self._container.duration or 0) * self._converter.format.rate // av.time_base
            length = max(0, end - self._timeline.origin) if end > self._timeline.origin else end
            stated_for_audio = stated and len(self._container.streams) == 1
            return length if stated and length else None, length if stated_for_audio and length else None, 0
        if self._kind == "ogg":
            return self._end_of_ogg(), None, 0
        if self._kind == "mov" and self._stream.start_time:
            length += max(0, self._in_frames(self._stream.start_time) - self._timeline.origin)
        return (length, length, 0) if stated and length > 0 else (None, None, 0)

    def _there(self, claimed: int) -> tuple[int | None, int | None, int]:
        """The same for a length that is only a claim: there is no more than the bytes of the file."""
        size, bits = self._reader.source.size, self._codec.bit_rate or 0
        if size is None or not bits:
            return claimed or None, None, claimed
        size -= self._reader.start
        rate = self._converter.format.rate
        there, claimed_bytes = size * 8 * rate // bits, claimed * bits // (8 * rate)
        if claimed <= there:
            return claimed or None, None, 0
        return there or None, None, 0 if is_placeholder(claimed_bytes, size) else claimed

    def _end_of_ogg(self) -> int | None:
        """Where an Ogg file ends; None where another stream ends there."""
        if self._stream.index >= len(self._facts.serials):
            return None
        granule = last_granule(self._reader, self._facts.serials[self._stream.index])
        length = self._in_frames(granule) - self._timeline.origin if granule else 0
        return length if length > 0 else None

    def _to_the_end(self, frames: Iterator[av.AudioFrame], length: int | None) -> Iterator[av.AudioFrame]:
        """The frames of a file whose known ``length`` may be longer or shorter than its audio.

        Raises:
            TruncatedError: its end is cut off, and audio with it.
            ClaimError: the same, but it is not known how much.
        """
        yield from frames
        end, reach = self._reader.length, self._facts.outline.reach
        if end is None or reach <= end:
            return
        rate, frame = self._converter.format.rate, self._timeline.frame
        if length is not None and frame < length - rate * CLEARLY_S:
            raise TruncatedError(f"it ends after {frame / rate:.1f} s of {length / rate:.1f} s", length)
        # A size of 64 bits may be larger without being a placeholder.
        filled_in = not is_placeholder(min(reach, HUGE_BYTES - 1), end)
        if self._facts.outline.fragmented or (self._kind in _ONE_PART and filled_in):
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
            except FFMPEG_ERRORS:
                errors += 1
                if errors > _MAX_ERRORS:
                    raise MediaError(f"{errors} packets in a row cannot be decoded") from None
                self._lost = (self._lost or 0) + self._length_of(packet)
                continue
            for frame in frames:
                if frame.samples:
                    errors = 0
                    self._reader.reset_silence()
                    yield frame
                    self._lost = None

    def _length_of(self, packet: "av.Packet[av.AudioStream]") -> int:
        """Length of a packet that cannot be decoded; in MP3 and AAC it may be everything between two that can."""
        duration = packet.duration or 0
        if self._kind not in _WITHOUT_CLOCK or packet.size <= _MAX_RAW_PACKET_BYTES:
            return duration
        before = self._packet_bytes - packet.size
        return duration * round(packet.size * (self._packet_count - 1) / before) if before else duration

    def _passes(self, packet: "av.Packet[av.AudioStream]") -> bool:
        """Whether a packet need not be decoded: only if its frames are certain in number, and not wanted."""
        ticks, before = packet.duration or 0, self._before
        frames = self._in_frames(ticks)
        exact = ticks and frames / self._base == ticks * self._converter.format.rate
        wanted = self._timeline.frame + self._passing * frames > self._first
        # The loss of a packet shorter than the rounding would leave no hole, and so go unnoticed.
        follows = before and before.pts is not None and packet.pts == before.pts + (before.duration or 0)
        rate_bits = _rate_bits(self._kind, packet)
        self._rate_bits = self._rate_bits or rate_bits
        if not (follows and exact and rate_bits == self._rate_bits) or frames <= self._timeline.rounding or wanted:
            self._passing = 0
            return False
        self._timeline.frame += frames
        self._before = packet
        self._reader.reset_silence()
        return True

    def _packets(self) -> Iterator["av.Packet[av.AudioStream]"]:
        """The packets of the stream, and an empty one at the end; the demuxer is retried after an error."""
        for _ in range(_MAX_ERRORS):
            try:
                yield from self._container.demux(self._stream)
            except IndexError:
                pass  # PyAV's, at the end of a stream that it found late; this one has ended before
            except FFMPEG_ERRORS:
                continue
            if self._reader.error:
                raise self._reader.error
            return
        raise self._reader.error or MediaError("the container is broken")

    def _chunks(self, first: av.AudioFrame, frames: Iterator[av.AudioFrame]) -> Iterator[Chunk]:
        """The frames as samples with their places, all at one rate."""
        rates, timeline = RateConverter(self._converter.format.rate), self._timeline
        clock = self._kind not in _WITHOUT_CLOCK
        try:
            for frame in chain([first], frames):
                if not is_read(frame.sample_rate):  # broken
                    timeline.lose(rates.frames(frame.samples, frame.sample_rate) if frame.sample_rate > 0 else 0)
                    continue
                samples, end = self._converter.convert(frame), timeline.frame
                leading = self._lost is None and timeline.at_start
                if self._lost is not None:
                    timeline.lose(self._in_frames(self._lost))
                stamp = self._in_frames(frame.pts) if clock and frame.pts is not None else None
                if self._untimed:
                    self._untimed, stamp = self._untimed - 1, None
                count = rates.frames(len(samples), frame.sample_rate)
                place = timeline.place(stamp, count)
                if leading and place > end:  # the video began before the audio, and nothing is missing
                    yield from rates.flush()
                    yield from _silence(end, place, samples)
                yield from rates.add(place, count, samples, frame.sample_rate)
            yield from rates.flush()
            yield timeline.frame, self._converter.empty()  # skipped packets count, too
        finally:
            self._container.close()

    def _origin(self, first: av.AudioFrame) -> int:
        """The time stamp, in frames, where the recording begins: with its first stream, even if that is video."""
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
            and self._stream.index < len(self._facts.times)
            and (time := self._facts.times[self._stream.index])
        ):
            self._untimed = time[1]
            return max(0, time[0] - time[1] * first.samples)
        if self._stream.start_time is None:
            return self._in_frames((first.pts or 0) - (self._lost or 0))
        return int(min(starts) * self._converter.format.rate + Fraction(1, 2))


def _silence(start: int, end: int, like: NDArray[Any]) -> Iterator[Chunk]:
    """Silence, as samples like these."""
    silence = np.zeros((_MAX_SILENCE, like.shape[1]), like.dtype)
    for place in range(start, end, _MAX_SILENCE):
        yield place, silence[: end - place]


def _rate_bits(kind: str, packet: "av.Packet[av.AudioStream]") -> bytes:
    """The bits of a packet's header that give its rate: packets of different rates may last equally long."""
    head = bytes(memoryview(packet)[:3]).ljust(3, b"\0")
    return bytes([head[1] & 0x1E, head[2] & 0x0C]) if kind == "mp3" else bytes([head[2] & 0x0F])
