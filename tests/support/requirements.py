"""What a machine may lack that some tests need: they are skipped, and say in a line what to install, or why they cannot run."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from transcriber.engine.whisper.kernels import processor_flags

amx = pytest.mark.skipif("amx_int8" not in processor_flags(), reason="this processor has no AMX")


def program(name, where):
    """Path of a program, beside Python or in PATH; where it is not installed the test is skipped."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    return shutil.which(name, path=path) or pytest.skip(f"no {name}: {where}")
