"""Is there memory for a model? In: its file and its beams. Out: nothing, or an error that says how much it needs."""

import math
import mmap
from pathlib import Path

from transcriber.errors import ModelError
from transcriber.models.ggml import ModelShape


def check_memory(path: Path, shape: ModelShape, beams: int) -> None:
    """Allocate the memory once on trial: whisper.cpp aborts the process where an allocation fails.

    Raises:
        ModelError: memory is short.
    """
    need_bytes = int(1.3 * path.stat().st_size) + 250_000_000 + _beam_bytes(shape, beams)
    try:
        mmap.mmap(-1, need_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except OSError as error:
        raise ModelError(f"{path}: needs about {need_bytes / 1e6:.0f} MB of memory: {error.strerror}") from error


def _beam_bytes(shape: ModelShape, beams: int) -> int:
    """Memory of beams above greedy decoding: keys and values of 16 bits for each and two more, and three tables of the vocabulary for each."""
    if beams == 1:
        return 0
    cache = 2 * 2 * 256 * math.ceil(shape.n_text_ctx / 256) * shape.n_audio_state * shape.n_text_layer
    return (beams + 1) * cache + beams * 20 * shape.n_vocab
