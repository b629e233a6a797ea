"""whisper.cpp's own numbers before they become text. In: a model file, a spectrogram, tokens. Out: the logits of the next token.

The binding hands out one of them only, so the library itself is asked.
"""

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transcriber.engine.whisper.library import library
from transcriber.errors import ModelError

Logits = NDArray[np.float32]


class RawModel:
    """One model file in whisper.cpp, at the whole context of its header. One thread at a time.

    Raises:
        ModelError: whisper.cpp refuses the file, or a call.
    """

    def __init__(self, path: Path, *, gpu: int | None = None, flash_attention: bool = True, threads: int = 1) -> None:
        """``gpu``: whisper.cpp's number of one; None: the CPU.

        With ``flash_attention`` the decoder reads the encoder's output in steps of 256 places, so beyond its end at a context that is
        no multiple of that.
        """
        self._library, self._threads = library(), threads
        parameters = self._library.quick.whisper_context_default_params()
        parameters.use_gpu, parameters.gpu_device = gpu is not None, gpu or 0
        parameters.flash_attn = flash_attention
        self._context = self._library.computing.whisper_init_from_file_with_params(os.fsencode(path), parameters)
        if not self._context:
            raise ModelError(f"{path}: whisper.cpp cannot load it")

    def encode(self, spectrogram: NDArray[np.float32]) -> None:
        """Run the encoder on (n_mels, frames) float32."""
        mel = np.ascontiguousarray(spectrogram, np.float32)
        bands, frames = mel.shape
        _check(self._library.quick.whisper_set_mel(self._context, mel.ctypes.data, frames, bands))
        _check(self._library.computing.whisper_encode(self._context, 0, self._threads))

    def logits(self, tokens: Sequence[int], past: int = 0) -> Logits:
        """(n_vocab,) float32 after ``tokens``, before which ``past`` others were given."""
        given = (ctypes.c_int * len(tokens))(*tokens)
        _check(self._library.computing.whisper_decode(self._context, given, len(tokens), past, self._threads))
        size = self._library.quick.whisper_n_vocab(self._context)
        rows = np.ctypeslib.as_array(self._library.quick.whisper_get_logits(self._context), (len(tokens), size))
        # The library fills the row of the last token only.
        last: Logits = rows[-1].copy()
        return last

    def close(self) -> None:
        """Free its memory; it cannot be used afterwards."""
        self._library.computing.whisper_free(self._context)


def _check(code: int) -> None:
    if code:
        raise ModelError(f"whisper.cpp returned {code}")
