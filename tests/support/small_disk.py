"""A folder on a disk that is nearly full."""

import contextlib
import subprocess
from pathlib import Path

import pytest

from bench.chaos.one_broker import may_fill_a_disk


@contextlib.contextmanager
def small_disk(folder, size):
    """A folder below ``folder`` that has no more room than ``size``, such as ``1m``; tests without the right to it are skipped."""
    if not may_fill_a_disk():
        pytest.skip("only root may mount a small disk")
    disk = Path(folder) / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", disk], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
