"""Daemons that can be killed, frozen and stopped, and whose clock can be set back. In: a broker's URL, settings. Out: processes, with their logs."""

import asyncio
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from transcriber.testing.daemon import DaemonProcess

STOP_S = 20.0
"""For a daemon to end after SIGTERM."""

COULD_NOT_START = 3
"""Exit status of a daemon that finds no broker, or no JetStream: its supervisor has to restart it."""

_POLL_S = 0.02


async def until(condition: Callable[[], bool], patience_s: float) -> bool:
    """Wait for ``condition()``; False if it did not come in time."""
    deadline_s = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        await asyncio.sleep(_POLL_S)
    return True


class Daemon(DaemonProcess):
    """The real daemon, with a real model.

    Attributes:
        expected_to_end: we ended it.
    """

    def __init__(self, url: str, log: Path, settings: dict[str, str]) -> None:
        super().__init__(url, "demo")
        self._environment |= settings
        self._log.close()
        self._log = log.open("w+b")  # kept to debug failures
        self.expected_to_end = False

    def signal(self, number: signal.Signals) -> None:
        if self.running:
            self.process.send_signal(number)

    def kill(self) -> None:
        self.expected_to_end = True
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Its log stays where it is."""
        self._log.close()

    async def end(self) -> str | None:
        """SIGTERM; what went wrong."""
        self.expected_to_end = True
        self.signal(signal.SIGTERM)
        if not await until(lambda: not self.running, STOP_S):
            self.kill()
            return f"a daemon did not end within {STOP_S:.0f} s of SIGTERM"
        status = self.process.wait()
        if status == -signal.SIGTERM and not self.log():
            return None  # the interpreter was not up yet, and had nothing to lose
        if status == COULD_NOT_START and '"msg": "ready"' not in self.log():
            return None  # it was still looking for JetStream, and had nothing to lose
        return f"a daemon ended with status {status} after SIGTERM" if status else None


class FakeDaemon(Daemon):
    """The real daemon, with the fake model."""

    arguments: ClassVar[tuple[str, ...]] = ("-m", "transcriber.testing.fake_daemon")


def last_words(daemon: Daemon) -> str:
    """What it died of: the end of its traceback, else its last line."""
    lines = daemon.log().partition("Exception ignored in")[0].splitlines() or [""]
    return next((line for line in reversed(lines) if re.match(r"[\w.]*(Error|Exception)\b", line)), lines[-1])


class Clock:
    """The time of day of all daemons, which libfaketime takes from a file; the monotonic clock is the machine's.

    Attributes:
        environment: of the daemons whose clock it is.
    """

    def __init__(self, file: Path) -> None:
        """A clock that is right."""
        self._file = file
        self.set_back(0.0)
        self.environment = {
            "LD_PRELOAD": faketime(),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_CACHE_DURATION": "1",  # seconds; to read it each time costs more than all else
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set_back(self, seconds: float) -> None:
        """From now on it is so many seconds behind."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"-{seconds:.0f}s\n")
        fresh.replace(self._file)


def faketime() -> str:
    """The library that sets clocks back: ``LIBFAKETIME``, or Debian's package; empty: there is none."""
    installed = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
    return os.environ.get("LIBFAKETIME") or next(map(str, installed), "")
