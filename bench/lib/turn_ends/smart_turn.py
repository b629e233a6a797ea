"""Smart Turn v3.2, a network that hears whether somebody has finished speaking.

In: the last seconds of one channel, and the ONNX file as it lies in the wheel of ``pipecat-ai`` (``smart-turn-v3.2-cpu.onnx``, BSD-2).
Out: the probability that what is said is complete.
"""

import hashlib
import time
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from transcriber.engine.job import WHISPER_SAMPLE_RATE
from transcriber.engine.whisper.mel import HOP, N_FFT, LogMel
from transcriber.models.conversion.mel_filters import mel_filters

HEARD_S = 8
"""Seconds that the network hears; what is shorter is filled up with zeros before it."""

COMPLETE = 0.5
"""Probability from which on its makers call a turn complete."""

BANDS = 80
LEAST_VARIANCE = 1e-7
"""Of samples; silence is not blown up."""

Samples = NDArray[np.float32]


class SmartTurn:
    """The network, on one thread. It answers what it was asked before from memory, and counts that as it does other calls.

    Attributes:
        asked: calls.
    """

    def __init__(self, path: Path) -> None:
        """Load it.

        Raises:
            SystemExit: there is no such file, or it is another network.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            weights = path.read_bytes()
            self._session = onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime's own exceptions have no common base but this
            raise SystemExit(f"{path}: {error}") from error
        self.sha256 = hashlib.sha256(weights).hexdigest()
        self.asked, self._took_s = 0, list[float]()
        self._answers: dict[bytes, float] = {}
        self._mel = LogMel(mel_filters(BANDS))

    @property
    def call_s(self) -> float:
        """Processor time of one call, the least of all: they are alike, and other processes make some longer."""
        return min(self._took_s, default=0.0)

    def __call__(self, samples: Samples) -> float:
        """Whether the last of these (n,) float32 at 16 kHz are the end of a turn, in [0, 1]."""
        self.asked += 1
        last = samples[-HEARD_S * WHISPER_SAMPLE_RATE :]
        key = hashlib.sha256(last.tobytes()).digest()
        if key not in self._answers:
            began_s = time.thread_time()
            heard = self._mel(prepared(last), HEARD_S * WHISPER_SAMPLE_RATE // HOP)
            answer = self._session.run(None, {"input_features": heard[np.newaxis]})[0]
            self._took_s.append(time.thread_time() - began_s)
            self._answers[key] = float(np.asarray(answer).ravel()[0])
        return self._answers[key]


def prepared(samples: Samples) -> Samples:
    """The last ``HEARD_S`` seconds of (n,) float32, zeros before them where there are less, at mean 0 and variance 1.

    Half a frame is mirrored at the end, where a spectrogram is centred.
    """
    size = HEARD_S * WHISPER_SAMPLE_RATE
    last = samples[-size:]
    full = np.concatenate((np.zeros(size - len(last), np.float32), last))
    full = (full - full.mean()) / np.sqrt(full.var() + np.float32(LEAST_VARIANCE))
    return np.concatenate((full, full[-2 : -N_FFT // 2 - 2 : -1]))
