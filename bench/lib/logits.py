"""whisper.cpp's own numbers before they become text. In: a model file, a spectrogram, tokens. Out: the logits of the next token.

The binding hands out one of them only, so the library that it has loaded is asked itself.
"""

import ctypes
import importlib
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]


class _Parameters(ctypes.Structure):
    """``whisper_context_params`` of whisper.cpp 1.8."""

    _fields_ = (
        ("use_gpu", ctypes.c_bool),
        ("flash_attn", ctypes.c_bool),
        ("gpu_device", ctypes.c_int),
        ("dtw_token_timestamps", ctypes.c_bool),
        ("dtw_aheads_preset", ctypes.c_int),
        ("dtw_n_top", ctypes.c_int),
        ("n_heads", ctypes.c_size_t),
        ("heads", ctypes.c_void_p),
        ("dtw_mem_size", ctypes.c_size_t),
    )


class Decoder:
    """One model file in whisper.cpp, on one thread.

    Without flash attention: with it the decoder looks at 1536 places of the encoder's 1500, and the rest is not its own.
    """

    def __init__(self, path: Path) -> None:
        self._library = _library()
        parameters = self._library.whisper_context_default_params()
        parameters.use_gpu = parameters.flash_attn = False
        self._context = self._library.whisper_init_from_file_with_params(os.fsencode(path), parameters)
        if not self._context:
            raise SystemExit(f"{path}: whisper.cpp cannot load it")

    def hear(self, spectrogram: NDArray[np.float32]) -> None:
        """Run the encoder on (n_mels, frames) float32."""
        mel = np.ascontiguousarray(spectrogram, np.float32)
        bands, frames = mel.shape
        numbers = mel.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        self._check(self._library.whisper_set_mel(self._context, numbers, frames, bands))
        self._check(self._library.whisper_encode(self._context, 0, 1))

    def logits(self, tokens: Sequence[int], past: int = 0) -> Logits:
        """(n_vocab,) float32 after ``tokens``, before which ``past`` others were given."""
        given = (ctypes.c_int * len(tokens))(*tokens)
        self._check(self._library.whisper_decode(self._context, given, len(tokens), past, 1))
        size = self._library.whisper_n_vocab(self._context)
        rows = np.ctypeslib.as_array(self._library.whisper_get_logits(self._context), (len(tokens), size))
        # The library fills the row of the last token only.
        last: Logits = rows[-1].copy()
        return last

    def close(self) -> None:
        self._library.whisper_free(self._context)

    @staticmethod
    def _check(code: int) -> None:
        if code:
            raise SystemExit(f"whisper.cpp returned {code}")


@cache
def _library() -> ctypes.CDLL:
    importlib.import_module("_pywhispercpp")  # loads it
    mapped = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "libwhisper" in line}
    library = ctypes.CDLL(mapped.pop())
    pointer, whole = ctypes.c_void_p, ctypes.c_int
    library.whisper_context_default_params.restype = _Parameters
    library.whisper_init_from_file_with_params.restype = pointer
    library.whisper_init_from_file_with_params.argtypes = [ctypes.c_char_p, _Parameters]
    library.whisper_free.argtypes = [pointer]
    library.whisper_set_mel.argtypes = [pointer, ctypes.POINTER(ctypes.c_float), whole, whole]
    library.whisper_encode.argtypes = [pointer, whole, whole]
    library.whisper_decode.argtypes = [pointer, ctypes.POINTER(whole), whole, whole, whole]
    library.whisper_n_vocab.argtypes = [pointer]
    library.whisper_get_logits.argtypes = [pointer]
    library.whisper_get_logits.restype = ctypes.POINTER(ctypes.c_float)
    return library
