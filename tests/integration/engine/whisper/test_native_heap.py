"""Memory of a model that is freed goes back to the system, however large those before it were."""

import ctypes
import subprocess
import sys

import pytest

glibc = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="glibc alone does this")

BLOCKS = """
import ctypes, sys
from transcriber.config import Settings
from transcriber.engine.whisper.model import load_model
from transcriber.models.catalog import DEMO_MODEL

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keep".split()]

c = ctypes.CDLL(None)
c.malloc.restype, c.malloc.argtypes, c.free.argtypes, c.mallinfo2.restype = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p], Info
if sys.argv[1] == "loaded":
    load_model(DEMO_MODEL, Settings(whisper_threads=1)).close()
c.free(c.malloc(30 << 20))
before = c.mallinfo2().hblks
c.malloc(29 << 20)
print(c.mallinfo2().hblks - before)
"""


@glibc
@pytest.mark.parametrize(("state", "apart"), [("fresh", 0), ("loaded", 1)])
def test_large_blocks_lie_apart_after_larger_ones_were_freed_once_a_model_was_loaded(state, apart):
    done = subprocess.run([sys.executable, "-c", BLOCKS, state], capture_output=True, text=True, check=True)

    assert int(done.stdout.split()[-1]) == apart
