"""Weights in fewer bits, as whisper.cpp's own ``quantize`` writes them, bit for bit.

In: a checked ggml file of type f32 or f16. Out: another, whose matrices are blocks of 32 integers with a scale
(``quantize_row_q8_0_ref`` and ``quantize_row_q5_1_ref`` of ggml); convolutions, biases, norms and positions stay.
"""

import io
import math
import mmap
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from transcriber.errors import ModelError
from transcriber.models.conversion.layout import tensor_type
from transcriber.models.ggml import (
    F16,
    F32,
    FTYPE_F16,
    FTYPE_F32,
    FTYPE_Q5_1,
    FTYPE_Q8_0,
    HEADER_BYTES,
    Q5_1,
    Q8_0,
    QUANTIZATION_VERSION_FACTOR,
    check_model_file,
    read_vocabulary,
)

QUANTIZATION_VERSION = 2
BLOCK = 32
HALF = BLOCK // 2
BLOCK_Q8_0 = np.dtype([("scale", "<f2"), ("values", "i1", BLOCK)])
BLOCK_Q5_1 = np.dtype([("scale", "<f2"), ("least", "<f2"), ("fifth_bits", "<u4"), ("nibbles", "u1", HALF)])
PIECE_WEIGHTS = 2**20
"""Weights converted at once: a matrix of a large model as 32-bit numbers would be 265 MB."""

TOO_MUCH_FOR_F16 = 65_520.0
"""Numbers from here on are rounded to infinity."""

F16_EXPONENT = 0x7C00
"""All of its bits are set in a number that is not finite."""

Numbers = NDArray[Any]


def f16(numbers: Numbers) -> bytes:
    return numbers.astype("<f2").tobytes()


def q8_0(numbers: Numbers) -> bytes:
    """Each rounded to 127ths of its block's greatest."""
    blocks = numbers.astype(np.float32).reshape(-1, BLOCK)
    scales = np.abs(blocks).max(axis=1) / np.float32(127)
    scaled = blocks * _inverse(scales)
    out = np.empty(len(blocks), BLOCK_Q8_0)
    out["scale"] = scales
    # As C's roundf, halves away from zero; NumPy rounds them to even.
    whole = np.trunc(scaled)
    out["values"] = whole + np.copysign(np.abs(scaled - whole) >= 0.5, scaled)  # noqa: PLR2004 - a half
    return out.tobytes()


def q5_1(numbers: Numbers) -> bytes:
    """Each one of 32 steps from its block's least to its greatest."""
    blocks = numbers.astype(np.float32).reshape(-1, BLOCK)
    least = blocks.min(axis=1)
    scales = (blocks.max(axis=1) - least) / np.float32(31)
    steps = ((blocks - least[:, np.newaxis]) * _inverse(scales) + np.float32(0.5)).astype(np.uint8)
    out = np.empty(len(blocks), BLOCK_Q5_1)
    out["scale"], out["least"] = scales, least
    out["nibbles"] = (steps[:, :HALF] & 15) | ((steps[:, HALF:] & 15) << 4)
    out["fifth_bits"] = ((steps >> 4).astype(np.uint32) << np.arange(BLOCK, dtype=np.uint32)).sum(
        axis=1, dtype=np.uint32
    )
    return out.tobytes()


def unfit_reason(numbers: Numbers, type_: int) -> str | None:
    """Which of a tensor's numbers ggml's type F32 or F16 cannot hold; None if there are none."""
    if numbers.dtype == np.float16:
        # NumPy takes 30 times as long for their maximum as for a test of their bits.
        infinite = np.any((numbers.view(np.uint16) & F16_EXPONENT) == F16_EXPONENT)
        return "values that are not finite" if infinite else None
    greatest = float(np.maximum(-numbers.min(), numbers.max()))
    if not np.isfinite(greatest):
        return "values that are not finite"
    if type_ == F16 and greatest >= TOO_MUCH_FOR_F16:
        return f"{greatest:g}, which is too large for f16"
    return None


def _inverse(scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, 1) float32; 0 of 0."""
    with np.errstate(divide="ignore", over="ignore"):
        return np.where(scales == 0, np.float32(0), np.float32(1) / scales)[:, np.newaxis].astype(np.float32)


@dataclass(frozen=True, slots=True)
class Kind:
    """The weight type of a file's matrices.

    Attributes:
        name: in the names of model files.
        ftype: in the file's header, with the quantization's version.
        type: ggml's number of the tensor type.
        encode: numbers of whole blocks to bytes.
    """

    name: str
    ftype: int
    type: int
    encode: Callable[[Numbers], bytes]

    def pieces(self, numbers: Numbers, *, by_f16: bool = False) -> Iterator[bytes]:
        """The bytes of a tensor, in order; ``by_f16``: its numbers are rounded to f16 first."""
        flat = numbers.reshape(-1)
        for at in range(0, len(flat), PIECE_WEIGHTS):
            piece = flat[at : at + PIECE_WEIGHTS]
            yield self.encode(piece.astype(np.float16) if by_f16 else piece)


_VERSION = QUANTIZATION_VERSION * QUANTIZATION_VERSION_FACTOR
KIND_F16 = Kind("f16", FTYPE_F16, F16, f16)
KIND_Q8_0 = Kind("q8_0", _VERSION + FTYPE_Q8_0, Q8_0, q8_0)
KIND_Q5_1 = Kind("q5_1", _VERSION + FTYPE_Q5_1, Q5_1, q5_1)
KINDS = {kind.name: kind for kind in (KIND_F16, KIND_Q8_0, KIND_Q5_1)}


def quantized(path: Path, kind: Kind = KIND_Q8_0) -> bytes:
    """The bytes of the model in ``path`` with weights of ``kind``; see ``write_quantized``."""
    out = io.BytesIO()
    write_quantized(path, out, kind)
    return out.getvalue()


def write_quantized(path: Path, out: BinaryIO, kind: Kind) -> None:
    """Write the model in ``path``, whose weights are f16 or f32, with weights of ``kind``.

    Raises:
        ModelError: it is no model, its weights are quantised already, or its width is no multiple of a block.
    """
    ftype = check_model_file(path).ftype
    if ftype not in {FTYPE_F32, FTYPE_F16}:
        raise ModelError(f"{path}: its weights are quantised already")
    if kind.ftype == ftype:
        raise ModelError(f"{path}: its weights are {kind.name} already")
    with path.open("rb") as file:
        # Not closed by a with: after an interrupt arrays still refer to it, and closing would raise another error.
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    out.write(data[: HEADER_BYTES - 4] + struct.pack("<i", kind.ftype))  # the last field of the header
    _, at = read_vocabulary(data)
    out.write(data[HEADER_BYTES:at])
    while at < len(data):
        at = _copy_tensor(data, at, out, kind, path)


def _copy_tensor(data: mmap.mmap, at: int, out: BinaryIO, kind: Kind, path: Path) -> int:
    """Returns the offset of the next one."""
    dims, name_bytes, old = struct.unpack_from("<3i", data, at)
    shape = struct.unpack_from(f"<{dims}i", data, at + 12)
    values_at: int = at + 12 + 4 * dims + name_bytes
    name = data[values_at - name_bytes : values_at].decode()
    new = tensor_type(name, shape, kind.type)
    # whisper.cpp's quantize copies what is no matrix, whatever its type.
    new = kind.type if new == kind.type and dims == 2 else old  # noqa: PLR2004
    count, dtype = math.prod(shape), np.dtype("<f4" if old == F32 else "<f2")
    end: int = values_at + count * dtype.itemsize
    numbers = np.frombuffer(data, dtype, count, values_at)
    if unfit := unfit_reason(numbers, F32 if new == old else F16):
        raise ModelError(f"{path}: {name} holds {unfit}")
    out.write(struct.pack("<3i", dims, name_bytes, new) + data[at + 12 : values_at])
    if new == old:
        out.write(data[values_at:end])
        return end
    if new != F16 and shape[0] % BLOCK:
        raise ModelError(f"{path}: {name} is {shape[0]} wide, no multiple of {BLOCK}: cannot be {kind.name}")
    out.writelines(kind.pieces(numbers))
    return end
