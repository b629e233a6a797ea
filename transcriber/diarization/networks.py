"""The two networks that tell voices apart: who of up to three speaks when, and what a voice is like.

In: samples at 16 kHz. Out: activity by frame (pyannote's segmentation-3.0, arXiv 2310.13025), and vectors of 192 that point the same way
where the voice is the same (CAM++, arXiv 2303.00332). ``bench.voice_models`` made the files, and ``bench.mean_voice`` what is
subtracted from all voices.
"""

from functools import cache
from importlib.resources import files

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from transcriber.diarization.fbank import fbank
from transcriber.diarization.pieces import FIRST, LOCALS
from transcriber.diarization.voices import unit

SIZE = 192
"""Of a voice's vector."""

SHORTEST = 1600
"""Samples of the shortest speech whose voice is looked at, 0.1 s."""

_SPEAKING = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]], bool)
"""Who speaks in each class of the first network."""

_ERROR = 3
"""The runtime's level of severity: no warnings."""


class VoiceNetworks:
    """One of each for all streams. Any thread, several at a time; a call takes one core. Loaded they have 38 MB, at work 74 MB."""

    def __init__(self) -> None:
        self._segmentation, self._voice = _session("segmentation.onnx"), _session("voice.onnx")
        self._mean = np.frombuffer(_file("mean_voice.f32"), "<f4")

    def activity(self, samples: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Who speaks in (n,) float32 in [-1, 1], best 10 s of them: (frames, 3) bool, at most two at once; 45 ms for 10 s."""
        if len(samples) < FIRST * 2:
            return np.zeros((0, LOCALS), bool)
        (classes,) = self._segmentation.run(None, {"input": samples[np.newaxis, np.newaxis]})
        speaking: NDArray[np.bool_] = _SPEAKING[classes[0].argmax(axis=1)]
        return speaking

    def voice(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """The voice in (n,) float32: (192,) float32 of length 1, all 0 if that is too short or digital silence; 25 ms a second."""
        heard = self.heard(samples)
        return unit(heard - self._mean) if heard.any() else heard

    def heard(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """The same with what all voices have in common, which says nothing of who speaks."""
        if len(samples) < SHORTEST or not samples.any():
            return np.zeros(SIZE, np.float32)
        (voices,) = self._voice.run(None, {"input": fbank(samples)[np.newaxis]})
        return unit(voices[0])


@cache
def voice_networks() -> VoiceNetworks:
    """Those of this process, loaded when they are first asked for: up to a second of a core. Any thread; blocks."""
    return VoiceNetworks()


def _file(name: str) -> bytes:
    return files(__package__).joinpath(name).read_bytes()


def _session(name: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERROR
    # One core, beside whisper's; and results that do not depend on the number of cores.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # Pieces of speech are of any length: a plan of memory for each would be kept.
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    return onnxruntime.InferenceSession(_file(name), options, providers=["CPUExecutionProvider"])
