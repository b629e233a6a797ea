"""A terminal with a size and colours of its own, whatever the caller sits at."""

import asyncio
import contextlib
import os
import pty
import termios

LINES, COLUMNS = 40, 160


class Terminal:
    """The screen of one process.

    Attributes:
        end: file descriptor for the process; ``started`` closes it here, so that it is seen when the process closes it.
        environment: for the process.
        shown: what was read so far.
    """

    def __init__(self):
        self._ours, self.end = pty.openpty()
        termios.tcsetwinsize(self.end, (LINES, COLUMNS))
        self.environment = os.environ | {"TERM": "xterm-256color"}
        self.shown = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self._ours)

    def started(self):
        os.close(self.end)

    def type(self, keys):
        os.write(self._ours, keys)

    def modes(self):
        """How the terminal treats what is typed and shown, as ``termios`` has it."""
        return termios.tcgetattr(self._ours)

    async def rest(self):
        """Until no process has the terminal open any more."""
        with contextlib.suppress(OSError):  # EIO is the end
            while True:
                self.shown += await asyncio.to_thread(os.read, self._ours, 65_536)

    async def read(self, wanted):
        """Until ``wanted`` is shown; OSError if the process closes its end before."""
        while wanted not in self.shown:
            self.shown += await asyncio.to_thread(os.read, self._ours, 65_536)
