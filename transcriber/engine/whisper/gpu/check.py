"""Is there a GPU that works? In a process of its own, which a broken driver may end or hang.

In: one argument, a JSON object with ``plug_in`` (a path, or null), ``kernels`` and ``index``. Out: a JSON object, the last line on stdout:
``loaded``; ``log``, what ggml says of the plug-in, errors only; ``gpus``, name to description; and of the GPU ``CUDA<index>`` ``differences`` (see
``self_test``), or ``error``, why there are none. Errors of ggml go to stderr at once, since it may end the process with the next one.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import _pywhispercpp as binding

from transcriber.engine.whisper.gpu.devices import find_gpu, gpus, kernels_folder, load_backend
from transcriber.engine.whisper.kernels import load_kernels
from transcriber.errors import ModelError

LOG_ERROR = 4


def check(plug_in: str | None, kernels: str, index: int) -> dict[str, Any]:
    """See the module."""
    errors: list[str] = []

    def keep(level: int, text: str) -> None:
        if level >= LOG_ERROR:
            errors.append(text.strip())
            sys.stderr.write(text)
            sys.stderr.flush()

    binding.whisper_log_set(keep)
    try:
        load_kernels(kernels_folder(), kernels)
        loaded = plug_in is None or load_backend(Path(plug_in))
        there = {gpu.name: gpu.description for gpu in gpus()}
        found: dict[str, Any] = {"loaded": loaded, "log": errors.copy(), "gpus": there}
        if gpu := find_gpu(index):
            found |= _compare(gpu.position, errors)
        return found
    finally:
        binding.whisper_log_set(None)


def _compare(position: int, errors: list[str]) -> dict[str, Any]:
    # NumPy takes longer than all else here, and is needed only where there is a GPU.
    from transcriber.engine.whisper.gpu.self_test import differences  # noqa: PLC0415

    before = len(errors)
    try:
        return {"differences": differences(position)}
    except ModelError as error:
        return {"error": next(iter(errors[before:]), str(error))}


if __name__ == "__main__":
    # What a driver prints, some of it when the process ends, goes to stderr: the answer is the last line of stdout.
    with os.fdopen(os.dup(1), "w") as answer:
        os.dup2(2, 1)
        answer.write("\n" + json.dumps(check(**json.loads(sys.argv[1]))) + "\n")
