"""Voice embeddings: the GE2E network (arXiv 1710.10467), as trained for the package ``resemblyzer``.

In: speech, float32 at 16 kHz. Out: vectors of 256 that point the same way where the voice is the same.
The graph is written here, in the runtime's format, since it is five nodes.
"""

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from transcriber.diarization.clustering import unit
from transcriber.diarization.weights import BANDS, LAYERS, SIZE, read_weights
from transcriber.engine.whisper.mel import HOP, MelBands, power_spectra
from transcriber.models.conversion.mel_filters import mel_filters

FRAMES = 160
"""1.6 s: the network's input."""

LOUDNESS = 10**-1.5
"""RMS to which quieter speech is raised, -30 dBFS: the network was trained on no quieter one, and does not normalise."""

_GATES = (0, 3, 1, 2)
"""torch's numbers of the gates in the runtime's order: input, output, forget, cell."""

_ERROR = 3
"""The runtime's level of severity: no warnings."""


class VoiceNetwork:
    """The network. Any thread, several at a time; a call takes one core, for 1.6 ms a second of a long turn, 5 ms for a turn of a second."""

    def __init__(self) -> None:
        """Load the weights.

        Raises:
            ConfigError: they are not installed, or of another version.
        """
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERROR
        # One core, beside whisper's; and results that do not depend on the number of cores.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        self._session = onnxruntime.InferenceSession(_graph(), options, providers=["CPUExecutionProvider"])
        self._bands = MelBands(mel_filters(BANDS))

    def __call__(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """The voice in ``samples``, (n,) float32 at 16 kHz: (256,) float32 of length 1, or all 0 for digital silence."""
        rms = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
        if not rms:
            return np.zeros(SIZE, np.float32)
        # Short speech is repeated: padded with silence it gives a worse embedding.
        samples = np.resize(samples, max(len(samples), FRAMES * HOP))
        frames = -(-len(samples) // HOP)
        power = self._bands(power_spectra(samples, frames))
        power *= np.float32(max(1.0, LOUDNESS / rms) ** 2)
        # Equal steps, so that each part counts alike; they overlap by less than half.
        parts = -(-(frames - FRAMES) // FRAMES) + 1
        starts = np.linspace(0, frames - FRAMES, parts).astype(int)
        batch = np.stack([power[start : start + FRAMES] for start in starts], axis=1)
        (voices,) = self._session.run(None, {"mel": batch})
        return unit(unit(voices).mean(axis=0))


def _graph() -> bytes:
    """The network as an ONNX model: frames x parts x bands in, parts x 256 out."""
    layers, linear, bias = read_weights()
    # First the matrices of all layers, then their biases.
    biases = layers[-LAYERS * 8 * SIZE :].reshape(LAYERS, 2, 4, SIZE)[:, :, _GATES]
    nodes, tensors, at, previous = b"", b"", 0, "mel"
    for layer in range(LAYERS):
        inputs = [previous]
        for name, width in (("W", SIZE if layer else BANDS), ("R", SIZE)):
            gates = layers[at : at + 4 * SIZE * width].reshape(4, SIZE, width)[_GATES, :, :]
            at += 4 * SIZE * width
            tensors += _tensor(f"{name}{layer}", gates.reshape(1, 4 * SIZE, width))
            inputs.append(f"{name}{layer}")
        tensors += _tensor(f"B{layer}", biases[layer].reshape(1, 8 * SIZE))
        previous, last = f"layer{layer}", f"last{layer}"
        nodes += _node("LSTM", [*inputs, f"B{layer}"], [f"{previous}x1", last], hidden_size=SIZE)
        nodes += _node("Squeeze", [f"{previous}x1", "directions"], [previous])
    tensors += _tensor("directions", np.ones(1, np.int64)) + _tensor("layers", np.zeros(1, np.int64))
    tensors += _tensor("linear", linear.reshape(SIZE, SIZE)) + _tensor("bias", bias)
    nodes += _node("Squeeze", [f"last{LAYERS - 1}", "layers"], ["hidden"])
    nodes += _node("Gemm", ["hidden", "linear", "bias"], ["sum"], transB=1) + _node("Relu", ["sum"], ["voice"])
    ends = _field(11, _value("mel", (0, 0, BANDS))) + _field(12, _value("voice", (0, SIZE)))
    return _number(1, 8) + _field(7, nodes + _field(2, b"voices") + tensors + ends) + _field(8, _number(2, 17))


# The format is protobuf: a field is its number, its kind, and a whole number or as many bytes as it says.
def _varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value % 128 + 128]) + _varint(value // 128)  # noqa: PLR2004


def _number(field: int, value: int) -> bytes:
    return _varint(8 * field) + _varint(value)


def _field(field: int, content: bytes) -> bytes:
    return _varint(8 * field + 2) + _varint(len(content)) + content


def _node(kind: str, inputs: list[str], outputs: list[str], **settings: int) -> bytes:
    """One step of the graph, as a field of it."""
    ends = b"".join(_field(1, name.encode()) for name in inputs) + b"".join(
        _field(2, name.encode()) for name in outputs
    )
    how = (_field(1, name.encode()) + _number(3, value) + _number(20, 2) for name, value in settings.items())
    return _field(1, ends + _field(4, kind.encode()) + b"".join(_field(5, one) for one in how))


def _tensor(name: str, values: NDArray[np.float32] | NDArray[np.int64]) -> bytes:
    """A constant, as a field of the graph."""
    shape = b"".join(_number(1, size) for size in values.shape)
    kind = 7 if values.dtype == np.int64 else 1
    return _field(5, shape + _number(2, kind) + _field(8, name.encode()) + _field(9, values.tobytes()))


def _value(name: str, shape: tuple[int, ...]) -> bytes:
    """The type of an end of the graph, float32; a size of 0 is any."""
    sizes = b"".join(_field(1, _number(1, size) if size else b"") for size in shape)
    return _field(1, name.encode()) + _field(2, _field(1, _number(1, 1) + _field(2, sizes)))
