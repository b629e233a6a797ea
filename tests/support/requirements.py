"""What a machine may lack that some tests need: they are skipped, and say in a line what to install, or why they cannot run."""

import shutil

import pytest

from transcriber.diarization.weights import INSTALL, weights_file
from transcriber.engine.whisper.kernels import processor_flags

weights = pytest.mark.skipif(weights_file() is None, reason=f"no weights that tell voices apart: {INSTALL}")
amx = pytest.mark.skipif("amx_int8" not in processor_flags(), reason="this processor has no AMX")


def program(name, where):
    """Path of a program; where it is not installed the test is skipped."""
    return shutil.which(name) or pytest.skip(f"no {name}: {where}")
