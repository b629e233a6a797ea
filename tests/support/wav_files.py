"""WAV files of any sample type, in memory."""

import struct

import numpy as np

RATE = 16_000


def wav(samples: np.ndarray, *, positions: int | None = None) -> bytes:
    """(frames, channels) int16 or float32 as a WAV file; ``positions``: the mask of an extensible format."""
    channels, size = samples.shape[1], samples.itemsize
    tag = 1 if samples.dtype == np.int16 else 3
    head = struct.pack("<HIIHH", channels, RATE, RATE * channels * size, channels * size, size * 8)
    if positions is None:
        fmt = struct.pack("<H", tag) + head
    else:
        tail = struct.pack("<HHIH", 22, size * 8, positions, tag) + bytes.fromhex("000000001000800000aa00389b71")
        fmt = struct.pack("<H", 0xFFFE) + head + tail
    data = samples.tobytes()
    chunks = b"fmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks
