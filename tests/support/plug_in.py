"""whisper.cpp's wheel in a folder of a test's own, where a GPU plug-in can be put, and the plug-in that is cached, if one is."""

import json
import shutil
import struct
from importlib.machinery import ModuleSpec
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest

from transcriber.gpu import plug_in
from transcriber.gpu.build import MARK, SOURCE

CACHE = Path.home() / ".cache/transcriber/gpu"
"""``libggml-cuda.so``, and ``nvidia`` with NVIDIA's libraries: CONTRIBUTING.md says how they come there."""


def copied_wheel(folder):
    """A copy of the installed whisper.cpp below ``folder``; returns where it lies, to be had by ``PYTHONPATH``."""
    spec = find_spec(plug_in.BINDING)
    assert spec
    binding = Path(str(spec.origin))
    site = folder / "site-packages"
    site.mkdir()
    shutil.copy(binding, site)
    for name in ("pywhispercpp", plug_in.WHEEL_FOLDER, f"{SOURCE}-{version(SOURCE)}.dist-info"):
        shutil.copytree(binding.with_name(name), site / name, symlinks=True)
    return site


def use(site, monkeypatch):
    """Have this process take the whisper.cpp of ``site`` for the installed one."""
    (binding,) = site.glob(f"{plug_in.BINDING}*.so")
    monkeypatch.setattr(plug_in, "find_spec", lambda name: ModuleSpec(name, None, origin=str(binding)))


def stand_in(**changes):
    """Bytes that pass for a plug-in until it is asked for devices: a library of the wheel, with the mark behind it."""
    mark = {SOURCE: version(SOURCE), "cuda": "13.0", "architectures": "90-real"} | changes
    return plug_in.base_library().read_bytes() + plug_in.ENTRY_POINT + f"{MARK} {json.dumps(mark)}".encode() + b"\0"


def cut_off(content):
    """A library whose header says that more follows."""
    return content[:40] + struct.pack("<Q", len(content)) + content[48:]


def cached_plug_in():
    """Path of the real one; where there is none the test is skipped."""
    path = CACHE / plug_in.NAME
    return path if path.is_file() else pytest.skip(f"no GPU plug-in: {path} (CONTRIBUTING.md)")


def cached_libraries():
    """Folder ``nvidia`` of NVIDIA's wheels; where there is none the test is skipped."""
    path = CACHE / "nvidia"
    return path if (path / "cu13/lib/libcudart.so.13").is_file() else pytest.skip(f"no NVIDIA libraries: {path}")
