"""Encoded audio, as its bytes come in, to samples with their places.

In: payloads of one stream: the consecutive bytes of a WebM or Ogg container, or bare Opus packets. Out: pieces of PCM, each with
the place of its first frame by the container's clock; where a recording begins; where something could not be read. What is
missing shows as a jump of the places.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from transcriber.audio.codecs.ogg import OggDemuxer
from transcriber.audio.codecs.opus import (
    MAX_PACKET_FRAMES,
    OPUS_RATE,
    Began,
    Broken,
    Event,
    Head,
    Packet,
    packet_channels,
    packet_frames,
)
from transcriber.audio.codecs.webm import WebmDemuxer
from transcriber.audio.format import ENCODED_TYPES, AudioFormat, SampleFormat, media_type
from transcriber.audio.session import BEGAN_AGAIN_S
from transcriber.errors import BadInputError

if TYPE_CHECKING:
    from transcriber.audio.codecs.opus_decoder import OpusDecoder

PIECE_FRAMES = OPUS_RATE
"""A piece has at most so many, and those of one packet."""

OGG_SLACK = 120
"""Frames: Ogg's times are exact, and no packet is shorter than this."""
WEBM_SLACK = 2_400
"""Frames: recorders stamp blocks with the time at which they had them."""


class Encoding(StrEnum):
    """What the payloads are."""

    WEBM = "webm"
    OGG = "ogg"
    OPUS = "opus"


_DEMUXERS: dict[Encoding, type[WebmDemuxer | OggDemuxer]] = {Encoding.WEBM: WebmDemuxer, Encoding.OGG: OggDemuxer}
_ENCODINGS = {kind: Encoding(kind.partition("/")[2]) for kind in ENCODED_TYPES}


def parse_encoding(content_type: str) -> Encoding | None:
    """What a ``Content-Type`` says; None if that is not for us."""
    return _ENCODINGS.get(media_type(content_type))


class Piece(NamedTuple):
    """Samples of ``format``; ``frame``: the place of the first by the container's clock, None if there is no clock."""

    frame: int | None
    data: bytes
    format: AudioFormat


Found = Piece | Began | Broken
"""What comes out of a stream."""


class _Timeline:
    """Places packets one after the other, unless their times say that something is missing between them.

    Only the steps from time to time count: what jitters, or slowly drifts away from the count of frames, is no hole.
    """

    def __init__(self, slack: int, farthest: int) -> None:
        self.clock = 0  # after the last packet
        self._slack, self._farthest = slack, farthest
        self._due: int | None = None  # the time that the next packet has if nothing is missing

    def jump(self, packet: Packet, frames: int) -> int:
        """How far from its due place a packet is; 0 if that is no more than jitter."""
        if packet.at is None or self._due is None:
            return 0
        step = packet.at - self._due
        # After damage each packet counts; else recorders that take blocks late are believed only up to a point.
        slack = OGG_SLACK if packet.lost or self._slack == OGG_SLACK else max(self._slack, frames * 3 // 4)
        return step if abs(step) > slack else 0

    def place(self, packet: Packet, frames: int) -> int:
        """The place of a packet's first frame."""
        if packet.at is not None and self._due is None and not self.clock:
            self.clock = packet.at
        jump = self.jump(packet, frames)
        # What is further away than any hole may be is another clock.
        if -BEGAN_AGAIN_S * OPUS_RATE <= jump <= self._farthest:
            self.clock += jump
        self._due = self._due if packet.at is None else packet.at
        place = self.clock
        self.clock += frames
        if self._due is not None:
            self._due += frames
        return place


class StreamDecoder:
    """Decodes one stream. Not for two threads at once.

    Keeps less than the largest element, page or packet. A packet that does not decode costs itself.
    """

    def __init__(self, encoding: Encoding, *, max_hole_s: float) -> None:
        self.encoding = encoding
        demuxer = _DEMUXERS.get(encoding)
        self._container = demuxer() if demuxer else None
        self._farthest = int(max_hole_s * OPUS_RATE)
        self._begun = False
        self._begin()

    def _begin(self) -> None:
        self._timeline = _Timeline(OGG_SLACK if self.encoding is Encoding.OGG else WEBM_SLACK, self._farthest)
        self._decoder: OpusDecoder | None = None
        self._skip = 0  # frames still to be thrown away
        self._doubtful: Packet | None = None  # its time jumps, and no other has confirmed that yet

    @property
    def format(self) -> AudioFormat:
        """Of the samples, as far as is known."""
        return self._decoder.format if self._decoder else AudioFormat(SampleFormat.S16LE, OPUS_RATE, 1)

    def feed(self, payload: bytes, *, offset: int | None = None, lost: bool = False) -> Iterator[Found]:
        """Take a payload; ``lost``: some before it never came. To be exhausted before the next call.

        ``offset`` is the place of a bare packet; containers have a clock of their own.
        """
        if self._container is None:
            return self._decode_bare(payload, offset)
        return self._joined(self._container.feed(payload, lost=lost))

    def finish(self) -> Iterator[Found]:
        """No more payloads will come; what is left."""
        return iter(()) if self._container is None else self._joined(self._container.finish(), last=True)

    def _decode_bare(self, packet: bytes, offset: int | None) -> Iterator[Piece | Broken]:
        try:
            packet_frames(packet)
            decoder = self._decoder_for(packet)
            yield Piece(offset, decoder.decode(packet), decoder.format)
        except BadInputError as error:
            yield Broken(str(error))

    def _joined(self, events: Iterator[Event], *, last: bool = False) -> Iterator[Found]:
        """What follows without a hole in one piece, of a bounded size; what is broken is told once, until something is heard."""
        start, frames, broken = 0, 0, False
        parts: list[bytes] = []
        fmt: AudioFormat | None = None
        for found in self._decode(events, last=last):
            if broken and isinstance(found, Broken):
                continue
            broken = isinstance(found, Broken)
            joins = isinstance(found, Piece) and found.format == fmt and found.frame == start + frames
            if parts and fmt and not (joins and frames + MAX_PACKET_FRAMES <= PIECE_FRAMES):
                yield Piece(start, b"".join(parts), fmt)
                parts = []
            if not isinstance(found, Piece):
                yield found
                continue
            if not parts:
                start, frames, fmt = found.frame or 0, 0, found.format
            parts.append(found.data)
            frames += len(found.data) // found.format.frame_bytes
        if parts and fmt:
            yield Piece(start, b"".join(parts), fmt)

    def _decode(self, events: Iterator[Event], *, last: bool) -> Iterator[Found]:
        for event in events:
            match event:
                case Began():
                    yield from self._believe()
                    if self._begun:
                        yield event
                    self._begun = False
                    self._begin()
                case Head():
                    self._decoder, self._skip = _new_decoder(event), event.pre_skip
                case Packet():
                    self._begun = True
                    yield from self._check(event)
                case Broken():
                    yield event
        if last:
            yield from self._believe()

    def _check(self, packet: Packet) -> Iterator[Piece | Broken]:
        """WebM has no checksums: a time that jumps is believed if the next one agrees."""
        doubtful = self._doubtful
        if doubtful and doubtful.at is not None:
            frames = packet_frames(doubtful.data)
            if packet.at is None or abs(packet.at - doubtful.at - frames) > max(WEBM_SLACK, frames):
                self._doubtful = doubtful._replace(at=None)
                packet = packet._replace(lost=packet.lost or doubtful.lost)
        yield from self._believe()
        if self.encoding is Encoding.WEBM and self._timeline.jump(packet, packet_frames(packet.data)):
            self._doubtful = packet
        else:
            yield from self._decode_packet(packet)

    def _believe(self) -> Iterator[Piece | Broken]:
        """Nobody contradicts."""
        packet, self._doubtful = self._doubtful, None
        if packet:
            yield from self._decode_packet(packet)

    def _decode_packet(self, packet: Packet) -> Iterator[Piece | Broken]:
        frames = packet_frames(packet.data)
        place = self._timeline.place(packet, frames)
        decoder = self._decoder_for(packet.data)
        skipped = min(self._skip, frames)
        self._skip -= skipped
        try:
            samples = decoder.decode(packet.data)
        except BadInputError as error:
            yield Broken(str(error))
            return
        size = decoder.format.frame_bytes
        samples = samples[skipped * size : None if packet.keep is None else packet.keep * size]
        if samples:
            yield Piece(place + skipped, samples, decoder.format)

    def _decoder_for(self, packet: bytes) -> "OpusDecoder":
        """The decoder; without a header, the first packet decides how many channels come out."""
        if self._decoder is None:
            self._decoder = _new_decoder(Head(packet_channels(packet)))
        return self._decoder


def _new_decoder(head: Head) -> "OpusDecoder":
    from transcriber.audio.codecs.opus_decoder import OpusDecoder  # noqa: PLC0415 - FFmpeg is 20 MB, and most streams are PCM

    return OpusDecoder(head)
