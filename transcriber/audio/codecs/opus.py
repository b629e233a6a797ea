"""Opus packets (RFC 6716), and what containers say about packets of any codec.

In: bytes. Out: the length of a packet, the content of a header.
"""

from typing import Literal, NamedTuple

from transcriber.audio.format import AudioFormat
from transcriber.errors import BadInputError

OPUS_RATE = 48_000
"""Hz; Opus always counts at this rate."""

MAX_PACKET_FRAMES = 5_760
"""120 ms."""

MAX_FRAME_BYTES = 1_275
"""Of one of the frames in a packet."""

OPUS_HEAD = b"OpusHead"
_HEAD_BYTES = 19

# Frames of a packet's frame, by the upper five bits of its first byte (RFC 6716, table 2).
_SIZES = (
    *(480, 960, 1_920, 2_880) * 3,  # SILK
    *(480, 960) * 2,  # hybrid
    *(120, 240, 480, 960) * 4,  # CELT
)


class OpusHeader(NamedTuple):
    """What a container says about the packets that follow.

    Attributes:
        channels: 1 or 2.
        pre_skip: decoded frames to be discarded at the start.
        gain: to be applied to the samples, in 1/256 dB.
    """

    channels: int
    pre_skip: int = 0
    gain: int = 0

    @property
    def rate(self) -> int:
        """Hz; packets are counted and placed at this rate."""
        return OPUS_RATE

    def frames_of(self, packet: bytes) -> int:
        """How many frames are in a packet.

        Raises:
            BadInputError: it is not a packet.
        """
        return packet_frames(packet)


class CodedHeader(NamedTuple):
    """AAC or MP3 follows, in packets of one length.

    Attributes:
        codec: its name in FFmpeg.
        rate: Hz; packets are counted and placed at this rate. The samples of HE-AAC may have twice as many.
        channels: 1 or 2.
        packet_frames: frames of a packet.
        config: AudioSpecificConfig of AAC; empty: the packets have ADTS headers.
        pre_skip: decoded frames to be discarded at the start, at ``rate``.
    """

    codec: Literal["aac", "mp3float"]
    rate: int
    channels: int
    packet_frames: int
    config: bytes = b""
    pre_skip: int = 0

    def frames_of(self, packet: bytes) -> int:
        """As ``OpusHeader.frames_of``."""
        if not packet:
            raise BadInputError("a packet is empty")
        return self.packet_frames


class PcmHeader(NamedTuple):
    """Samples of ``format`` follow, as they are."""

    format: AudioFormat

    @property
    def rate(self) -> int:
        """Hz."""
        return self.format.rate

    @property
    def channels(self) -> int:
        return self.format.channels

    @property
    def pre_skip(self) -> int:
        """Nothing is discarded."""
        return 0

    def frames_of(self, packet: bytes) -> int:
        """As ``OpusHeader.frames_of``."""
        frames, rest = divmod(len(packet), self.format.frame_bytes)
        if rest or not frames:
            raise BadInputError(f"{len(packet)} bytes are not whole frames of {self.format.frame_bytes} bytes")
        return frames


Header = OpusHeader | CodedHeader | PcmHeader
"""What codec follows."""


class Packet(NamedTuple):
    """One packet of a container.

    Attributes:
        data: its bytes, at least one.
        at: the container's time of its first frame, in frames; None if not known.
        lost: whether packets before it may be missing.
        keep: how many of its frames belong to the recording; None: all.
    """

    data: bytes
    at: int | None = None
    lost: bool = False
    keep: int | None = None


class Unreadable(NamedTuple):
    """Something could not be read here."""

    reason: str


class RecordingStarted(NamedTuple):
    """A header: a recording begins here."""


ContainerEvent = Header | Packet | Unreadable | RecordingStarted
"""What comes out of a container."""


def packet_frames(packet: bytes) -> int:
    """How many frames are in a packet, by its first bytes.

    Raises:
        BadInputError: it is not a packet.
    """
    if not packet:
        raise BadInputError("an Opus packet is empty")
    size, code, rest = _SIZES[packet[0] >> 3], packet[0] & 3, len(packet) - 1
    count = (1, 2, 2, packet[1] & 63 if rest else 0)[code]
    if not 0 < size * count <= MAX_PACKET_FRAMES:
        raise BadInputError(f"an Opus packet of {count} frames of {size / 48:g} ms")
    if (code == 1 and rest % 2) or rest > 2 * count + (count + 1) * MAX_FRAME_BYTES:
        raise BadInputError(f"an Opus packet of {len(packet)} bytes for {count} frames")
    return size * count


def packet_channels(packet: bytes) -> int:
    """1 or 2, as the packet was coded."""
    return 2 if packet and packet[0] & 4 else 1


def parse_opus_header(data: bytes) -> OpusHeader:
    """Read an ``OpusHead`` (RFC 7845, section 5.1).

    Raises:
        BadInputError: it is none, or more than two channels.
    """
    if not data.startswith(OPUS_HEAD) or len(data) < _HEAD_BYTES or data[8] >> 4:
        raise BadInputError("an Opus header that cannot be read")
    channels, family = data[9], data[18]
    # Beyond family 0 a packet may hold several streams: only packets of one are read.
    streams = data[19] if family and len(data) > _HEAD_BYTES else 1
    if channels not in {1, 2} or streams != 1:
        raise BadInputError(f"Opus with {channels} channels in {streams} streams")
    return OpusHeader(
        channels, int.from_bytes(data[10:12], "little"), int.from_bytes(data[16:18], "little", signed=True)
    )
