"""The elements of Matroska that matter for a track of Opus or samples (RFC 9559).

In: contents of elements. Out: their values.
"""

import struct
from typing import NamedTuple

from transcriber.audio.codecs.ebml import children, number, signed, unsigned
from transcriber.audio.codecs.opus import OPUS_RATE, OpusHeader, PcmHeader, parse_opus_header
from transcriber.audio.format import MAX_CHANNELS, MAX_SAMPLE_RATE, MIN_SAMPLE_RATE, AudioFormat, SampleFormat
from transcriber.errors import BadInputError

EBML, SEGMENT, INFO, TRACKS, CLUSTER = 0x1A45DFA3, 0x18538067, 0x1549A966, 0x1654AE6B, 0x1F43B675
TIMESTAMP, SIMPLE_BLOCK, BLOCK_GROUP, BLOCK = 0xE7, 0xA3, 0xA0, 0xA1

SKIPPED = frozenset({
    0xEC, 0xBF,  # Void, CRC-32
    0xAB, 0xA7, 0x5854,  # PrevSize, Position, SilentTracks
    0x114D9B74, 0x1C53BB6B, 0x1254C367, 0x1043A770, 0x1941A469,  # SeekHead, Cues, Tags, Chapters, Attachments
})  # fmt: skip
"""Elements that do not matter to the audio."""

_SCALE = 0x2AD7B1
_TRACK, _TRACK_NUMBER, _TRACK_TYPE, _CODEC, _CODEC_PRIVATE, _CODEC_DELAY = 0xAE, 0xD7, 0x83, 0x86, 0x63A2, 0x56AA
_AUDIO, _CHANNELS, _ENCODINGS = 0xE1, 0x9F, 0x6D80
_RATE, _BIT_DEPTH = 0xB5, 0x6264
_PCM = {
    ("A_PCM/FLOAT/IEEE", 32): SampleFormat.F32LE,
    ("A_PCM/INT/LIT", 8): SampleFormat.U8,
    ("A_PCM/INT/LIT", 16): SampleFormat.S16LE,
    ("A_PCM/INT/LIT", 24): SampleFormat.S24LE,
    ("A_PCM/INT/LIT", 32): SampleFormat.S32LE,
}
_DISCARD_PADDING = 0x75A2
_AUDIO_TYPE = 2

_READ = {"A_OPUS", *(codec for codec, _ in _PCM)}

MAX_TRACK = 2**14 - 2
"""Two bytes, in a block."""
_LACING, _XIPH, _FIXED = 0x06, 0x02, 0x04


class Block(NamedTuple):
    """Packets of one track.

    Attributes:
        track: its number.
        time: relative to the cluster's timestamp, in its unit.
        packets: one or, laced, several that follow each other.
        padding_ns: at the end, not part of the recording.
    """

    track: int
    time: int
    packets: list[bytes]
    padding_ns: int = 0


def parse_info(body: bytes) -> int:
    """Nanoseconds of a timestamp's unit.

    Raises:
        BadInputError: as ``children``, or it makes no sense.
    """
    scale_ns = next((unsigned(value) for kind, value in children(body) if kind == _SCALE), 1_000_000)
    if not 0 < scale_ns <= 10**9:
        raise BadInputError(f"a timestamp scale of {min(scale_ns, 2**64)} ns")
    return scale_ns


def parse_tracks(body: bytes) -> tuple[int, OpusHeader | PcmHeader, bool]:
    """Number and header of the first track of Opus or samples, and whether there are other tracks.

    Raises:
        BadInputError: there is none that can be read.
    """
    codecs = []
    tracks = [dict(children(entry)) for kind, entry in children(body) if kind == _TRACK]
    for track in tracks:
        if unsigned(track.get(_TRACK_TYPE, b"")) != _AUDIO_TYPE:
            continue
        codec = track.get(_CODEC, b"").rstrip(b"\0").decode("ascii", "replace")
        if codec in _READ and _ENCODINGS not in track:
            number = unsigned(track.get(_TRACK_NUMBER, b""))
            if not 0 < number <= MAX_TRACK:
                raise BadInputError(f"WebM with a track number {min(number, 2**64)}")
            head = _head(track) if codec == "A_OPUS" else _pcm_head(codec, track)
            return number, head, len(tracks) > 1
        codecs.append(f"{codec[:20]!r}{' encrypted or compressed' if _ENCODINGS in track else ''}")
    raise BadInputError(f"WebM holds {' and '.join(codecs[:4]) or 'no audio'}, not Opus or samples")


def _head(track: dict[int, bytes]) -> OpusHeader:
    if private := track.get(_CODEC_PRIVATE):
        return parse_opus_header(private)
    audio = dict(children(track.get(_AUDIO, b"")))
    channels = unsigned(audio.get(_CHANNELS, b"\1"))
    if channels not in {1, 2}:
        raise BadInputError(f"Opus with {min(channels, 2**64)} channels")
    delay_ns = unsigned(track.get(_CODEC_DELAY, b""))
    return OpusHeader(channels, min(delay_ns * OPUS_RATE // 10**9, OPUS_RATE))


def _pcm_head(codec: str, track: dict[int, bytes]) -> PcmHeader:
    audio = dict(children(track.get(_AUDIO, b"")))
    channels, bits = unsigned(audio.get(_CHANNELS, b"\1")), unsigned(audio.get(_BIT_DEPTH, b"\x10"))
    number = audio.get(_RATE, b"")
    rate = struct.unpack(">d" if len(number) == 8 else ">f", number)[0] if len(number) in {4, 8} else 8_000.0  # noqa: PLR2004
    sample = _PCM.get((codec, bits))
    if sample is None or channels not in range(1, MAX_CHANNELS + 1) or not MIN_SAMPLE_RATE <= rate <= MAX_SAMPLE_RATE:
        raise BadInputError(
            f"WebM with samples of {min(bits, 2**64)} bits, {min(channels, 2**64)} channels, {rate:g} Hz"
        )
    return PcmHeader(AudioFormat(sample, round(rate), channels))


def track_bytes(track: int) -> bytes:
    """A track's number as encoded in a block."""
    return bytes([0x80 | track]) if track < 0x7F else (0x4000 | track).to_bytes(2, "big")  # noqa: PLR2004 - one byte


def block_of_group(body: bytes) -> Block:
    """The block in a BlockGroup.

    Raises:
        BadInputError: there is none, or it is damaged.
    """
    group = dict(children(body))
    if BLOCK not in group:
        raise BadInputError("a group without a block")
    return parse_block(group[BLOCK])._replace(padding_ns=signed(group.get(_DISCARD_PADDING, b"")))


def parse_block(body: bytes) -> Block:
    """A Block or SimpleBlock.

    Raises:
        BadInputError: it is damaged.
    """
    found = number(body, 0)
    if found is None or found[0] is None or len(body) < found[1] + 4:
        raise BadInputError(f"a block of {len(body)} bytes")
    track, at = found
    time, flags = struct.unpack_from(">hB", body, at)
    packets = _unlaced(body[at + 3 :], flags & _LACING)
    return Block(track or 0, time, packets)


def _unlaced(body: bytes, lacing: int) -> list[bytes]:
    """The packets in a block."""
    if not lacing:
        return [body]
    count, at = body[0] + 1, 1
    if lacing == _FIXED:
        size, rest = divmod(len(body) - 1, count)
        sizes = [size] * (-1 if rest or not size else count)
    elif lacing == _XIPH:
        sizes, at = _xiph_sizes(body, count)
    else:
        sizes, at = _ebml_sizes(body, count)
    if lacing != _FIXED:
        sizes.append(len(body) - at - sum(sizes))
    if len(sizes) != count or min(sizes) <= 0:
        raise BadInputError(f"a block of {len(body)} bytes for {count} laced packets")
    packets = []
    for size in sizes:
        packets.append(body[at : at + size])
        at += size
    return packets


def _xiph_sizes(body: bytes, count: int) -> tuple[list[int], int]:
    """Sizes of all packets but the last, and where the first begins."""
    sizes, at = [], 1
    for _ in range(count - 1):
        size = 0
        while at < len(body) and body[at] == 0xFF:  # noqa: PLR2004 - continued in the next byte
            size, at = size + 0xFF, at + 1
        if at >= len(body):
            raise BadInputError("a block that ends inside its sizes")
        sizes.append(size + body[at])
        at += 1
    return sizes, at


def _ebml_sizes(body: bytes, count: int) -> tuple[list[int], int]:
    """As ``_xiph_sizes``: the first, then by how much each differs from the one before."""
    sizes: list[int] = []
    at = 1
    for _ in range(count - 1):
        found = number(body, at)
        value, end = found or (None, at)
        if value is None:
            raise BadInputError("a block that ends inside its sizes")
        middle = (1 << 7 * (end - at) - 1) - 1
        sizes.append(sizes[-1] + value - middle if sizes else value)
        at = end
    return sizes, at
