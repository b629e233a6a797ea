"""A Whisper model as CTranslate2 stores it, for faster-whisper. In: a folder. Out: a checkpoint by OpenAI's names.

``model.bin`` is a list of variables: name, shape, type, numbers. Query, key and value lie in one matrix.
"""

import math
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transcriber.errors import ModelError
from transcriber.models.conversion.checkpoint import Checkpoint, Read
from transcriber.models.conversion.layout import Dimensions
from transcriber.models.conversion.safetensors import MAX_DIMS, map_file
from transcriber.models.conversion.vocabulary import text_tokens
from transcriber.models.ggml import OTHER_FORMATS

SPECIFICATION = "WhisperSpec"
VERSIONS = range(4, 7)
"""Of the format, as CTranslate2 3 and 4 write it."""

TYPES = {0: "float32", 1: "int8", 2: "int16", 3: "int32", 4: "float16", 5: "bfloat16"}
FLOATS = {0: "<f4", 4: "<f2", 5: "<u2"}
MAX_NAME_BYTES = 1024

SWITCHES = {"activation": 3, "pre_norm": 1, "scale_embeddings": 0, "alibi": 0, "start_from_zero_embedding": 0}
"""Values that whisper.cpp supports; 3 is the exact GELU."""

UNUSED = {"alignment_heads", "alignment_layer", "num_heads"}
HEAD_WIDTH = 64
"""Of OpenAI's models; used where the number of heads is not stored."""

PROJECTION, EMBEDDING = "decoder/projection/weight", "decoder/embeddings/weight"


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable; ``numbers`` are its mapped bytes."""

    shape: tuple[int, ...]
    type: int
    numbers: memoryview

    def read(self) -> NDArray[Any]:
        array = np.frombuffer(self.numbers, FLOATS[self.type]).reshape(self.shape)
        return array if TYPES[self.type] != "bfloat16" else (array.astype(np.uint32) << 16).view(np.float32)


Variables = dict[str, Variable]


def open_ctranslate2(folder: Path) -> Checkpoint:
    """The checkpoint in ``folder``; its weights are read when they are written.

    Raises:
        ModelError: not a Whisper model, truncated, quantised, or not representable in a ggml file.
    """
    path = folder / "model.bin"
    variables = _Reader(path).variables()
    whole = {name: variable.type for name, variable in variables.items() if variable.shape}
    if strange := next((type_ for type_ in whole.values() if type_ not in FLOATS), None):
        kind = TYPES.get(strange, f"type {strange}")
        raise ModelError(f"{path}: its weights are {kind}: only float16 and float32 can be converted")
    _check_switches(path, variables)
    try:
        dimensions = _dimensions(path, variables)
        tensors = _Renamer(path, variables, dimensions).tensors()
    except KeyError as error:
        raise ModelError(f"{path}: lacks {error.args[0]}") from error
    return Checkpoint(folder, dimensions, text_tokens(folder, dimensions.n_vocab), tensors)


class _Reader:
    """One pass over the list of variables."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._data = map_file(path)
        self._at = 0

    def variables(self) -> Variables:
        for start, what in OTHER_FORMATS.items():
            if bytes(self._data[: len(start)]) == start:
                raise ModelError(f"{self._path}: is {what}")
        strange = ModelError(f"{self._path}: not a model of CTranslate2; {len(self._data)} bytes")
        if len(self._data) < 4 or (version := self._integer("I")) not in range(1, 100):  # noqa: PLR2004 - the version itself
            raise strange
        name = self._text()
        if version not in VERSIONS or name != SPECIFICATION:
            raise ModelError(f"{self._path}: is {name!r} of format {version}, not {SPECIFICATION} of 4 to 6")
        self._integer("I")  # the specification's revision
        variables = dict(self._variable() for _ in range(self._integer("I")))
        for _ in range(self._integer("I")):
            alias, name = self._text(), self._text()
            if name not in variables:
                raise self._truncated(alias)
            variables[alias] = variables[name]
        if rest := len(self._data) - self._at:
            raise ModelError(f"{self._path}: {rest} bytes after its last variable; {len(self._data)} bytes")
        return variables

    def _variable(self) -> tuple[str, Variable]:
        name = self._text()
        shape = tuple(self._integer("I") for _ in range(self._integer("B")))
        type_, size = self._integer("B"), self._integer("I")
        numbers = self._take(size, name)
        if type_ in FLOATS and (
            len(shape) > MAX_DIMS or not size or size != np.dtype(FLOATS[type_]).itemsize * math.prod(shape)
        ):
            raise ModelError(f"{self._path}: {name} contradicts itself: shape and size do not fit")
        return name, Variable(shape, type_, numbers)

    def _integer(self, kind: str) -> int:
        size = struct.calcsize(kind)
        return int(struct.unpack(f"<{kind}", self._take(size, "its list"))[0])

    def _text(self) -> str:
        length = self._integer("H")
        if not 0 < length <= MAX_NAME_BYTES:
            raise ModelError(f"{self._path}: corrupt: a name of {length} bytes")
        text = bytes(self._take(length, "its list")).rstrip(b"\0")
        if not text.isascii():
            raise ModelError(f"{self._path}: corrupt: the impossible name {text!r}")
        return text.decode()

    def _take(self, size: int, where: str) -> memoryview:
        if size > len(self._data) - self._at:
            raise self._truncated(where)
        self._at += size
        return self._data[self._at - size : self._at]

    def _truncated(self, where: str) -> ModelError:
        return ModelError(f"{self._path}: truncated: ends in {where}; {len(self._data)} bytes")


def _check_switches(path: Path, variables: Variables) -> None:
    """Check the scalar variables, which say what the network computes."""
    for name, variable in variables.items():
        short = name.rpartition("/")[2]
        if not variable.shape and short not in UNUSED:
            value = int.from_bytes(variable.numbers, "little", signed=True)
            if value != SWITCHES.get(short, 0):
                raise ModelError(f"{path}: {name} is {value}: not a model that whisper.cpp can run")


def _dimensions(path: Path, variables: Variables) -> Dimensions:
    def shape(name: str, dims: int) -> tuple[int, ...]:
        found = variables[name].shape
        if len(found) != dims:
            raise ModelError(f"{path}: {name} has {len(found)} dimensions, not {dims}")
        return found

    (n_vocab, width), (_, n_mels, _) = shape(EMBEDDING, 2), shape("encoder/conv1/weight", 3)

    def heads(half: str) -> int:
        stored = variables.get(f"{half}/num_heads")
        return int.from_bytes(stored.numbers, "little") if stored else max(1, width // HEAD_WIDTH)

    def layers(half: str) -> int:
        return len({match[1] for name in variables if (match := re.match(rf"{half}/layer_(\d+)/", name))})

    return Dimensions(
        n_vocab=n_vocab,
        n_audio_ctx=shape("encoder/position_encodings/encodings", 2)[0],
        n_state=width,
        n_audio_head=heads("encoder"),
        n_audio_layer=layers("encoder"),
        n_text_ctx=shape("decoder/position_encodings/encodings", 2)[0],
        n_text_head=heads("decoder"),
        n_text_layer=layers("decoder"),
        n_mels=n_mels,
    )


class _Renamer:
    """Maps each variable once to OpenAI's names; those left over keep theirs."""

    def __init__(self, path: Path, variables: Variables, dimensions: Dimensions) -> None:
        self._path = path
        self._all = {name: variable for name, variable in variables.items() if variable.shape}
        self._left = {name for name in self._all if name.rpartition("/")[2] not in UNUSED}
        self._dimensions = dimensions
        self._out: dict[str, Read] = {}

    def tensors(self) -> dict[str, Read]:
        for half in ("encoder", "decoder"):
            self._out[f"{half}.positional_embedding"] = self._take(f"{half}/position_encodings/encodings").read
        self._out["decoder.token_embedding.weight"] = self._take(EMBEDDING).read
        self._projection()
        for conv in ("conv1", "conv2"):
            self._linear(f"encoder/{conv}", f"encoder.{conv}")
        self._norm("encoder/layer_norm", "encoder.ln_post")
        self._norm("decoder/layer_norm", "decoder.ln")
        for layer in range(self._dimensions.n_audio_layer):
            self._block(f"encoder/layer_{layer}", f"encoder.blocks.{layer}")
        for layer in range(self._dimensions.n_text_layer):
            self._block(f"decoder/layer_{layer}", f"decoder.blocks.{layer}")
            self._cross(f"decoder/layer_{layer}/attention", f"decoder.blocks.{layer}.cross_attn")
        return self._out | {name: self._all[name].read for name in self._left}

    def _block(self, theirs: str, ours: str) -> None:
        attention = f"{theirs}/self_attention"
        self._split(f"{attention}/linear_0", f"{ours}.attn", "query", "key", "value")
        self._linear(f"{attention}/linear_1", f"{ours}.attn.out")
        self._norm(f"{attention}/layer_norm", f"{ours}.attn_ln")
        self._linear(f"{theirs}/ffn/linear_0", f"{ours}.mlp.0")
        self._linear(f"{theirs}/ffn/linear_1", f"{ours}.mlp.2")
        self._norm(f"{theirs}/ffn/layer_norm", f"{ours}.mlp_ln")

    def _cross(self, theirs: str, ours: str) -> None:
        self._linear(f"{theirs}/linear_0", f"{ours}.query")
        self._split(f"{theirs}/linear_1", ours, "key", "value")
        self._linear(f"{theirs}/linear_2", f"{ours}.out")
        self._norm(f"{theirs}/layer_norm", f"{ours}_ln")

    def _take(self, name: str) -> Variable:
        variable = self._all[name]
        self._left.discard(name)
        return variable

    def _linear(self, theirs: str, ours: str) -> None:
        for end in ("weight", "bias"):
            self._out[f"{ours}.{end}"] = self._take(f"{theirs}/{end}").read

    def _norm(self, theirs: str, ours: str) -> None:
        for end, name in (("weight", "gamma"), ("bias", "beta")):
            self._out[f"{ours}.{end}"] = self._take(f"{theirs}/{name}").read

    def _split(self, theirs: str, ours: str, *parts: str) -> None:
        """Split the rows of one matrix into several."""
        weight, bias = self._take(f"{theirs}/weight"), self._take(f"{theirs}/bias")
        rows = self._dimensions.n_state
        if weight.shape != (len(parts) * rows, rows) or bias.shape != (len(parts) * rows,):
            raise ModelError(f"{self._path}: {theirs} is not {len(parts)} matrices of {rows} x {rows}")
        for number, part in enumerate(parts):
            self._out[f"{ours}.{part}.weight"] = _rows(weight, number * rows, rows)
            if part != "key":
                self._out[f"{ours}.{part}.bias"] = _rows(bias, number * rows, rows)
            elif np.any(_rows(bias, number * rows, rows)()):
                raise ModelError(f"{self._path}: the bias of {theirs} for keys is not zero: Whisper has none")

    def _projection(self) -> None:
        if PROJECTION not in self._all:
            return
        projection, embedding = self._take(PROJECTION), self._all[EMBEDDING]
        if projection is not embedding and not np.array_equal(projection.read(), embedding.read()):
            raise ModelError(f"{self._path}: {PROJECTION} differs from {EMBEDDING}: whisper.cpp has one for both")


def _rows(variable: Variable, start: int, count: int) -> Callable[[], NDArray[Any]]:
    return lambda: variable.read()[start : start + count]
