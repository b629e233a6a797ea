"""Does a GPU compute as the CPU does? Checked before the first window, as ``self_test`` checks the CPU.

CUDA's attention takes heads of 64, which the bundled model does not have, so its attention would run on the CPU. This model has the
shape of tiny.en and random weights, made here, the same ones each time. What a GPU makes of it is compared with what the CPU makes of it,
number by number: a model that says nothing sensible needs no vocabulary and no patience.
"""

import math
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from transcriber.engine.whisper.raw_model import Logits, RawModel
from transcriber.models.catalog import DEMO_MODEL
from transcriber.models.conversion.layout import Dimensions, tensor_type
from transcriber.models.conversion.quantize import KIND_F16, KIND_Q8_0, Kind
from transcriber.models.ggml import F16, F32, HEADER_BYTES, read_vocabulary

DIMENSIONS = Dimensions(51_864, 512, 384, 6, 4, 448, 6, 4, 80)
"""tiny.en's, but for the encoder's context, which is that of a window of 5 s with its left context: a multiple of 256, see ``RawModel``."""

KINDS = (KIND_F16, KIND_Q8_0)
"""Each has kernels of its own."""

PROMPT = (50_257, 50_362, 257, 290, 286, 287, 319, 393)
NEXT = (1_000, 2_000)
"""Tokens that are given together, and then one by one: a GPU has other kernels for many rows than for one."""

MAX_DIFFERENCE = 0.1
"""The largest difference from the CPU's logits, see ``difference``; beyond it the GPU computes wrongly.

Each device rounds 16-bit and 8-bit numbers in another order. The CPU's own logits differ by 0.002 (f16) and 0.013 (q8_0) between one thread
and two, and with and without flash attention; by 0.24 to 0.41 if the values of one head of one layer have the wrong sign."""


def differences(gpu: int) -> list[tuple[str, float, bool]]:
    """For each kind of weights: its name, the largest difference, and whether all logits are the CPU's, bit by bit.

    ``gpu`` is whisper.cpp's number of it. Ends with the first kind that differs too much. Takes about 2 s of a processor.

    Raises:
        ModelError: whisper.cpp refuses the model, or a call.
    """
    found = []
    for kind in KINDS:
        # In memory: a container's root may be read-only, /tmp included.
        with os.fdopen(os.memfd_create("gpu-self-test"), "wb") as file:
            write_model(file, kind)
            file.flush()
            path = Path(f"/proc/self/fd/{file.fileno()}")
            on_gpu, on_cpu = (all_logits(RawModel(path, gpu=number)) for number in (gpu, None))
        largest = max(difference(one, other) for one, other in zip(on_gpu, on_cpu, strict=True))
        same = all(np.array_equal(one, other) for one, other in zip(on_gpu, on_cpu, strict=True))
        found.append((kind.name, largest, same))
        if not largest <= MAX_DIFFERENCE:
            break
    return found


def difference(logits: Logits, expected: Logits) -> float:
    """The root of the mean square of what differs, over that of ``expected`` around its mean; infinite if any is no number."""
    if not np.isfinite(logits).all():
        return float("inf")
    return float(np.sqrt(np.mean((logits - expected) ** 2)) / expected.std())


def all_logits(model: RawModel) -> list[Logits]:
    """After ``PROMPT``, and after each of ``NEXT``. Closes the model."""
    try:
        model.encode(spectrogram())
        places = range(len(PROMPT), len(PROMPT) + len(NEXT))
        return [model.logits(PROMPT), *(model.logits([token], past) for token, past in zip(NEXT, places, strict=True))]
    finally:
        model.close()


def spectrogram() -> NDArray[np.float32]:
    """Noise that fills the context: (n_mels, 1024) float32 in [-1, 1]."""
    shape = DIMENSIONS.n_mels, 2 * DIMENSIONS.n_audio_ctx
    return 2 * np.random.default_rng(2).random(shape, np.float32) - 1


def write_model(out: BinaryIO, kind: Kind) -> None:
    """A model file with mel filters and vocabulary of the bundled one."""
    demo, it = DEMO_MODEL.read_bytes(), DIMENSIONS
    halves = (it.n_state, it.n_audio_head, it.n_audio_layer), (it.n_state, it.n_text_head, it.n_text_layer)
    header = it.n_vocab, it.n_audio_ctx, *halves[0], it.n_text_ctx, *halves[1], it.n_mels, kind.ftype
    _, tensors_at = read_vocabulary(demo)
    out.write(demo[:4] + struct.pack("<11i", *header) + demo[HEADER_BYTES:tensors_at])
    for name, values in weights():
        type_ = tensor_type(name, values.shape, kind.type)
        out.write(struct.pack("<3i", values.ndim, len(name), type_))
        out.write(struct.pack(f"<{values.ndim}i", *reversed(values.shape)) + name.encode())
        if type_ in {F32, F16}:
            out.write(values.astype("<f4" if type_ == F32 else "<f2").tobytes())
        else:
            out.writelines(kind.pieces(values))


def weights() -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Name and values of each tensor. Nothing grows or fades from layer to layer, so an error anywhere reaches the logits."""
    random = np.random.default_rng(1)
    for name, shape in DIMENSIONS.tensors():
        values: NDArray[np.float32] = random.random(shape, np.float32)
        least, most = -1.0, 1.0
        if name.endswith(("ln.weight", "ln_post.weight")):
            least, most = 0.75, 1.25
        elif len(shape) == 1 or shape[1:] == (1,):
            least, most = -0.1, 0.1
        elif "embedding" not in name:
            most = (3 / math.prod(shape[1:])) ** 0.5
            least = -most
        values *= np.float32(most - least)
        values += np.float32(least)
        yield name, values
