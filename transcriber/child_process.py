"""Child processes that end on request, and never outlive us, not even when we are killed. Linux only."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

KILL_S = 1.0
"""How long a child that was killed is waited for: a call into a driver that hangs ends when the driver lets it."""

# Runs as the child, alone and without threads, so it may do what a preexec hook may not: ask the
# kernel for a signal on the parent's death (prctl 1), look whether that has just happened, become
# the program. One process, its id and exit status unchanged. What is ignored stays so in the program.
_LAUNCHER = """\
import ctypes, os, signal, sys
if sys.argv[2] == "KILL":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP): signal.signal(number, signal.SIG_IGN)
ctypes.CDLL(None).prctl(1, getattr(signal, "SIG" + sys.argv[2]))
if os.getppid() != int(sys.argv[1]): sys.exit(1)
os.execv(sys.argv[3], sys.argv[3:])
"""


def tethered(program: str, *arguments: str, until_killed: bool = False) -> list[str]:
    """The command line that runs ``program`` (a path) and ends it when this process dies: by SIGTERM, or ``until_killed`` by SIGKILL.

    Then it ignores SIGINT, SIGTERM and SIGHUP, which a terminal or a service manager sends to all of a service: this process decides when
    it ends. The kernel watches the thread that starts the child: start it from one that lives as long as the process.
    """
    number = "KILL" if until_killed else "TERM"
    return [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), number, program, *arguments]


def stop(process: subprocess.Popen[bytes], patience_s: float) -> int:
    """SIGTERM, and the exit status; killed if that does not help in time. Harmless when it has already ended."""
    process.terminate()
    try:
        return process.wait(patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


class ChildError(Exception):
    """A child has no answer.

    Attributes:
        how: it ended, such as ``failed``, or ``ended by Aborted``.
        line: of what it wrote to stderr, the one that says most: before a signal the first one, else the last; empty if it wrote none.
        crashed: whether a signal ended it.
    """

    def __init__(self, how: str, line: str = "", *, crashed: bool = False) -> None:
        super().__init__(f"{how}: {line}" if line else how)
        self.how, self.line, self.crashed = how, line, crashed


def ask(command: list[str], patience_s: float, environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """The JSON object that ``command``, which may crash or hang, prints as the last line of its output; tethered, its path first.

    Blocks for ``patience_s`` and ``KILL_S`` at most, even if the child cannot be killed, or has left one of its own that holds its pipes.

    Raises:
        ChildError: it cannot be started, fails, does not end in time, or prints something else.
    """
    pipe = subprocess.PIPE
    try:
        child = subprocess.Popen(  # noqa: S603 - our own words
            tethered(*command), stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, env=environ
        )
    except OSError as error:
        raise ChildError(f"cannot be started: {error.strerror or error}") from error
    try:
        out, errors = child.communicate(timeout=patience_s)
    except subprocess.TimeoutExpired:
        raise ChildError(f"took longer than {patience_s:g} s") from None
    finally:
        _let_go(child)
    lines = [line for line in errors.decode(errors="replace").splitlines() if line.strip()]
    if child.returncode < 0:
        raise ChildError(f"ended by {signal.strsignal(-child.returncode)}", *lines[:1], crashed=True)
    if child.returncode:
        raise ChildError(f"failed with status {child.returncode}", *lines[-1:])
    try:
        answer = json.loads(b"".join(out.splitlines()[-1:]))
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise ChildError("gave no answer")
    return answer


def _let_go(child: subprocess.Popen[bytes]) -> None:
    """Kill it if it still runs, without waiting for its pipes."""
    if child.poll() is None:
        child.kill()
        with suppress(subprocess.TimeoutExpired):
            child.wait(KILL_S)
    for pipe in (child.stdout, child.stderr):
        if pipe:
            pipe.close()
