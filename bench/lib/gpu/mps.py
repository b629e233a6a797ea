"""NVIDIA's Multi-Process Service, for processes that share a card: their kernels run beside each other instead of by turns."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from bench.lib.gpu.progress import UnavailableError

CONTROL = "nvidia-cuda-mps-control"
NAMES = ("CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY")


@contextmanager
def mps() -> Iterator[None]:
    """A server of our own; processes that are started meanwhile share the card through it.

    Raises:
        UnavailableError: it is not installed, or does not start.
    """
    program = shutil.which(CONTROL)
    if program is None:
        raise UnavailableError(f"no {CONTROL} here")
    with tempfile.TemporaryDirectory(prefix="transcriber-mps-") as folder:
        os.environ.update(dict.fromkeys(NAMES, folder))
        try:
            started = subprocess.run([program, "-d"], capture_output=True, text=True, check=False)
            if started.returncode:
                raise UnavailableError(f"{CONTROL} -d: {(started.stderr or started.stdout).strip()}")
            try:
                yield
            finally:
                subprocess.run([program], input="quit\n", capture_output=True, text=True, check=False)
        finally:
            for name in NAMES:
                del os.environ[name]
