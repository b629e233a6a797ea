"""Silero's network for voice activity, version 6, on the processor.

In: rows of 576 samples at 16 kHz. Out: the probability of speech in each. The weights and their licence lie beside this module.
One network serves all streams: the state of a stream is in its ``State``.
"""

from importlib.resources import files

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from transcriber.audio.vad.detector import State

WEIGHTS = "silero_vad.onnx"
STATE_SHAPE = (1, 1, 128)

_ERROR = 3
"""Of the runtime's levels of severity: no warnings."""


class Silero:
    """The network; any number of streams share it. Any thread: it holds no state of a stream."""

    __slots__ = ("_session",)

    def __init__(self) -> None:
        """Load the bundled weights."""
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERROR
        # No threads of its own: a block of a stream takes 0.1 ms, less than waking one costs.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        # No arena: it would keep the memory of the longest block ever, and is no faster.
        options.enable_cpu_mem_arena = False
        weights = (files(__package__) / WEIGHTS).read_bytes()
        self._session = onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])

    def new_state(self) -> State:
        """The state at the beginning of a stream."""
        return State(np.zeros(STATE_SHAPE, np.float32), np.zeros(STATE_SHAPE, np.float32))

    def __call__(self, rows: NDArray[np.float32], state: State) -> tuple[NDArray[np.float32], State]:
        """Run consecutive rows of one stream.

        Args:
            rows: (k, 576) float32 in [-1, 1]: 512 new samples each, after the 64 before them.
            state: as the rows before left it.

        Returns:
            (k,) float32 in [0, 1], the probability of speech in each row; and the state after them.
        """
        inputs = {"input": rows, "h": state.hidden, "c": state.cell}
        speech, hidden, cell = self._session.run(["speech_probs", "hn", "cn"], inputs)
        return speech, State(hidden, cell)
