"""The kernels of whisper.cpp on this processor: which are loaded, and which would be faster.

An ordinary build has one set of kernels, linked in. Our image has several beside the extension, one for each kind of
processor (ggml's ``GGML_BACKEND_DL``): ggml can choose the best one that runs here, but whisper.cpp 1.8.5 never
lets it, and a model cannot be loaded without kernels.
"""

import ctypes
import os
from pathlib import Path

from transcriber.engine.whisper.gpu.devices import load_backend
from transcriber.errors import ConfigError, ModelError

AUTO = "auto"
FILES = "libggml-cpu-*.so"
TYPES = {0: "f32", 1: "f16", 8: "q5_0", 9: "q5_1"}
"""Weight types that q8_0 can beat, by ggml's number of the file type."""

ADVICE_BUILD = (
    "this processor has {features}, which this build of whisper.cpp does not use: one that does takes about half the"
    " time (docs/deployment.md, A faster build)"
)
ADVICE_MODEL = (
    "a model of type q8_0 is faster here than this one of type {type}: WHISPER_MODEL=NAME-q8_0, or transcriber models"
    " convert from one of type f16"
)


def load_kernels(folder: Path, chosen: str = AUTO) -> None:
    """Load the set of kernels ``chosen``, or the best one for this processor, from ``folder``. Only once a process.

    Does nothing where the build has its kernels linked in.

    Raises:
        ConfigError: there is no such set.
        ModelError: no set runs on this processor.
    """
    names = sorted(path.stem.removeprefix("libggml-cpu-") for path in folder.glob(FILES))
    if chosen not in {AUTO, *names}:
        raise ConfigError(f"WHISPER_KERNELS={chosen!r}: must be {' or '.join([AUTO, *names])}")
    if not names:
        return
    best = max(names, key=lambda name: _score(folder, name)) if chosen == AUTO else chosen
    if not (_score(folder, best) and load_backend(folder / _file(best))):
        raise ModelError(f"the kernels {' '.join(names) if chosen == AUTO else chosen} do not run on this processor")


def _file(name: str) -> str:
    return FILES.replace("*", name)


def _score(folder: Path, name: str) -> int:
    """How good a set of kernels is on this processor, as ggml counts; 0: it does not run.

    ggml could choose by itself (``ggml_backend_load_all_from_path``), but would load a GPU plug-in from the same folder, too.
    """
    try:
        return int(ctypes.CDLL(os.fspath(folder / _file(name))).ggml_backend_score())
    except (OSError, AttributeError):
        return 0


def built_features(system_info: str) -> frozenset[str]:
    """Names such as AVX512 and AMX_INT8 that are 1 in whisper.cpp's ``system_info``."""
    parts = (part.rpartition(":")[2].partition("=") for part in system_info.split("|"))
    return frozenset(name.strip() for name, _, value in parts if value.strip() == "1")


def advice(ftype: int, built: frozenset[str], flags: frozenset[str]) -> list[str]:
    """What would make this model faster on this processor, in one line each.

    Measured for a 5 s window of tiny.en on an AMD EPYC with AVX-512, two threads: AVX2 f16 131 ms, q8_0 109, q5_0 143,
    q5_1 145; AVX-512 f16 75 ms, q8_0 79, q5_0 86, q5_1 129. On a Xeon with AMX bare whisper.cpp took 98 ms
    with q8_0 and 146 ms with f16.

    Args:
        ftype: ggml's number of the weights' type.
        built: features of the build.
        flags: features of the processor, as the kernel calls them.
    """
    lines = []
    unused = [
        name
        for name, flag, feature in (("AVX-512", "avx512f", "AVX512"), ("AMX", "amx_int8", "AMX_INT8"))
        if flag in flags and feature not in built
    ]
    if unused:
        lines.append(ADVICE_BUILD.format(features=" and ".join(unused)))
    slower = TYPES.get(ftype) if "AVX2" in built else None  # not measured on other kinds of processor
    if slower and (slower.startswith("q5") or "AMX_INT8" in built or "AVX512" not in built):
        lines.append(ADVICE_MODEL.format(type=slower))
    return lines


def processor_flags() -> frozenset[str]:
    """The processor's flags in ``/proc/cpuinfo``; empty where there are none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())
