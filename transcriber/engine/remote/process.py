"""One child process with a model: it is started, called, and dies. In: an order, calls. Out: answers, and the last words of one that died."""

import fcntl
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from multiprocessing import Pipe

from transcriber.child_process import tethered
from transcriber.engine.remote.channel import Call, Order, Ready, SharedAudio, send
from transcriber.errors import EngineError, ModelError, StartError

log = logging.getLogger(__name__)

POLL_S = 0.01
"""How often it is looked whether a call is to be aborted."""

REAPED_S = 1.0
"""Seconds in which a process whose connection is closed has an exit status."""

CLOSE_S = 5.0
"""Seconds in which a process that is asked to end does."""

LAST_WORDS = 3
"""Lines of what it wrote in a message about its end."""

MAX_WORDS = 400
"""Letters of them."""

MAX_STDERR_BYTES = 2**16
"""Of what it wrote; then the file is emptied."""


class ModelProcess:
    """A process that loads a model and answers calls. Making one raises ``OSError`` where no process can be started.

    ``wait_until_ready``, ``wait`` and ``free`` are for the thread that made it, at whose end the kernel kills the process; ``call`` is
    for the worker's; the rest for any.

    Attributes:
        lost: whether it takes no further call.
    """

    def __init__(self, audio: SharedAudio) -> None:
        self.lost = False
        self._audio = audio
        self._connection, theirs = Pipe()
        # The connection: if it were closed in a call, its descriptor could be another file's by the next read.
        self._in_use = threading.Lock()
        # A file and no pipe: writing to it never blocks, and nobody has to read while nothing is wrong.
        self._stderr = os.memfd_create("stderr")
        fcntl.fcntl(self._stderr, fcntl.F_SETFL, os.O_APPEND)  # so that it may be emptied
        self._reading = threading.Lock()
        self._read_bytes = 0
        self._words: deque[str] = deque(maxlen=LAST_WORDS)
        self._ended = threading.Event()
        self._killed_because = ""
        with theirs:
            files = theirs.fileno(), audio.file
            # -P: what lies in the folder that the daemon was started in is no module of ours.
            module = "-P", "-m", f"{__package__}.child"
            try:
                self._process = subprocess.Popen(  # noqa: S603 - our own command line
                    tethered(sys.executable, *module, *map(str, files), until_killed=True),
                    env={**os.environ, "GGML_NO_BACKTRACE": "1"},  # a debugger's, which takes seconds and says less
                    stdin=subprocess.DEVNULL,
                    stdout=self._stderr,
                    stderr=self._stderr,
                    pass_fds=files,
                )
            except BaseException:
                self.free()
                raise

    @property
    def end(self) -> str:
        """What it died of, with its last words; once it has."""
        code = self._process.returncode
        how = f"died of {_signal_name(-code)}" if code < 0 else f"ended with status {code}"
        if self._killed_because:
            how = f"was killed, as it {self._killed_because}"
        words = " | ".join(self._words)[-MAX_WORDS:]
        return f"the model's process {how}{words and ': '}{words}"

    def wait_until_ready(self, order: Order, limit_s: float | None) -> Ready:
        """The loaded model; ``limit_s`` None: however long that takes.

        Raises:
            StartError: it cannot be loaded, or not in time.
        """
        try:
            send(self._connection, order)
            answer = self._receive(
                _never if limit_s is None else _after(limit_s), 0.0, "did not load its model in time"
            )
        except (EOFError, OSError):
            self.wait()
            raise ModelError(f"{order.path}: {self.end}") from None
        if isinstance(answer, StartError):
            raise answer
        if not isinstance(answer, Ready):
            raise TypeError(f"no answer to an order: {answer!r}")
        return answer

    def call(self, call: Call, should_abort: Callable[[], bool], patience_s: float) -> object:
        """What the model returns. ``should_abort`` is asked every ``POLL_S``; ``patience_s`` later the process is killed.

        None: the process was dead already, and has not begun with it.

        Raises:
            EngineError: it failed, was aborted, or died.
        """
        with self._in_use:
            try:
                send(self._connection, call)
            except OSError:
                self.lost = True
                return None
            self._words.clear()
            try:
                answer = self._receive(should_abort, patience_s, f"did not abort a call within {patience_s:.1f} s")
            except (EOFError, OSError):
                self.lost = True  # it is dead, or will be in a moment
                self._ended.wait(REAPED_S)
                raise EngineError(self.end if self._ended.is_set() else "the model's process hung up") from None
        if isinstance(answer, EngineError):
            raise answer
        return answer

    def wait(self) -> None:
        """Blocks until it has ended."""
        self._process.wait()
        self._read_stderr(LAST_WORDS)
        self._ended.set()

    def kill(self, because: str) -> None:
        """SIGKILL; ``because`` follows "it" in what is said about it."""
        self._killed_because = because
        self._process.kill()

    def hang_up(self) -> None:
        """Ask it to end, no call being in hand; kill it if it does not."""
        with self._in_use:
            self._connection.close()
        if not self._ended.wait(CLOSE_S):
            self.kill("did not end when it was asked to")

    def free(self) -> None:
        """Close what was opened for it; it has ended, or was never started."""
        with self._in_use:
            self._connection.close()
        os.close(self._stderr)

    def _receive(self, should_abort: Callable[[], bool], patience_s: float, because: str) -> object:
        """The next answer; records of its log are logged on the way. ``because``: why it is killed.

        Raises:
            EOFError: it is dead; or it was killed, as it did not heed that it is to abort.
        """
        aborted_s: float | None = None
        while True:
            if self._connection.poll(POLL_S):
                answer = self._connection.recv()
                if isinstance(answer, logging.LogRecord):
                    self._log(answer)
                self._read_stderr()
                if not isinstance(answer, logging.LogRecord):
                    return answer
            elif self._ended.is_set() or self._process.poll() is not None:
                raise EOFError  # though something that it started may hold its end of the connection
            elif aborted_s is None:
                if should_abort():
                    self._audio.abort = True
                    aborted_s = time.monotonic()
            elif time.monotonic() - aborted_s > patience_s:
                self.kill(because)
                raise EOFError

    def _log(self, record: logging.LogRecord) -> None:
        """As if it were of this process: handlers may take its records alone."""
        record.process = os.getpid()
        if record.levelno >= logging.ERROR:
            self._words.append(record.getMessage())
        logging.getLogger(record.name).handle(record)

    def _read_stderr(self, but: int = 0) -> None:
        """Log the lines that are new, one by one; ``but`` the last ones, which are in the message about its end."""
        with self._reading:
            size_bytes = os.fstat(self._stderr).st_size
            raw = os.pread(self._stderr, size_bytes - self._read_bytes, self._read_bytes)
            self._read_bytes = size_bytes
            if size_bytes > MAX_STDERR_BYTES:
                os.ftruncate(self._stderr, 0)
                self._read_bytes = 0
        lines = [line for line in map(str.strip, raw.decode(errors="replace").splitlines()) if line]
        self._words.extend(lines)
        for line in lines[: len(lines) - but]:
            log.warning("the model's process: %s", line, extra={"child_pid": self._process.pid})


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _after(limit_s: float) -> Callable[[], bool]:
    """True once ``limit_s`` seconds have passed."""
    deadline_s = time.monotonic() + limit_s
    return lambda: time.monotonic() > deadline_s


def _never() -> bool:
    return False
