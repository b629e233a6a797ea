"""A GPU plug-in of our own, compiled here: see ``fake_gpu.c``."""

import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("fake_gpu.c")


def compiled_plug_in(folder):
    """The path of it, in ``folder``; skips where there is no compiler, or a build without shared libraries."""
    compiler = shutil.which("cc")
    if not compiler:
        pytest.skip("no C compiler (cc)")
    found = find_spec("_pywhispercpp")
    beside = Path(str(found and found.origin)).parent
    patterns = "pywhispercpp.libs/{}-[0-9a-f]*.so*", "{}.so.0"
    libraries = [
        path for name in ("libggml-base", "libggml") for each in patterns for path in beside.glob(each.format(name))
    ]
    if not libraries:
        pytest.skip("this build of whisper.cpp has no shared libraries")
    plug_in = folder / "libggml-cuda.so"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", plug_in, SOURCE, *libraries], check=True)
    return plug_in
