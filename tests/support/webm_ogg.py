"""Recordings as browsers make them: Opus in WebM and Ogg, by FFmpeg, and taken apart again."""

import io
from fractions import Fraction

import av
import numpy as np

RATE = 48_000


def encode(pcm, container="webm", *, channels=1, frame_ms=20, bit_rate=32_000, **options):
    """Samples (S16LE, 48 kHz, ``channels``) as the bytes of a file; ``options`` are those of the container."""
    samples = np.frombuffer(pcm, "<i2") if isinstance(pcm, bytes) else pcm
    file = io.BytesIO()
    names = {name: str(value) for name, value in options.items()}
    with av.open(file, "w", format=container, options=names) as output:
        stream = output.add_stream("libopus", rate=RATE, options={"frame_duration": str(frame_ms)})
        stream.layout = "mono" if channels == 1 else "stereo"
        stream.bit_rate = bit_rate
        for packet in _packets(stream, samples, channels):
            output.mux(packet)
    return file.getvalue()


def opus_packets(pcm, *, channels=1, frame_ms=20):
    """Bare packets."""
    with av.open(io.BytesIO(encode(pcm, "ogg", channels=channels, frame_ms=frame_ms)), "r") as file:
        return [bytes(packet) for packet in file.demux(audio=0) if packet.size]


def _packets(stream, samples, channels):
    block = RATE // 10 * channels
    for start in range(0, len(samples), block):
        part = np.ascontiguousarray(samples[start : start + block])[np.newaxis]
        frame = av.AudioFrame.from_ndarray(part, format="s16", layout=stream.layout.name)
        frame.sample_rate, frame.pts, frame.time_base = RATE, start // channels, Fraction(1, RATE)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def decode(file):
    """All samples of a file, as FFmpeg reads it with the decoder that we use: (frames, channels) in int16."""
    with av.open(io.BytesIO(file), "r") as container:
        stream = container.streams.audio[0]
        decoder = av.codec.CodecContext.create("libopus", "r")
        decoder.extradata = stream.codec_context.extradata
        frames = [frame for packet in container.demux(stream) if packet.size for frame in decoder.decode(packet)]
        channels = frames[0].layout.nb_channels
        return np.concatenate([frame.to_ndarray().reshape(-1, channels) for frame in frames])


def sliced(data, sizes):
    """``data`` in pieces of these sizes, which repeat."""
    pieces, at, number = [], 0, 0
    while at < len(data):
        pieces.append(data[at : at + sizes[number % len(sizes)]])
        at += len(pieces[-1])
        number += 1
    return pieces


def element(kind, body=b"", *, size_bytes=8):
    """An EBML element."""
    return _id(kind) + ((1 << 7 * size_bytes) | len(body)).to_bytes(size_bytes, "big") + body


def unsized(kind):
    """The header of an element whose size is not known, as recorders write segments and clusters."""
    return _id(kind) + b"\x01" + b"\xff" * 7


def _id(kind):
    return kind.to_bytes((kind.bit_length() + 7) // 8, "big")


def opus_head(channels=1, pre_skip=312, gain=0, family=0, tail=b""):
    fields = pre_skip.to_bytes(2, "little") + RATE.to_bytes(4, "little") + gain.to_bytes(2, "little", signed=True)
    return b"OpusHead" + bytes([1, channels]) + fields + bytes([family]) + tail


def track(number=1, kind=2, codec=b"A_OPUS", private=None, *more):
    """A TrackEntry."""
    fields = element(0xD7, bytes([number])) + element(0x83, bytes([kind])) + element(0x86, codec)
    return element(0xAE, fields + (b"" if private is None else element(0x63A2, private)) + b"".join(more))


def webm_head(*tracks):
    """What a recorder writes first: a segment without a size, and the tracks."""
    ebml = element(0x1A45DFA3, element(0x4282, b"webm"))
    tracks = tracks or (track(private=opus_head()),)
    return ebml + unsized(0x18538067) + element(0x1549A966) + element(0x1654AE6B, b"".join(tracks))


def cluster(stamp, *blocks):
    """A cluster without a size."""
    return unsized(0x1F43B675) + element(0xE7, stamp.to_bytes(4, "big")) + b"".join(blocks)


def simple_block(packet, time=0, number=1, flags=0x80):
    return element(0xA3, block(packet, time, number, flags))


def block(packet, time=0, number=1, flags=0):
    return bytes([0x80 | number]) + time.to_bytes(2, "big", signed=True) + bytes([flags]) + packet


def blocks(packets, start_ms=0, packet_ms=20):
    """Simple blocks of packets that follow each other."""
    return [simple_block(packet, start_ms + packet_ms * number) for number, packet in enumerate(packets)]


def ogg_page(body, *, granule=0, flags=0, serial=7, sequence=0, lacing=None):
    """An Ogg page of one packet, unless ``lacing`` says otherwise."""
    if lacing is None:
        lacing = bytes([255] * (len(body) // 255) + [len(body) % 255])
    header = b"OggS" + bytes([0, flags]) + granule.to_bytes(8, "little", signed=True)
    header += serial.to_bytes(4, "little") + sequence.to_bytes(4, "little")
    page = header + bytes(4) + bytes([len(lacing)]) + lacing + body
    return page[:22] + ogg_crc(page).to_bytes(4, "little") + page[26:]


def ogg_crc(page):
    """Bit by bit, as RFC 3533 says it."""
    crc = 0
    for byte in page:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C11DB7 if crc & 0x80000000 else crc << 1) & 0xFFFFFFFF
    return crc
