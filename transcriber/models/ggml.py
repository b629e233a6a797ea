"""Is this file a complete Whisper model in ggml's format?

In: a path. Out: the model's shape, or an error that says what is wrong. whisper.cpp ends the process
(segmentation fault, failed assertion) on many a truncated or corrupt file, so the structure is walked
first: header, mel filters, vocabulary and the head of every tensor. The weights are skipped.
"""

import math
import mmap
import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from transcriber.errors import ModelError

MAGIC = b"lmgg"  # 0x67676d6c, little-endian like everything in the file
FFT_BINS = 201
QUANTIZATION_VERSION_FACTOR = 1000
MULTILINGUAL_N_VOCAB = 51_865
MAX_TOKEN_BYTES = 1024
MAX_NAME_BYTES = 128

# Least and greatest value of each field, in file order. whisper.cpp derives its special tokens and languages from n_vocab
# and reads beyond its tables for any other value; the rest only has to be plausible.
HEADER = {
    "n_vocab": (51_864, 51_866),
    "n_audio_ctx": (1, 1_500),
    "n_audio_state": (1, 8_192),
    "n_audio_head": (1, 256),
    "n_audio_layer": (1, 128),
    "n_text_ctx": (1, 4_096),
    "n_text_state": (1, 8_192),
    "n_text_head": (1, 256),
    "n_text_layer": (1, 128),
    "n_mels": (1, 256),
    "ftype": (0, 9_999),
}
HEADER_BYTES = len(MAGIC) + 4 * len(HEADER)
FTYPE_F32, FTYPE_F16, FTYPE_Q8_0, FTYPE_Q5_1 = 0, 1, 7, 9
FTYPES = frozenset({0, 1, 2, 3, 7, 8, 9, 10, 11, 12, 13, 14})
"""File types: f32, f16, q4_0, q4_1, q8_0, q5_0, q5_1, q2_K to q6_K. whisper.cpp aborts on an unknown one."""

F32, F16, Q5_1, Q8_0 = 0, 1, 7, 8
"""ggml's numbers of the tensor types that we write."""

TENSOR_TYPES = {
    0: (1, 4),  # f32
    1: (1, 2),  # f16
    2: (32, 18),  # q4_0
    3: (32, 20),  # q4_1
    6: (32, 22),  # q5_0
    7: (32, 24),  # q5_1
    8: (32, 34),  # q8_0
    10: (256, 84),  # q2_K
    11: (256, 110),  # q3_K
    12: (256, 144),  # q4_K
    13: (256, 176),  # q5_K
    14: (256, 210),  # q6_K
}
"""ggml's type number to (weights in a block, bytes of a block)."""

OTHER_FORMATS = {
    b"version https://git-lfs": "a Git LFS pointer (git lfs pull was not run)",
    b"<": "a web page (an error page was saved?)",
    b"GGUF": "a GGUF file",
    b"PK": "a PyTorch or ZIP file",
}


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Fields of the header; ``ftype`` is ggml's number of the weights' type, without quantization version."""

    n_vocab: int
    n_audio_ctx: int
    n_audio_state: int
    n_audio_layer: int
    n_text_ctx: int
    n_text_layer: int
    n_mels: int
    ftype: int

    @property
    def multilingual(self) -> bool:
        return self.n_vocab >= MULTILINGUAL_N_VOCAB

    @property
    def n_languages(self) -> int:
        """The number of whisper.cpp's languages, in its order, that the model has tokens for."""
        return 99 + self.n_vocab - MULTILINGUAL_N_VOCAB if self.multilingual else 1

    @property
    def tensors(self) -> int:
        return 11 + 15 * self.n_audio_layer + 24 * self.n_text_layer

    @property
    def weights(self) -> int:
        """Weights in all tensors together."""
        d = self.n_audio_state
        encoder, decoder = 12 * d * (d + 1), d * (16 * d + 17)
        ends = self.n_audio_ctx + self.n_text_ctx + self.n_vocab + 3 * self.n_mels + 3 * d + 6
        return self.n_audio_layer * encoder + self.n_text_layer * decoder + d * ends


def check_model_file(path: Path) -> ModelShape:
    """Check the structure of the whole file; takes some 20 ms, whatever its size.

    Raises:
        ModelError: missing, not readable, not a ggml Whisper model, truncated, or corrupt.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ModelError(f"{path}: is a directory, not a model file")
        if not stat.S_ISREG(status.st_mode):
            raise ModelError(f"{path}: is not a regular file")
        if not status.st_size:
            raise ModelError(f"{path}: is empty")
        with path.open("rb") as file:
            return _FileChecker(file, status.st_size, path).model()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error


def read_mel_filters(path: Path, shape: ModelShape) -> NDArray[np.float32]:
    """The mel filters of a checked file: (n_mels, 201) float32, mostly zero."""
    offset = HEADER_BYTES + 8
    return np.fromfile(path, "<f4", shape.n_mels * FFT_BINS, offset=offset).reshape(shape.n_mels, FFT_BINS)


def read_vocabulary(data: bytes | mmap.mmap) -> tuple[list[bytes], int]:
    """The text tokens in the bytes of a checked file, and the offset of its first tensor."""
    n_mels, bins = struct.unpack_from("<2i", data, HEADER_BYTES)
    at = HEADER_BYTES + 8 + 4 * n_mels * bins
    (count,) = struct.unpack_from("<i", data, at)
    at += 4
    tokens = []
    for _ in range(count):
        (length,) = struct.unpack_from("<i", data, at)
        tokens.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return tokens, at


class _FileChecker:
    """One pass over an open model file. Never reads a length that was not checked."""

    def __init__(self, file: BinaryIO, size: int, path: Path) -> None:
        self._file = file
        self._size = size
        self._path = path

    def model(self) -> ModelShape:
        magic = self._file.read(len(MAGIC))
        if magic != MAGIC:
            head = (magic + self._file.read(64)).lstrip()
            stranger = next((f": {what}" for start, what in OTHER_FORMATS.items() if head.startswith(start)), "")
            raise self._error(f"not a ggml model{stranger}")
        shape = self._header()
        self._filters(shape)
        self._vocabulary(shape)
        names, weights = set[bytes](), 0
        for number in range(1, shape.tensors + 1):
            name, count = self._tensor(f"tensor {number} of {shape.tensors}")
            names.add(name)
            weights += count
        if len(names) != shape.tensors or weights != shape.weights:
            raise self._error(
                f"{len(names)} tensors with {weights} weights, where its header means {shape.tensors} with {shape.weights}"
            )
        if rest := self._size - self._file.tell():
            raise self._error(f"{rest} bytes after the last tensor")
        return shape

    def _header(self) -> ModelShape:
        header = dict(zip(HEADER, self._integers(len(HEADER), "its header"), strict=True))
        for name, (least, most) in HEADER.items():
            if not least <= header[name] <= most:
                raise self._error(f"{name} is {header[name]}, not from {least} to {most}")
        header["ftype"] %= QUANTIZATION_VERSION_FACTOR
        if header["ftype"] not in FTYPES:
            raise self._error(f"ftype {header['ftype']} is unknown")
        state, heads = header["n_audio_state"], (header.pop("n_audio_head"), header.pop("n_text_head"))
        if header.pop("n_text_state") != state or any(state % head for head in heads):
            raise self._error("its header contradicts itself: states and heads do not fit")
        return ModelShape(**header)

    def _filters(self, shape: ModelShape) -> None:
        n_mel, n_fft = self._integers(2, "the mel filters")
        if (n_mel, n_fft) != (shape.n_mels, FFT_BINS):
            raise self._error(f"mel filters are {n_mel} x {n_fft}, not {shape.n_mels} x {FFT_BINS}")
        self._skip(4 * n_mel * n_fft, "the mel filters")

    def _vocabulary(self, shape: ModelShape) -> None:
        (count,) = self._integers(1, "the vocabulary")
        if not 1 <= count <= shape.n_vocab:
            raise self._error(f"{count} tokens in the vocabulary of n_vocab {shape.n_vocab}")
        for token in range(count):
            (length,) = self._integers(1, "the vocabulary")
            if not 0 <= length <= MAX_TOKEN_BYTES:
                raise self._error(f"token {token} has {length} bytes")
            self._take(length, "the vocabulary")

    def _tensor(self, where: str) -> tuple[bytes, int]:
        """Name and number of weights of the next tensor, which is skipped."""
        n_dims, name_bytes, kind = self._integers(3, where)
        if not (1 <= n_dims <= 3 and 1 <= name_bytes <= MAX_NAME_BYTES and kind in TENSOR_TYPES):  # noqa: PLR2004
            raise self._error(f"{where} has {n_dims} dimensions, a name of {name_bytes} bytes, type {kind}")
        shape = self._integers(n_dims, where)
        name = self._take(name_bytes, where)
        block, block_bytes = TENSOR_TYPES[kind]
        if not (name.isascii() and name.decode().isprintable()):
            raise self._error(f"{where} has the impossible name {name!r}")
        if min(shape) < 1 or shape[0] % block:
            raise self._error(f"{where} has the impossible shape {shape}")
        count = math.prod(shape)
        self._skip(count // block * block_bytes, where)
        return name, count

    def _integers(self, count: int, where: str) -> tuple[int, ...]:
        return struct.unpack(f"<{count}i", self._take(4 * count, where))

    def _take(self, count: int, where: str) -> bytes:
        data = self._file.read(count)
        if len(data) < count:
            raise self._error(f"truncated: ends in {where}")
        return data

    def _skip(self, count: int, where: str) -> None:
        if count > self._size - self._file.tell():
            raise self._error(f"truncated: ends in {where}")
        self._file.seek(count, 1)

    def _error(self, what: str) -> ModelError:
        return ModelError(f"{self._path}: {what}; {self._size} bytes")
