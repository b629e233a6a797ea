"""whisper.cpp's log. In: its lines, by thread. Out: nothing on stderr, and the first error for our own messages."""

import atexit
import functools
import threading
from collections import deque

import _pywhispercpp as binding

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
    binding.whisper_log_set(lambda level, text: native_log.lines.append((level, text.strip())))
    # Left set, the binding would release the function after the interpreter is gone, and abort.
    atexit.register(binding.whisper_log_set, None)
