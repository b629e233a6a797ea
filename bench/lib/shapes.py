"""Models of Whisper's shapes with made-up weights: what they cost is real, what they say is written here.

Real weights cannot be had everywhere, and random ones would send every engine down another path: fallbacks, loops, hundreds
of tokens. So the decoder is rigged: the position embedding of place p is one large random direction, the embedding of
the p-th token of ``SCRIPT`` is the same direction, and all else is ordinary noise that adds little. Every engine, with its
own default settings, then says the same 16 tokens, surely, and stops.

Out: files for whisper.cpp (ggml, f16 and q8_0), made once and kept; and the files of models with real weights.
"""

import fcntl
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from transcriber.config import load_settings
from transcriber.models.catalog import DEMO_MODEL
from transcriber.models.conversion.quantize import KINDS, quantized
from transcriber.models.find import find_named_model
from transcriber.models.ggml import HEADER_BYTES, read_vocabulary

Weights = dict[str, NDArray[np.float32]]
"""By the names of openai-whisper."""

N_VOCAB, N_AUDIO_CTX, N_TEXT_CTX, N_MELS = 51_864, 1_500, 448, 80
END_OF_TEXT, FIRST_TIME = 50_256, 50_363
WINDOW_S = 5
WORDS = " the harbour pilot says strong warning north wind seven ships wait outside tonight"
TEXT = WORDS.strip() + "."
TOKENS = 16
MADE = "made:"
"""Before the name of a shape."""

QUIET, LOUD = 0.05, 20.0
"""Gain of what layers add to the residual, and length of a position's direction: far apart, so that nothing interferes."""


class Shape(NamedTuple):
    """Width, heads, and layers of encoder and decoder alike."""

    d: int
    heads: int
    layers: int


SHAPES = {"tiny.en": Shape(384, 6, 4), "base.en": Shape(512, 8, 6), "small.en": Shape(768, 12, 12)}


def model_file(name: str, kind: str = "f16") -> Path:
    """The ggml file of the shape ``name``; ``kind`` is f16 or q8_0."""
    if kind == "f16":
        return made(f"ggml-{name}.bin", lambda path: path.write_bytes(_ggml(name)))
    return made(f"ggml-{name}-{kind}.bin", lambda path: path.write_bytes(quantized(model_file(name))))


def find(model: str) -> Path:
    """The file of a model: its name as the daemon knows it, or a path; with real weights also as ``NAME-q8_0``.

    ``made:NAME`` is the shape of that name with made-up weights.
    """
    if model.startswith(MADE):
        name, _, kind = model.removeprefix(MADE).partition("-")
        return model_file(name, kind or "f16")
    name, dash, kind = model.rpartition("-")
    if dash and kind in KINDS and not Path(model).is_file():
        whole = find(name)
        return made(f"ggml-{model}.bin", lambda path: path.write_bytes(quantized(whole, KINDS[kind])))
    return find_named_model(load_settings(), model)


def made(name: str, make: Callable[[Path], object]) -> Path:
    """The file or folder ``name`` of the cache; ``make`` writes it where it is not there yet. Of several processes one makes it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "transcriber" / "bench"
    path, part = cache / name, cache / f"{name}.part"
    if path.exists():
        return path
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            _remove(part)  # of a process that was killed
            make(part)
            part.rename(path)
    return path


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def weights(name: str) -> Weights:
    """All tensors of the shape, the same ones each time."""
    shape, rng, out = SHAPES[name], np.random.default_rng(1), Weights()
    d = shape.d

    def normal(*dims: int, scale: float) -> NDArray[np.float32]:
        return (scale * rng.standard_normal(dims)).astype(np.float32)

    def linear(name: str, rows: int, columns: int, gain: float = 1.0) -> None:
        out[f"{name}.weight"] = normal(rows, columns, scale=gain / np.sqrt(columns))
        if not name.endswith(".key"):
            out[f"{name}.bias"] = np.zeros(rows, np.float32)

    def norm(name: str) -> None:
        out[f"{name}.weight"], out[f"{name}.bias"] = np.ones(d, np.float32), np.zeros(d, np.float32)

    def block(name: str, *attentions: str) -> None:
        for attention in attentions:
            for part in ("query", "key", "value"):
                linear(f"{name}.{attention}.{part}", d, d)
            linear(f"{name}.{attention}.out", d, d, QUIET)
            norm(f"{name}.{attention}_ln")
        linear(f"{name}.mlp.0", 4 * d, d)
        linear(f"{name}.mlp.2", d, 4 * d, QUIET)
        norm(f"{name}.mlp_ln")

    for conv, channels in (("encoder.conv1", N_MELS), ("encoder.conv2", d)):
        out[f"{conv}.weight"] = normal(d, channels, 3, scale=1 / np.sqrt(3 * channels))
        out[f"{conv}.bias"] = np.zeros(d, np.float32)
    out["encoder.positional_embedding"] = _sinusoids(N_AUDIO_CTX, d)
    for layer in range(shape.layers):
        block(f"encoder.blocks.{layer}", "attn")
        block(f"decoder.blocks.{layer}", "attn", "cross_attn")
    norm("encoder.ln_post")
    norm("decoder.ln")
    places = normal(N_TEXT_CTX, d, scale=1.0)
    places /= np.linalg.norm(places, axis=1, keepdims=True)
    out["decoder.positional_embedding"] = np.float32(LOUD) * places
    tokens = normal(N_VOCAB, d, scale=0.02)
    script = [FIRST_TIME, *_words(), FIRST_TIME + 50 * WINDOW_S, END_OF_TEXT]
    tokens[script] = places[: len(script)]
    out["decoder.token_embedding.weight"] = tokens
    return out


def vocabulary() -> list[bytes]:
    """The 50 256 tokens of text, as in the bundled model's file."""
    tokens, _ = read_vocabulary(DEMO_MODEL.read_bytes())
    return tokens


def _words() -> list[int]:
    tokens = vocabulary()
    return [tokens.index(b" " + word.encode()) for word in WORDS.split()] + [tokens.index(b".")]


def _sinusoids(length: int, channels: int) -> NDArray[np.float32]:
    angles = np.arange(length)[:, np.newaxis] * np.exp(-np.log(10_000) * np.linspace(0, 1, channels // 2))
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


def _ggml(name: str) -> bytes:
    """An f16 file, laid out as whisper.cpp reads it; mel filters and vocabulary are the bundled model's."""
    shape, demo = SHAPES[name], DEMO_MODEL.read_bytes()
    halves = shape.d, shape.heads, shape.layers
    out = [demo[:4], struct.pack("<11i", N_VOCAB, N_AUDIO_CTX, *halves, N_TEXT_CTX, *halves, N_MELS, 1)]
    _, tensors_at = read_vocabulary(demo)
    out.append(demo[HEADER_BYTES:tensors_at])
    for tensor, value in weights(name).items():
        value = value[:, np.newaxis] if tensor.endswith(("conv1.bias", "conv2.bias")) else value  # noqa: PLW2901
        small = value.ndim < 2 or tensor.endswith((".bias", "positional_embedding"))
        out.append(struct.pack("<3i", value.ndim, len(tensor), 0 if small else 1))
        out.append(struct.pack(f"<{value.ndim}i", *reversed(value.shape)) + tensor.encode())
        out.append(value.astype("<f4" if small else "<f2").tobytes())
    return b"".join(out)
