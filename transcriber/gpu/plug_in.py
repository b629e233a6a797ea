"""Where the GPU plug-in lies, and whether it is one. In: the installed whisper.cpp. Out: a path, what the plug-in was built from.

The plug-in lies beside whisper.cpp's libraries. It needs ``libggml-base.so.0``, whose name is another in the wheel of the package
index (``libggml-base-319ad4fb.so.0.13.1``): there a link of the first name beside it leads to the second. The dynamic linker knows
by its inode that this library is loaded already. Nothing here loads a library.
"""

import json
import mmap
import platform
import struct
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from transcriber.errors import PlugInError
from transcriber.gpu.build import MARK, SOURCE

NAME = "libggml-cuda.so"
BASE_NAME = "libggml-base.so.0"
WHEEL_BASE_NAMES = "libggml-base-*.so*"
BINDING = "_pywhispercpp"
WHEEL_FOLDER = "pywhispercpp.libs"
"""Beside the binding, where the wheel has its libraries; other builds have them beside the binding itself."""

ENTRY_POINT = b"\0ggml_backend_init\0"
MAX_MARK_BYTES = 1024

ELF_START = b"\x7fELF\x02\x01"
ELF_HEADER = struct.Struct("<18x H 20x Q 10x HH 2x")
"""Of a 64-bit little-endian ELF file: its machine, where its section headers are, how large one is, and how many there are."""
ELF_MACHINES = {"x86_64": 62, "aarch64": 183}


class Origin(NamedTuple):
    """What a plug-in was built from.

    Attributes:
        pywhispercpp: the version whose source it is.
        cuda: the version of the compiler, such as 13.0.
        architectures: of the GPUs, in CMake's terms.
    """

    pywhispercpp: str
    cuda: str
    architectures: str


def find_plug_in() -> Path | None:
    """The plug-in beside whisper.cpp's libraries, whatever it is worth; None where there is none."""
    try:
        found = base_library().with_name(NAME)
    except PlugInError:
        return None
    return found if found.is_file() else None


def base_library() -> Path:
    """The library of whisper.cpp that the plug-in needs.

    Raises:
        PlugInError: there is none: pywhispercpp is not installed, or was built without shared libraries.
    """
    binding = find_spec(BINDING)
    if not binding or not binding.origin:
        raise PlugInError("pywhispercpp is not installed")
    folder = Path(binding.origin).parent
    # Another build that replaces the wheel may leave its folder, with the plug-in and the link.
    for library in (*(folder / WHEEL_FOLDER).glob(WHEEL_BASE_NAMES), folder / BASE_NAME):
        if library.is_file():
            return library
    raise PlugInError(f"{folder}: this build of whisper.cpp has no {BASE_NAME}, and takes no plug-in")


def check_plug_in(path: Path) -> Origin:
    """What a plug-in was built from, if it is whole, and for this machine and this whisper.cpp. Reads the whole file at most.

    Raises:
        PlugInError: it is not.
    """
    origin = _read(path)
    try:
        installed = version(SOURCE)
    except PackageNotFoundError:
        raise PlugInError("pywhispercpp is not installed") from None
    if origin.pywhispercpp != installed:
        raise PlugInError(f"{path}: is for {SOURCE} {origin.pywhispercpp}, and {installed} is installed")
    return origin


def _read(path: Path) -> Origin:
    machine = platform.machine()
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            _check_elf(path, content, machine)
            start = content.find(f"{MARK} {{".encode())
            known = start >= 0 and content.find(ENTRY_POINT) >= 0
            mark = content[start : start + MAX_MARK_BYTES] if known else b""
    except OSError as error:
        raise PlugInError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError:  # an empty file cannot be mapped
        raise PlugInError(f"{path}: is empty") from None
    try:
        origin = json.loads(mark.partition(b"\0")[0].removeprefix(MARK.encode()))
        return Origin(str(origin[SOURCE]), str(origin["cuda"]), str(origin["architectures"]))
    except (ValueError, KeyError, TypeError):
        raise PlugInError(f"{path}: is a library, but not one that `transcriber gpu build` made") from None


def _check_elf(path: Path, content: mmap.mmap, machine: str) -> None:
    """That it is a library for ``machine``, and ends where its header says."""
    if len(content) < ELF_HEADER.size or content[:6] != ELF_START:
        raise PlugInError(f"{path}: is no library for 64-bit Linux")
    number, sections_at, section_bytes, sections = ELF_HEADER.unpack_from(content)
    if number != ELF_MACHINES.get(machine):
        name = next((name for name, other in ELF_MACHINES.items() if other == number), "another processor")
        raise PlugInError(f"{path}: is for {name}, and this machine is {machine}")
    if len(content) < sections_at + sections * section_bytes:
        raise PlugInError(f"{path}: is cut off")
