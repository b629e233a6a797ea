"""The boxes of fragmented MP4 (ISO 14496-12) that matter to one audio track. In: contents of boxes. Out: their values."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from transcriber.audio.codecs.opus import CodedHeader, OpusHeader
from transcriber.audio.format import MAX_CHANNELS, MAX_SAMPLE_RATE, MIN_SAMPLE_RATE
from transcriber.errors import BadInputError

MAX_SAMPLES = 2**15
"""Of a fragment: minutes."""

_HEADER_BYTES = 8
_AAC_RATES = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350)
_AAC_OBJECTS = frozenset({0x40, 0x66, 0x67, 0x68})
"""``objectTypeIndication`` of MPEG-4 and MPEG-2 AAC."""
_AAC_TYPES = frozenset({1, 2, 4})
"""Main, LC and LTP."""
_SBR, _PS, _ESCAPE = 5, 29, 31
_OWN_RATE = 15
_ES, _DECODER, _CONFIG = 3, 4, 5


class Track(NamedTuple):
    """The audio track.

    Attributes:
        id: its number.
        others: whether there are other tracks.
        timescale: units of its clock a second.
        head: its codec.
        start: where its recording begins, in units; what is before is priming. None: not known.
        duration, size: of a sample, in units and bytes, unless a fragment says otherwise.
    """

    id: int
    others: bool
    timescale: int
    head: OpusHeader | CodedHeader
    start: int | None
    duration: int
    size: int


class Sample(NamedTuple):
    """A packet of a fragment: ``at`` bytes behind the start of its ``moof``, or, None, right behind the one before; ``time`` in units."""

    at: int | None
    size: int
    time: int | None
    duration: int


def boxes(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Types and contents of the boxes in a box.

    Raises:
        BadInputError: they do not fill it.
    """
    at = 0
    while at < len(body):
        if len(body) < at + _HEADER_BYTES:
            raise BadInputError("an MP4 box that ends inside a header")
        size, kind = struct.unpack_from(">I4s", body, at)
        if not _HEADER_BYTES <= size <= len(body) - at:
            raise BadInputError("an MP4 box that is larger than the one around it")
        yield kind, body[at + _HEADER_BYTES : at + size]
        at += size


def parse_moov(body: bytes) -> Track:
    """The first audio track that can be read.

    Raises:
        BadInputError: there is none.
    """
    try:
        return _audio_track(list(boxes(body)))
    except (struct.error, IndexError, KeyError):
        raise BadInputError("an MP4 header that is damaged") from None


def _audio_track(found: list[tuple[bytes, bytes]]) -> Track:
    tracks = [dict(boxes(content)) for kind, content in found if kind == b"trak"]
    extends = [content for kind, content in found if kind == b"mvex"]
    defaults = {
        struct.unpack_from(">I", content, 4)[0]: struct.unpack_from(">II", content, 12)
        for each in extends
        for kind, content in boxes(each)
        if kind == b"trex"
    }
    refused = []
    for track in tracks:
        media = dict(boxes(track[b"mdia"]))
        if media[b"hdlr"][8:12] != b"soun":
            continue
        number = struct.unpack_from(">I", track[b"tkhd"], 20 if track[b"tkhd"][0] else 12)[0]
        timescale = struct.unpack_from(">I", media[b"mdhd"], 20 if media[b"mdhd"][0] else 12)[0]
        if not timescale:
            raise BadInputError("MP4 with a clock of 0 units a second")
        description = dict(boxes(dict(boxes(media[b"minf"]))[b"stbl"]))[b"stsd"]
        head, refusal = _sample_entry(description[8:])
        if head is not None:
            duration, size = defaults.get(number, (0, 0))
            start = _start(track, head, timescale)
            return Track(number, len(tracks) > 1, timescale, head, start, duration, size)
        refused.append(refusal)
    raise BadInputError(f"MP4 holds {' and '.join(refused[:4]) or 'no audio'}, not AAC or Opus")


def _start(track: dict[bytes, bytes], head: OpusHeader | CodedHeader, timescale: int) -> int | None:
    """Where the edit list, or else the codec, says that the recording begins."""
    edits = dict(boxes(track.get(b"edts", b""))).get(b"elst", b"")
    if edits:
        wide, count = edits[0], struct.unpack_from(">I", edits, 4)[0]
        layout = struct.Struct(">QqI" if wide else ">IiI")
        for number in range(min(count, (len(edits) - 8) // layout.size)):
            _, time, _ = layout.unpack_from(edits, 8 + number * layout.size)
            if time >= 0:  # else the track begins late
                return min(int(time), timescale)
    return int(head.pre_skip * timescale // head.rate)


def _sample_entry(body: bytes) -> tuple[OpusHeader | CodedHeader | None, str]:
    """The header of the codec, or which one is not read."""
    kind, entry = next(boxes(body))
    version = struct.unpack_from(">H", entry, 8)[0]
    inside = dict(boxes(entry[28 + {0: 0, 1: 16, 2: 36}.get(version, 0) :]))
    if kind == b"mp4a":
        inside |= dict(boxes(inside.get(b"wave", b"")))
        return _aac(inside[b"esds"][4:])
    if kind == b"Opus":
        _, channels, pre_skip, _, gain, family = struct.unpack_from(">BBHIhB", inside[b"dOps"])
        if family or channels not in {1, 2}:
            return None, f"Opus with {channels} channels"
        return OpusHeader(channels, pre_skip, gain), ""
    return None, "encrypted audio" if kind == b"enca" else repr(kind.decode("ascii", "replace").strip())


def _aac(body: bytes) -> tuple[CodedHeader | None, str]:
    """Of an ``esds``."""
    content = _descriptor(body, _ES)
    flags = content[2]
    at = 3 + 2 * bool(flags & 0x80) + (1 + content[3] if flags & 0x40 else 0) + 2 * bool(flags & 0x20)
    content = _descriptor(content[at:], _DECODER)
    if content[0] not in _AAC_OBJECTS:
        return None, f"audio of type {content[0]:#x}"
    config = _descriptor(content[13:], _CONFIG)
    return parse_aac_config(config), ""


def _descriptor(body: bytes, tag: int) -> bytes:
    """The content of the descriptor with ``tag``."""
    at = 0
    while True:
        found, size, at = body[at], 0, at + 1
        while True:
            byte, at = body[at], at + 1
            size = size << 7 | byte & 0x7F
            if not byte & 0x80:
                break
        if found == tag:
            return body[at : at + size]
        at += size


def parse_aac_config(config: bytes) -> CodedHeader:
    """An ``AudioSpecificConfig`` (ISO 14496-3).

    Raises:
        BadInputError: not AAC-LC or HE-AAC of one or two channels.
    """
    bits = _Bits(config)
    kind = bits.object_type()
    rate = bits.rate()
    channels = bits.take(4)
    if kind in {_SBR, _PS}:
        bits.rate()
        kind = bits.object_type()
    if kind not in _AAC_TYPES:
        raise BadInputError(f"AAC of type {kind}, not AAC-LC or HE-AAC")
    if not 1 <= channels <= MAX_CHANNELS:
        raise BadInputError(f"AAC with {channels} channels")
    if not MIN_SAMPLE_RATE <= rate <= MAX_SAMPLE_RATE:
        raise BadInputError(f"AAC at {rate} Hz")
    return CodedHeader("aac", rate, channels, 960 if bits.take(1) else 1024, config)


class _Bits:
    """Reads bits; those behind the end are 0."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "big") << 64, 8 * len(data) + 64

    def take(self, count: int) -> int:
        self._left = max(0, self._left - count)
        return self._value >> self._left & ((1 << count) - 1)

    def object_type(self) -> int:
        kind = self.take(5)
        return 32 + self.take(6) if kind == _ESCAPE else kind

    def rate(self) -> int:
        index = self.take(4)
        return self.take(24) if index == _OWN_RATE else aac_rate(index)


def aac_rate(index: int) -> int:
    """The rate with this number; 0: there is none."""
    return _AAC_RATES[index] if index < len(_AAC_RATES) else 0


def parse_moof(body: bytes, track: Track) -> list[Sample]:
    """The samples of the track in a fragment.

    Raises:
        BadInputError: it is damaged.
    """
    try:
        samples: list[Sample] = []
        for kind, content in boxes(body):
            if kind == b"traf":
                samples += _samples(list(boxes(content)), track)
    except (struct.error, IndexError):
        raise BadInputError("an MP4 fragment that is damaged") from None
    return samples


def _samples(found: list[tuple[bytes, bytes]], track: Track) -> list[Sample]:
    head = dict(found)[b"tfhd"] if any(kind == b"tfhd" for kind, _ in found) else b""
    flags, number = struct.unpack_from(">II", head)
    if number != track.id:
        return []
    fields = iter(struct.unpack_from(f">{(len(head) - 8) // 4}I", head, 8))
    # Where data are counted from: nearly always from the start of the fragment, whatever is written.
    _ = [next(fields) for bit in (1, 1, 2) if flags & bit]
    duration = next(fields, 0) if flags & 0x08 else track.duration
    size = next(fields, 0) if flags & 0x10 else track.size
    time: int | None = None
    samples: list[Sample] = []
    for kind, content in found:
        if kind == b"tfdt":
            (time,) = struct.unpack_from(">Q" if content[0] else ">I", content, 4)
        elif kind == b"trun":
            run = _run(content, time, duration, size)
            samples += run
            time = None if time is None else time + sum(sample.duration for sample in run)
    return samples


def _run(body: bytes, time: int | None, duration: int, size: int) -> list[Sample]:
    """The samples of a ``trun``."""
    flags, count = struct.unpack_from(">II", body)
    flags &= 0xFFFFFF
    at = 8
    place: int | None = None
    if flags & 0x01:
        (place,) = struct.unpack_from(">i", body, at)
        at += 4
    at += 4 * bool(flags & 0x04)
    each = [bit for bit in (0x100, 0x200, 0x400, 0x800) if flags & bit]
    if count > MAX_SAMPLES:
        raise BadInputError(f"an MP4 fragment of {count} samples")
    samples = []
    for _ in range(count):
        values = dict(zip(each, struct.unpack_from(f">{len(each)}I", body, at), strict=True))
        at += 4 * len(each)
        one = Sample(place, values.get(0x200, size), time, values.get(0x100, duration))
        if not one.size:
            raise BadInputError("an MP4 sample of 0 bytes")
        samples.append(one)
        place = None if place is None else place + one.size
        time = None if time is None else time + one.duration
    return samples
