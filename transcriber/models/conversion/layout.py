"""The tensors of a Whisper model and the bytes of its file. In: its dimensions. Out: names, shapes, sizes; in the file's order.

The order is that of OpenAI's checkpoints, and so of the files that whisper.cpp publishes: positions, then the decoder, then
the encoder, and in each block the feed-forward part before the attention.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from transcriber.models.ggml import F16, F32, FFT_BINS, HEADER_BYTES, MULTILINGUAL_N_VOCAB, TENSOR_TYPES

Shape = tuple[int, ...]

TEXT_TOKENS = 50_257
"""Entries of the vocabulary in the file; whisper.cpp names the special tokens itself."""

TEXT_BYTES = {False: 320_827, True: 307_057}
"""Bytes of all these entries: of English-only models, and of the others."""

WIDTHS = {
    "tiny": (384, 6, 4), "base": (512, 8, 6), "small": (768, 12, 12), "medium": (1024, 16, 24), "large": (1280, 20, 32),
}  # fmt: skip
"""Width, heads and layers of OpenAI's models."""

TURBO_TEXT_LAYERS = 4
QUANTIZED_TYPES = {"q5_0": 6, "q5_1": 7, "q8_0": 8}
"""ggml's numbers."""


@dataclass(frozen=True, slots=True)
class Dimensions:
    """The fields of a file's header that describe the network; audio and text are equally wide."""

    n_vocab: int
    n_audio_ctx: int
    n_state: int
    n_audio_head: int
    n_audio_layer: int
    n_text_ctx: int
    n_text_head: int
    n_text_layer: int
    n_mels: int

    def tensors(self) -> Iterator[tuple[str, Shape]]:
        """Name and shape of each tensor, slowest dimension first."""
        d = self.n_state
        yield "decoder.positional_embedding", (self.n_text_ctx, d)
        yield "encoder.positional_embedding", (self.n_audio_ctx, d)
        yield "decoder.token_embedding.weight", (self.n_vocab, d)
        for layer in range(self.n_text_layer):
            yield from _block(f"decoder.blocks.{layer}", d, "attn", "cross_attn")
        yield from _norm("decoder.ln", d)
        for conv, channels in (("encoder.conv1", self.n_mels), ("encoder.conv2", d)):
            yield f"{conv}.weight", (d, channels, 3)
            yield f"{conv}.bias", (d, 1)
        for layer in range(self.n_audio_layer):
            yield from _block(f"encoder.blocks.{layer}", d, "attn")
        yield from _norm("encoder.ln_post", d)

    def file_bytes(self, kind: int = F16) -> int:
        """Of a model file whose matrices are of ggml's type ``kind``, with OpenAI's vocabulary."""
        text = 4 * TEXT_TOKENS + TEXT_BYTES[self.n_vocab >= MULTILINGUAL_N_VOCAB]
        size = HEADER_BYTES + 8 + 4 * self.n_mels * FFT_BINS + 4 + text
        for name, shape in self.tensors():
            block, block_bytes = TENSOR_TYPES[tensor_type(name, shape, kind)]
            size += 12 + 4 * len(shape) + len(name) + math.prod(shape) // block * block_bytes
        return size


def tensor_type(name: str, shape: Shape, kind: int) -> int:
    """Ggml's type of one tensor, in a file whose matrices are of type ``kind``."""
    if len(shape) == 1 or name.endswith((".bias", "positional_embedding")):
        return F32
    return kind if len(shape) == 2 else F16  # noqa: PLR2004 - a matrix


def published_bytes(name: str) -> int:
    """Bytes of the file that is published as ``name``.

    >>> published_bytes("tiny.en"), published_bytes("base")
    (77704715, 147951465)
    """
    size, *more = name.partition(".en")[0].split("-")
    d, heads, layers = WIDTHS[size]
    third = "v3" in more
    n_vocab = MULTILINGUAL_N_VOCAB + (-1 if ".en" in name else third)
    text_layers = TURBO_TEXT_LAYERS if "turbo" in more else layers
    dimensions = Dimensions(n_vocab, 1_500, d, heads, layers, 448, heads, text_layers, 128 if third else 80)
    return dimensions.file_bytes(QUANTIZED_TYPES.get(name.rpartition("-")[2], F16))


def _block(name: str, d: int, *attentions: str) -> Iterator[tuple[str, Shape]]:
    yield from _norm(f"{name}.mlp_ln", d)
    yield from _linear(f"{name}.mlp.0", 4 * d, d)
    yield from _linear(f"{name}.mlp.2", d, 4 * d)
    for attention in attentions:
        yield from _norm(f"{name}.{attention}_ln", d)
        for part in ("query", "key", "value", "out"):
            yield from _linear(f"{name}.{attention}.{part}", d, d)


def _norm(name: str, d: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (d,)
    yield f"{name}.bias", (d,)


def _linear(name: str, rows: int, columns: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (rows, columns)
    if not name.endswith(".key"):
        yield f"{name}.bias", (rows,)
