"""A model's weights in memory, once, and the states that compute with them.

In: a checked model file; spectrograms and parameters. Out: states, each as good as a model of its own, at the price of its own
buffers; what whisper.cpp made of a spectrogram. whisper.cpp does not batch: each state runs its own encoder and decoder.
"""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transcriber.engine.whisper.library import AbortCallback, FullParameters, TokenData, library
from transcriber.engine.whisper.native_heap import return_freed, return_large_blocks
from transcriber.engine.whisper.native_log import native_log
from transcriber.errors import EngineError, ModelError


class Weights:
    """A context of whisper.cpp without a state of its own. Any thread; freed with its last state.

    Attributes:
        path: of the file.
        context: whisper.cpp's pointer; valid as long as there is a state.
    """

    def __init__(self, path: Path, *, use_gpu: bool, gpu_device: int = 0) -> None:
        """Read a checked file and make the first state; blocks for as long as that takes.

        Raises:
            ModelError: whisper.cpp refuses the file, or has no memory or no device for a state.
        """
        self.path = path
        self._lock = threading.Lock()
        self._states = 0
        functions = library()
        native_log.lines.clear()
        return_large_blocks()
        params = functions.quick.whisper_context_default_params()
        params.use_gpu, params.gpu_device, params.flash_attn = use_gpu, gpu_device, True
        load = functions.computing.whisper_init_from_file_with_params_no_state
        self.context: int | None = load(os.fsencode(path), params)
        if self.context is None:
            raise self._error()
        self._spare: int | None = None
        self._spare = self.new_state()

    def new_state(self) -> int:
        """Whisper.cpp's pointer to a state of the caller's own; give it to ``free_state``.

        Raises:
            ModelError: the weights are freed, or whisper.cpp has no memory or no device.
        """
        with self._lock:
            state, self._spare = self._spare, None
            if state is not None:
                return state
            if self.context is None:
                raise ModelError(f"{self.path}: its weights are freed already")
            self._states += 1
        made: int | None = library().computing.whisper_init_state(self.context)
        if made is None:
            error = self._error()
            self._release()
            raise error
        return made

    def free_state(self, state: int) -> None:
        """Free a state that computes nothing any more; the last one takes the weights with it."""
        library().computing.whisper_free_state(state)
        self._release()

    def _release(self) -> None:
        with self._lock:
            self._states -= 1
            if self._states:
                return
            context, self.context = self.context, None
        library().computing.whisper_free(context)
        return_freed()  # else, with a swap of the model after the other, twice what is used

    def _error(self) -> ModelError:
        return ModelError(f"{self.path}: whisper.cpp cannot load it: {native_log.first_error() or 'failed'}")


class State:
    """A state of whisper.cpp: buffers, the last spectrogram, and the last result. One thread at a time.

    The threads with which OpenMP computes belong to the thread that calls, so it should stay the same one.
    """

    def __init__(self, weights: Weights) -> None:
        """As ``Weights.new_state``."""
        self._computing, self._quick = library()
        self._weights = weights
        self._state: int | None = weights.new_state()
        self._context = weights.context

    @property
    def closed(self) -> bool:
        return self._state is None

    def close(self) -> None:
        """Free it, and the weights if no other state uses them; it cannot be used afterwards."""
        state, self._state = self._state, None
        if state is not None:
            self._weights.free_state(state)

    def set_mel(self, mel: NDArray[np.float32]) -> None:
        """Give the spectrogram for the next calls: (bands, frames) C-contiguous float32, which is copied.

        Raises:
            EngineError: the model takes another number of bands.
        """
        bands, frames = mel.shape
        call = self._quick.whisper_set_mel_with_state
        _expect_none(call(self._context, self._state, mel.ctypes.data, frames, bands))

    def run(self, params: FullParameters, should_abort: Callable[[], bool] | None = None) -> int:
        """Encode and decode; returns how often ``should_abort`` was asked.

        Raises:
            EngineError: whisper.cpp failed, or was aborted.
        """
        asked, raised = 0, list[BaseException]()

        def counted(_: object) -> bool:
            nonlocal asked
            asked += 1
            try:
                return should_abort is not None and should_abort()
            except BaseException as error:  # noqa: BLE001 - whisper.cpp cannot pass it on: raised below
                raised.append(error)
                return True

        params.abort_callback = AbortCallback(counted)
        try:
            code = self._computing.whisper_full_with_state(self._context, self._state, params, None, 0)
        finally:
            params.abort_callback = AbortCallback()
        if raised:
            raise raised[0]
        _expect_none(code, "aborted" if code and should_abort and should_abort() else None)
        return asked

    def detect(self, threads: int) -> NDArray[np.float32]:
        """Probabilities of all languages that whisper.cpp knows, by its numbers. It encodes at the context of the last ``run``.

        Raises:
            EngineError: whisper.cpp failed.
        """
        probabilities = np.zeros(self._quick.whisper_lang_max_id() + 1, np.float32)
        detect = self._computing.whisper_lang_auto_detect_with_state
        _expect_none(min(0, detect(self._context, self._state, 0, threads, probabilities.ctypes.data)))
        return probabilities

    def tokens(self) -> Iterator[TokenData]:
        """All tokens of the last result, special ones too."""
        for segment in range(self._quick.whisper_full_n_segments_from_state(self._state)):
            for index in range(self._quick.whisper_full_n_tokens_from_state(self._state, segment)):
                yield self._quick.whisper_full_get_token_data_from_state(self._state, segment, index)

    def language(self) -> int:
        """Whisper.cpp's number of the last result's language."""
        return int(self._quick.whisper_full_lang_id_from_state(self._state))


def _expect_none(code: int, reason: str | None = None) -> None:
    """Raise an ``EngineError`` for a code that is not 0; without a reason whisper.cpp's log has it."""
    if code:
        reason = reason or native_log.first_error() or "failed"
        raise EngineError(f"{reason} (whisper.cpp returned {code})", return_code=code)
