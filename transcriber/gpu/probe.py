"""Whether the GPU plug-in loads here, and what it finds.

In: its path. Out: a ``Probe``. Blocks for a second, at most for ``TIMEOUT_S`` and what ``ask`` adds.
"""

import os
import sys
from pathlib import Path
from typing import NamedTuple

from transcriber.child_process import ChildError, ask
from transcriber.gpu.plug_in import base_library

CHILD = Path(__file__).with_name("child.py")
TIMEOUT_S = 60.0
"""A machine with eight GPUs, whose driver is not kept loaded, takes some ten seconds."""

MISSING = "cannot open shared object file: No such file or directory"
"""The dynamic linker's words for a library that is not there."""


class Gpu(NamedTuple):
    """A device as ggml describes it; memory in bytes."""

    name: str
    description: str
    free_bytes: int
    total_bytes: int


class Probe(NamedTuple):
    """What a plug-in found.

    Attributes:
        loaded: whether the dynamic linker took it.
        error: why it did not, or why there is no device; None where there is one.
        libraries: paths of NVIDIA's that were loaded.
        driver: the CUDA version of the driver, such as 13.0; None without a driver.
        devices: in ggml's order.
    """

    loaded: bool
    error: str | None
    libraries: tuple[str, ...] = ()
    driver: str | None = None
    devices: tuple[Gpu, ...] = ()

    @property
    def lacks_libraries(self) -> bool:
        """Whether all that is wrong is that a library of NVIDIA's is not installed."""
        return not self.loaded and MISSING in (self.error or "") and (self.error or "").startswith("libcu")


def probe(plug_in: Path) -> Probe:
    """Load ``plug_in`` in a child process, and see what it finds.

    Raises:
        PlugInError: there is no whisper.cpp that takes plug-ins.
    """
    # -I, so that our modules cannot hide Python's from it.
    command = [sys.executable, "-I", "-S", os.fspath(CHILD), os.fspath(base_library()), os.fspath(plug_in)]
    try:
        found = ask(command, TIMEOUT_S)
    except ChildError as error:
        # Before a signal stderr begins with ggml's log, which is no reason.
        return Probe(loaded=False, error=f"a process that loaded it {error.how if error.crashed else error}")
    return Probe(
        loaded=found["loaded"],
        error=found["error"],
        libraries=tuple(found["libraries"]),
        driver=f"{found['driver'] // 1000}.{found['driver'] % 1000 // 10}" if found["driver"] else None,
        devices=tuple(Gpu(**device) for device in found["devices"]),
    )
