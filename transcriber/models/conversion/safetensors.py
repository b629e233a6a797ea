"""The format safetensors. In: a file, or several with an index. Out: functions that read one tensor each.

A file is the length of its header (8 bytes), the header (JSON: name to type, shape and offsets), and the numbers.
"""

import json
import math
import mmap
import re
import stat
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from transcriber.errors import ModelError
from transcriber.models.ggml import OTHER_FORMATS

MAX_HEADER_BYTES = 100_000_000
"""The limit of the format's own library; no other JSON of a model is longer either."""

MAX_DIMS = 8
"""More than any tensor of Whisper has, and fewer than NumPy supports."""

TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
"""Unquantised types; NumPy has no bfloat16, which is the upper half of an f32."""

MEMBER = re.compile(r"[^/\0]+\.safetensors")
"""The name of a file in the same folder."""

Read = Callable[[], NDArray[Any]]


def open_tensors(folder: Path) -> dict[str, Read]:
    """All tensors of ``model.safetensors``, or of the files that ``model.safetensors.index.json`` names.

    Raises:
        ModelError: a file is missing, truncated, or of another format.
    """
    index = folder / "model.safetensors.index.json"
    single = folder / "model.safetensors"
    if single.is_file() or not index.is_file():
        return _open_file(single)
    where = read_json(index).get("weight_map")
    if not isinstance(where, dict) or not all(
        isinstance(file, str) and MEMBER.fullmatch(file) for file in where.values()
    ):
        raise ModelError(f"{index}: has no weight_map to safetensors files beside it")
    tensors: dict[str, Read] = {}
    for file in sorted(set(where.values())):
        tensors |= _open_file(folder / file)
    if missing := sorted(where.keys() - tensors.keys()):
        raise ModelError(f"{index}: {missing[0]} is in none of its files")
    return tensors


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        ModelError: it cannot be read, or is no JSON object.
    """
    try:
        content = json.loads(read_whole(path))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: is not JSON: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path}: is not a JSON object")
    return content


def read_whole(path: Path) -> bytes:
    """The bytes of a JSON file: a regular file, of at most ``MAX_HEADER_BYTES``.

    Raises:
        ModelError: it cannot be read, or is too large.
    """
    try:
        size = _regular_bytes(path)
        if size > MAX_HEADER_BYTES:
            raise ModelError(f"{path}: is too large: {size} bytes")
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error


def map_file(path: Path) -> memoryview:
    """The mapped bytes of a file.

    Raises:
        ModelError: it cannot be read, or is empty.
    """
    try:
        _regular_bytes(path)
        with path.open("rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ModelError(f"{path}: is empty") from error


def _regular_bytes(path: Path) -> int:
    """Its size. Reading a pipe or a device could block or never end."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ModelError(f"{path}: is not a regular file")
    return status.st_size


def _open_file(path: Path) -> dict[str, Read]:
    data = map_file(path)
    for start, what in OTHER_FORMATS.items():
        if bytes(data[: len(start)]) == start:
            raise ModelError(f"{path}: is {what}")
    length = struct.unpack("<Q", data[:8])[0] if len(data) > 8 else MAX_HEADER_BYTES + 1  # noqa: PLR2004 - its own field
    if length > MAX_HEADER_BYTES or bytes(data[8:9]) != b"{":
        raise ModelError(f"{path}: not a safetensors file; {len(data)} bytes")
    if length > len(data) - 8:
        raise ModelError(f"{path}: truncated: ends in its header; {len(data)} bytes")
    try:
        header = json.loads(bytes(data[8 : 8 + length]))
        fields = {name: _Field(**entry) for name, entry in header.items() if name != "__metadata__"}
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ModelError(f"{path}: its header cannot be read") from error
    numbers = data[8 + length :]
    return {name: partial(_read, field.place(path, name, len(numbers)), numbers) for name, field in fields.items()}


class _Field:
    """One entry of a header."""

    def __init__(self, dtype: str, shape: list[int], data_offsets: list[int]) -> None:
        self.dtype = str(dtype)
        self.shape = tuple(int(size) for size in shape)
        self.start, self.end = (int(offset) for offset in data_offsets)

    def place(self, path: Path, name: str, size: int) -> Self:
        """Itself, checked against the file's ``size`` bytes of numbers."""
        if self.dtype not in TYPES:
            raise ModelError(
                f"{path}: {name} is of type {self.dtype}: quantised weights cannot be converted,"
                f" only {', '.join(TYPES)}"
            )
        if self.end > size:
            raise ModelError(f"{path}: truncated: ends in {name}")
        width = np.dtype(TYPES[self.dtype]).itemsize
        if (
            len(self.shape) > MAX_DIMS
            or min(self.shape, default=1) < 1
            or not 0 <= self.start <= self.end
            or (self.end - self.start != width * math.prod(self.shape))
        ):
            raise ModelError(f"{path}: {name} contradicts itself: shape and offsets do not fit")
        return self


def _read(field: _Field, numbers: memoryview) -> NDArray[Any]:
    array = np.frombuffer(numbers[field.start : field.end], TYPES[field.dtype]).reshape(field.shape)
    if field.dtype == "BF16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    if field.dtype == "F64":
        with np.errstate(over="ignore"):  # overflow becomes infinity, which is reported
            return array.astype(np.float32)
    return array
