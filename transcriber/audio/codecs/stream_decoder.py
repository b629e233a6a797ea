"""Encoded audio, as its bytes arrive, to samples with their places.

In: payloads of one stream: the consecutive bytes of a container (WebM, Ogg, MP4) or of frames (ADTS, MP3), or bare Opus packets.
Out: pieces of PCM, each with the place of its first frame by the container's clock; where a recording begins; where something
could not be read. Missing audio shows as a jump of the places.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple, Protocol

from transcriber.audio.codecs.mp4 import Mp4Demuxer
from transcriber.audio.codecs.mpeg_frames import FrameDemuxer, begins
from transcriber.audio.codecs.ogg import OggDemuxer
from transcriber.audio.codecs.ogg_page import CAPTURE
from transcriber.audio.codecs.opus import (
    MAX_PACKET_FRAMES,
    OPUS_RATE,
    CodedHeader,
    ContainerEvent,
    Header,
    OpusHeader,
    Packet,
    PcmHeader,
    RecordingStarted,
    Unreadable,
    packet_channels,
)
from transcriber.audio.codecs.webm import WebmDemuxer
from transcriber.audio.format import ENCODED_TYPES, AudioFormat, SampleFormat, media_type
from transcriber.audio.offsets import RESTART_S
from transcriber.errors import BadInputError

PIECE_FRAMES = OPUS_RATE
"""A piece has at most so many frames."""

OGG_SLACK = 120
"""Frames at 48 kHz: times of Ogg and MP4 are exact, and no packet of Opus is shorter than this."""
WEBM_SLACK = 2_400
"""Frames at 48 kHz: recorders stamp blocks with their time of arrival."""


class Encoding(StrEnum):
    """What payloads contain."""

    WEBM = "webm"
    OGG = "ogg"
    OPUS = "opus"
    MP4 = "mp4"
    AAC = "aac"
    MPEG = "mpeg"


_ENCODINGS = {kind: Encoding(name) for kind, name in ENCODED_TYPES.items()}
_MAGIC = ((0, b"\x1a\x45\xdf\xa3", "audio/webm"), (0, CAPTURE, "audio/ogg"), (4, b"ftyp", "audio/mp4"))


def parse_encoding(content_type: str) -> Encoding | None:
    """The encoding that a ``Content-Type`` names; None if it is PCM or unknown."""
    return _ENCODINGS.get(media_type(content_type))


def recognised_type(data: bytes) -> str | None:
    """The ``Content-Type`` of encoded audio that begins with ``data``, where the publisher sent none; None: it is samples.

    ADTS and MP3 take two frames, one behind the other.
    """
    for at, magic, kind in _MAGIC:
        if data.startswith(magic, at):
            return kind
    return f"audio/{framed}" if (framed := begins(data)) else None


class DecodedPiece(NamedTuple):
    """Samples of ``format``; ``frame``: the place of the first by the container's clock, None if there is no clock."""

    frame: int | None
    data: bytes
    format: AudioFormat


DecodedEvent = DecodedPiece | RecordingStarted | Unreadable
"""What a decoder yields."""


class _Decoder(Protocol):
    """Packets to samples; ``scale``: how many frames of samples a frame of the container's clock is."""

    @property
    def format(self) -> AudioFormat: ...

    @property
    def scale(self) -> int: ...

    def decode(self, packet: bytes) -> bytes:
        """Samples of one packet, or BadInputError."""


class _PacketClock:
    """Places packets one after the other, unless their times show that something is missing between them.

    Only the steps from time to time count: jitter, or slow drift from the count of frames, is no hole.
    """

    def __init__(self, slack: int, max_hole_s: float, rate: int) -> None:
        """``slack``: frames at 48 kHz; ``rate`` is what packets are counted at."""
        self.clock = 0  # after the last packet
        self.rate = rate
        self._exact = OGG_SLACK * rate // OPUS_RATE
        self._slack, self._farthest = slack * rate // OPUS_RATE, int(max_hole_s * rate)
        self._due: int | None = None  # the time that the next packet has if nothing is missing

    def jump(self, packet: Packet, frames: int) -> int:
        """How far from its expected place a packet is; 0 if that is only jitter."""
        if packet.at is None or self._due is None:
            return 0
        step = packet.at - self._due
        # After damage each packet counts; else recorders that stamp blocks late are tolerated.
        slack = self._exact if packet.lost or self._slack == self._exact else max(self._slack, frames * 3 // 4)
        return step if abs(step) > slack else 0

    def place(self, packet: Packet, frames: int) -> int:
        """The place of a packet's first frame."""
        if packet.at is not None and self._due is None and not self.clock:
            self.clock = packet.at
        jump = self.jump(packet, frames)
        # A jump beyond the largest hole is another clock.
        if -RESTART_S * self.rate <= jump <= self._farthest:
            self.clock += jump
        self._due = self._due if packet.at is None else packet.at
        place = self.clock
        self.clock += frames
        if self._due is not None:
            self._due += frames
        return place


class StreamDecoder:
    """Decodes one stream. One thread at a time.

    Its memory is bounded by the largest element, page or packet. A packet that does not decode costs only itself.
    """

    def __init__(self, encoding: Encoding, *, max_hole_s: float, icy_interval: int | None = None) -> None:
        """``icy_interval``: bytes of audio between two titles of a radio, if it sends any."""
        self.encoding = encoding
        self._container = _demuxer(encoding, icy_interval)
        self._max_hole_s = max_hole_s
        self._begun = False
        self._begin()

    def _begin(self) -> None:
        self._head: Header | None = None
        self._clock = self._new_clock(OPUS_RATE)
        self._decoder: _Decoder | None = None
        self._skip = 0  # frames still to be discarded
        self._doubtful: Packet | None = None  # its time jumps, and no later packet has confirmed that yet

    @property
    def format(self) -> AudioFormat:
        """Format of the samples, as far as known."""
        return self._decoder.format if self._decoder else AudioFormat(SampleFormat.S16LE, OPUS_RATE, 1)

    def feed(self, payload: bytes, *, offset: int | None = None, lost: bool = False) -> Iterator[DecodedEvent]:
        """Take a payload; ``lost``: some before it are missing. To be exhausted before the next call.

        ``offset`` is the place of a bare packet; containers have a clock of their own.
        """
        if self._container is None:
            return self._decode_bare(payload, offset)
        return self._joined(self._container.feed(payload, lost=lost))

    def finish(self) -> Iterator[DecodedEvent]:
        """No more payloads will arrive: decode what is left."""
        return iter(()) if self._container is None else self._joined(self._container.finish(), last=True)

    def _new_clock(self, rate: int) -> _PacketClock:
        return _PacketClock(WEBM_SLACK if self.encoding is Encoding.WEBM else OGG_SLACK, self._max_hole_s, rate)

    def _decode_bare(self, packet: bytes, offset: int | None) -> Iterator[DecodedPiece | Unreadable]:
        try:
            head, decoder = self._decoder_for(packet)
            head.frames_of(packet)
            yield DecodedPiece(offset, decoder.decode(packet), decoder.format)
        except BadInputError as error:
            yield Unreadable(str(error))

    def _joined(self, events: Iterator[ContainerEvent], *, last: bool = False) -> Iterator[DecodedEvent]:
        """Audio without a hole as one piece, of a bounded size; damage is reported once, until audio is decoded again."""
        start, frames, broken = 0, 0, False
        parts: list[bytes] = []
        fmt: AudioFormat | None = None
        for found in self._decode(events, last=last):
            if broken and isinstance(found, Unreadable):
                continue
            broken = isinstance(found, Unreadable)
            joins = isinstance(found, DecodedPiece) and found.format == fmt and found.frame == start + frames
            if parts and fmt and not (joins and frames + MAX_PACKET_FRAMES <= PIECE_FRAMES):
                yield DecodedPiece(start, b"".join(parts), fmt)
                parts = []
            if not isinstance(found, DecodedPiece):
                yield found
                continue
            if not parts:
                start, frames, fmt = found.frame or 0, 0, found.format
            parts.append(found.data)
            frames += len(found.data) // found.format.frame_bytes
        if parts and fmt:
            yield DecodedPiece(start, b"".join(parts), fmt)

    def _decode(self, events: Iterator[ContainerEvent], *, last: bool) -> Iterator[DecodedEvent]:
        for event in events:
            match event:
                case RecordingStarted():
                    yield from self._accept_doubtful()
                    if self._begun:
                        yield event
                    self._begun = False
                    self._begin()
                case Packet():
                    self._begun = True
                    yield from self._check(event)
                case Unreadable():
                    yield event
                case _:
                    self._head, self._decoder, self._skip = event, _new_decoder(event), event.pre_skip
                    if event.rate != self._clock.rate:
                        self._clock = self._new_clock(event.rate)
        if last:
            yield from self._accept_doubtful()

    def _check(self, packet: Packet) -> Iterator[DecodedPiece | Unreadable]:
        """WebM has no checksums: a time that jumps is accepted if the next one agrees."""
        doubtful = self._doubtful
        if doubtful and doubtful.at is not None:
            frames = self._frames_of(doubtful)
            slack = WEBM_SLACK * self._clock.rate // OPUS_RATE
            if packet.at is None or abs(packet.at - doubtful.at - frames) > max(slack, frames):
                self._doubtful = doubtful._replace(at=None)
                packet = packet._replace(lost=packet.lost or doubtful.lost)
        yield from self._accept_doubtful()
        if self.encoding is Encoding.WEBM and self._clock.jump(packet, self._frames_of(packet)):
            self._doubtful = packet
        else:
            yield from self._decode_packet(packet)

    def _accept_doubtful(self) -> Iterator[DecodedPiece | Unreadable]:
        """Decode the doubtful packet at its own time."""
        packet, self._doubtful = self._doubtful, None
        if packet:
            yield from self._decode_packet(packet)

    def _decode_packet(self, packet: Packet) -> Iterator[DecodedPiece | Unreadable]:
        _, decoder = self._decoder_for(packet.data)
        frames = self._frames_of(packet)
        place = self._clock.place(packet, frames)
        skipped = min(self._skip, frames)
        self._skip -= skipped
        try:
            samples = decoder.decode(packet.data)
        except BadInputError as error:
            if packet.keep != 0:
                yield Unreadable(str(error))
            return
        size = decoder.format.frame_bytes * decoder.scale
        samples = samples[skipped * size : None if packet.keep is None else packet.keep * size]
        if samples:
            yield DecodedPiece((place + skipped) * decoder.scale, samples, decoder.format)

    def _frames_of(self, packet: Packet) -> int:
        return self._decoder_for(packet.data)[0].frames_of(packet.data)

    def _decoder_for(self, packet: bytes) -> tuple[Header, _Decoder]:
        """The codec and its decoder; without a header it is Opus, and the first packet decides how many channels come out."""
        if self._head is None or self._decoder is None:
            self._head = OpusHeader(packet_channels(packet))
            self._decoder = _new_decoder(self._head)
        return self._head, self._decoder


def _demuxer(
    encoding: Encoding, icy_interval: int | None
) -> WebmDemuxer | OggDemuxer | Mp4Demuxer | FrameDemuxer | None:
    """None: each payload is a packet."""
    match encoding:
        case Encoding.WEBM:
            return WebmDemuxer()
        case Encoding.OGG:
            return OggDemuxer()
        case Encoding.MP4:
            return Mp4Demuxer()
        case Encoding.AAC:
            return FrameDemuxer("aac", icy_interval)
        case Encoding.MPEG:
            return FrameDemuxer("mpeg", icy_interval)
        case Encoding.OPUS:
            return None


class _PcmDecoder:
    """Samples as they are."""

    scale = 1

    def __init__(self, fmt: AudioFormat) -> None:
        self.format = fmt

    def decode(self, packet: bytes) -> bytes:
        return packet


def _new_decoder(head: Header) -> _Decoder:
    # FFmpeg is 20 MB, and most streams are PCM.
    match head:
        case PcmHeader():
            return _PcmDecoder(head.format)
        case OpusHeader():
            from transcriber.audio.codecs.opus_decoder import OpusDecoder  # noqa: PLC0415

            return OpusDecoder(head)
        case CodedHeader():
            from transcriber.audio.codecs.frame_decoder import FrameDecoder  # noqa: PLC0415

            return FrameDecoder(head)
