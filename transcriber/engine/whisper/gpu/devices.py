"""ggml's registry of backends and devices. In: a backend's file. Out: whether it was loaded, and the GPUs that there are now.

Loading a GPU's backend starts its driver, and ggml ends the process on an error of the driver: see ``device``.
"""

import ctypes
import functools
import os
from pathlib import Path
from typing import NamedTuple

import _pywhispercpp as binding

GPU_TYPES = frozenset({1, 2})
"""``GGML_BACKEND_DEVICE_TYPE_GPU`` and ``..._IGPU``: those that whisper.cpp counts for ``gpu_device``."""


class Gpu(NamedTuple):
    """One GPU.

    Attributes:
        name: ggml's, such as ``CUDA0``.
        description: the card's name.
        position: among all GPUs; whisper.cpp's ``gpu_device``.
        pointer: ``ggml_backend_dev_t``.
    """

    name: str
    description: str
    position: int
    pointer: int

    @property
    def free_bytes(self) -> int:
        """Memory of the card that nobody uses; asking makes the driver take some hundred MB of it for this process."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        registry().ggml_backend_dev_memory(self.pointer, ctypes.byref(free), ctypes.byref(total))
        return free.value

    def has_room(self, size_bytes: int) -> bool:
        """Whether so much can be allocated on the card; it is freed again."""
        ggml = registry()
        if self.free_bytes < size_bytes:
            return False
        buffer = ggml.ggml_backend_buft_alloc_buffer(ggml.ggml_backend_dev_buffer_type(self.pointer), size_bytes)
        if buffer:
            ggml.ggml_backend_buffer_free(buffer)
        return bool(buffer)

    @property
    def buffer_name(self) -> str:
        """What whisper.cpp's log calls memory of the card."""
        return _text(registry().ggml_backend_buft_name(registry().ggml_backend_dev_buffer_type(self.pointer)))


def load_backend(path: Path) -> bool:
    """Load the backend in ``path``; whether it could be loaded. ggml's log says why not."""
    return bool(registry().ggml_backend_load(os.fsencode(path)))


def gpus() -> list[Gpu]:
    """All GPUs of the backends that are loaded, in the order in which whisper.cpp counts them."""
    ggml = registry()
    pointers = (ggml.ggml_backend_dev_get(number) for number in range(ggml.ggml_backend_dev_count()))
    found = (pointer for pointer in pointers if ggml.ggml_backend_dev_type(pointer) in GPU_TYPES)
    return [
        Gpu(
            _text(ggml.ggml_backend_dev_name(pointer)),
            _text(ggml.ggml_backend_dev_description(pointer)),
            number,
            pointer,
        )
        for number, pointer in enumerate(found)
    ]


def find_gpu(index: int) -> Gpu | None:
    """The card ``cuda:index``."""
    return next((gpu for gpu in gpus() if gpu.name == f"CUDA{index}"), None)


def kernels_folder() -> Path:
    """The folder of the extension module, in which an image has its kernels."""
    return Path(binding.__file__).parent


@functools.cache
def registry() -> ctypes.CDLL:
    """Functions of ggml in the libraries that the extension module has loaded, whatever their files are called."""
    ggml = ctypes.CDLL(binding.__file__)
    pointer, text, size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t
    declared = {
        "ggml_backend_load": (pointer, text),
        "ggml_backend_dev_count": (size,),
        "ggml_backend_dev_get": (pointer, size),
        "ggml_backend_dev_type": (ctypes.c_int, pointer),
        "ggml_backend_dev_name": (text, pointer),
        "ggml_backend_dev_description": (text, pointer),
        "ggml_backend_dev_memory": (None, pointer, ctypes.POINTER(size), ctypes.POINTER(size)),
        "ggml_backend_dev_buffer_type": (pointer, pointer),
        "ggml_backend_buft_name": (text, pointer),
        "ggml_backend_buft_alloc_buffer": (pointer, pointer, size),
        "ggml_backend_buffer_free": (None, pointer),
    }
    for name, (returned, *given) in declared.items():
        function = getattr(ggml, name)
        function.restype, function.argtypes = returned, given
    return ggml


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")
