"""Child processes that end on request, and never outlive us, not even when we are killed. Linux only."""

import os
import subprocess
import sys

# Runs as the child, alone and without threads, so it may do what a preexec hook may not: ask the
# kernel for SIGTERM on the parent's death (prctl 1), look whether that has just happened, become
# the program. One process, its id and exit status unchanged.
_LAUNCHER = """\
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]): sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


def tethered(program: str, *arguments: str) -> list[str]:
    """The command line that runs ``program`` (a path) and ends it when this process dies.

    The kernel watches the thread that starts the child: start it from one that lives as long as the process.
    """
    return [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), program, *arguments]


def stop(process: subprocess.Popen[bytes], patience_s: float) -> int:
    """SIGTERM, and the exit status; killed if that does not help in time. Harmless when it has already ended."""
    process.terminate()
    try:
        return process.wait(patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
