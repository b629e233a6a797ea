"""A model file with f16 weights to one with q8_0 weights: half the bytes to read for each token.

In: a checked ggml file. Out: the bytes of another, as whisper.cpp's own ``quantize`` would write it: matrices become
blocks of 32 integers of 8 bits with one f16 scale; convolutions, biases, norms and positions stay.
"""

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transcriber.errors import ModelError
from transcriber.models.ggml import (
    FTYPE_Q8_0,
    HEADER_BYTES,
    QUANTIZATION_VERSION_FACTOR,
    check_model_file,
    read_vocabulary,
)

F32, F16, Q8_0 = 0, 1, 8
QUANTIZATION_VERSION = 2
BLOCK = np.dtype([("scale", "<f2"), ("values", "i1", 32)])
STAYS = (".bias", "positional_embedding")


def quantized(path: Path) -> bytes:
    """The model in ``path``, whose weights are f16 or f32, with q8_0 weights.

    Raises:
        ModelError: it is no model, or its weights are quantised already.
    """
    if check_model_file(path).ftype not in {F32, F16}:
        raise ModelError(f"{path}: its weights are quantised already")
    data = path.read_bytes()
    ftype = QUANTIZATION_VERSION * QUANTIZATION_VERSION_FACTOR + FTYPE_Q8_0
    out = [data[: HEADER_BYTES - 4], struct.pack("<i", ftype)]  # the last field of the header
    _, at = read_vocabulary(data)
    out.append(data[HEADER_BYTES:at])
    while at < len(data):
        dims, name_bytes, kind = struct.unpack_from("<3i", data, at)
        shape = struct.unpack_from(f"<{dims}i", data, at + 12)
        name_at = at + 12 + 4 * dims
        values_at = name_at + name_bytes
        name = data[name_at:values_at].decode()
        numbers = np.frombuffer(data, "<f4" if kind == F32 else "<f2", int(np.prod(shape)), values_at)
        end = values_at + numbers.nbytes
        if dims == 2 and not name.endswith(STAYS):  # noqa: PLR2004 - a matrix
            out += [struct.pack("<3i", dims, name_bytes, Q8_0), data[at + 12 : values_at], q8_0(numbers)]
        else:
            out.append(data[at:end])
        at = end
    return b"".join(out)


def q8_0(numbers: NDArray[np.floating]) -> bytes:
    """Numbers in blocks of 32, each rounded to 127ths of the block's greatest."""
    blocks = numbers.astype(np.float32).reshape(-1, 32)
    scales = np.abs(blocks).max(axis=1) / 127
    out = np.empty(len(blocks), BLOCK)
    out["scale"] = scales
    out["values"] = np.round(blocks / np.where(scales == 0, 1, scales)[:, np.newaxis])
    return out.tobytes()
