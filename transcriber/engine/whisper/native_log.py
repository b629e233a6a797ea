"""whisper.cpp's log. In: its lines, by thread. Out: nothing on stderr, and the first error for our own messages.

But for the one that comes before ggml aborts the process, as a call of the card failed: it is logged, while that is possible.
"""

import atexit
import functools
import logging
import re
import threading
from collections import deque

from transcriber.engine.whisper.library import LogCallback, library

log = logging.getLogger(__name__)

ABORTS = re.compile(r"[A-Z]+ error: ")
"""How the line begins, with the name of the kind of card."""

LOG_ERROR = 4
"""``GGML_LOG_LEVEL_ERROR``."""


class _NativeLog(threading.local):
    """What whisper.cpp logged on this thread since the current call began, as (level, line)."""

    def __init__(self) -> None:
        self.lines: deque[tuple[int, str]] = deque(maxlen=512)

    def first_error(self) -> str | None:
        return next((text for level, text in self.lines if level == LOG_ERROR), None)


native_log = _NativeLog()


@functools.cache
def capture_native_log() -> None:
    """Redirect whisper.cpp's log from stderr to ``native_log``."""
    quick = library().quick
    quick.whisper_log_set(_KEEP, None)
    # Left set, whisper.cpp would call the function after the interpreter is gone.
    atexit.register(quick.whisper_log_set, LogCallback(), None)


def _keep(level: int, text: bytes | None, _: object) -> None:
    line = (text or b"").decode(errors="replace").strip()
    native_log.lines.append((level, line))
    if level == LOG_ERROR and ABORTS.match(line):
        log.error("whisper.cpp aborts the process: %s", line)


_KEEP = LogCallback(_keep)
