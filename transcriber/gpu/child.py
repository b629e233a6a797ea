"""What the GPU plug-in finds, in a process of its own, which a broken driver may end or hang. It imports nothing of ours.

In: the paths of whisper.cpp's base library and of the plug-in. Out: a JSON object, the last line on stdout: ``libraries`` of NVIDIA that were
loaded (paths); ``error``, the reason why the plug-in does not load or finds no device, or null; ``loaded``; ``driver`` as 13000 for
one of CUDA 13.0, 0 for none; ``devices``, each with ``name``, ``description``, ``free_bytes`` and ``total_bytes``.
"""

import ctypes
import json
import os
import sys
from pathlib import Path
from typing import Any

NVIDIAS = "libcudart.so", "libcublas.so", "libcublasLt.so", "libcuda.so"


def look(base: str, plug_in: str) -> dict[str, Any]:
    """Load both libraries and ask them."""
    ggml = ctypes.CDLL(base)
    try:
        cuda = ctypes.CDLL(plug_in)
        runtime = ctypes.CDLL("libcudart.so.13")  # loaded already
    except OSError as wrong:
        return {"loaded": False, "error": str(wrong), "driver": 0, "devices": []}
    count, driver = ctypes.c_int(), ctypes.c_int()
    code = runtime.cudaGetDeviceCount(ctypes.byref(count))
    runtime.cudaGetErrorString.restype = ctypes.c_char_p
    error = runtime.cudaGetErrorString(code).decode() if code else None
    runtime.cudaDriverGetVersion(ctypes.byref(driver))
    devices = list_devices(ggml, cuda) if count.value else []
    return {"loaded": True, "error": error, "driver": driver.value, "devices": devices}


def list_devices(ggml: ctypes.CDLL, cuda: ctypes.CDLL) -> list[dict[str, Any]]:
    """As ggml numbers them."""
    pointer = ctypes.c_void_p
    cuda.ggml_backend_init.restype = ggml.ggml_backend_reg_dev_get.restype = pointer
    ggml.ggml_backend_reg_dev_count.restype = ctypes.c_size_t
    ggml.ggml_backend_dev_name.restype = ggml.ggml_backend_dev_description.restype = ctypes.c_char_p
    registry = pointer(cuda.ggml_backend_init())
    devices = []
    for index in range(ggml.ggml_backend_reg_dev_count(registry)):
        device = pointer(ggml.ggml_backend_reg_dev_get(registry, ctypes.c_size_t(index)))
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        ggml.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
        devices.append({
            "name": ggml.ggml_backend_dev_name(device).decode(errors="replace"),
            "description": ggml.ggml_backend_dev_description(device).decode(errors="replace"),
            "free_bytes": free.value,
            "total_bytes": total.value,
        })  # fmt: skip
    return devices


def loaded_libraries() -> list[str]:
    """NVIDIA's libraries in this process."""
    paths = {line.split(maxsplit=5)[-1].strip() for line in Path("/proc/self/maps").read_text("utf-8").splitlines()}
    return sorted(path for path in paths if Path(path).name.startswith(NVIDIAS))


if __name__ == "__main__":
    # What a driver prints, some of it when the process ends, goes to stderr: the answer is the last line of stdout.
    with os.fdopen(os.dup(1), "w") as answer:
        os.dup2(2, 1)
        found = look(*sys.argv[1:])
        answer.write("\n" + json.dumps(found | {"libraries": loaded_libraries()}) + "\n")
