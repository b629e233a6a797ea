"""The daemon as a child process. In: a broker, a model, settings. Out: whether it is ready, its log, its exit status."""

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
from types import TracebackType
from typing import ClassVar, Self

from transcriber.child_process import stop, tethered
from transcriber.config import settings_fields
from transcriber.models.find import named_file

STOP_TIMEOUT_S = 30.0
_POLL_S = 0.05
_LOG_BYTES = 2**20

OF_THE_MACHINE = {
    "WHISPER_MODEL_DIR", "WHISPER_THREADS", "WHISPER_KERNELS", "WHISPER_DEVICE", "LOG_LEVEL",
}  # fmt: skip
"""Settings that apply to any daemon on this machine."""


class DaemonProcess:
    """``transcriber serve`` that runs as long as the ``with`` block, or from ``start`` to ``stop``. Event loop or any thread.

    Attributes:
        process: its log goes to a temporary file.
        arguments: of the interpreter.
    """

    arguments: ClassVar[tuple[str, ...]] = ("-m", "transcriber", "serve")
    process: subprocess.Popen[bytes]

    def __init__(self, nats_url: str, model: str = "demo", audio_subject: str = "", **settings: str) -> None:
        """A daemon that is not yet started.

        Of this process's environment only the settings ``OF_THE_MACHINE`` count: its broker, subjects and modes are not meant.

        Args:
            nats_url: of its broker, such as ``EmbeddedBroker.url``.
            model: a name that ``WHISPER_MODEL`` takes; ``demo`` is bundled, and knows the words of ``load_speech`` alone.
            audio_subject: where it takes audio; "": the default, ``audio.*``.
            settings: further ones, named as in the environment: ``BUFFER_DURATION_SECS="2"``.
        """
        self._port = _free_port()
        # The user's own broker, subjects and modes must not apply; an empty value is unset.
        not_meant = {name.upper() for name in settings_fields()} - OF_THE_MACHINE
        self._environment = {
            **os.environ,
            **dict.fromkeys(not_meant, ""),
            "NATS_URL": nats_url,
            "AUDIO_SUBJECT": audio_subject,
            "WHISPER_MODEL": model,
            "WHISPER_MODEL_PATH": str(named_file(model) or ""),
            "HEALTH_HOST": "127.0.0.1",
            "HEALTH_PORT": str(self._port),
            "METRICS_NATS_SECS": "1",
            "OTEL_EXPORTER_PROMETHEUS_PORT": "0",
            "LOG_FORMAT": "text",
            **settings,
        }
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop

    def start(self) -> None:
        """Start it, in a session of its own: Ctrl-C reaches us alone, and we stop it in order."""
        self.process = subprocess.Popen(  # noqa: S603 - our own command line
            tethered(sys.executable, *self.arguments),
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    async def ready(self) -> bool:
        """Wait until it is ready, however long its model takes to load; False if it ends instead."""
        while self.running:
            if await self._probe():
                return True
            await asyncio.sleep(_POLL_S)
        return False

    def stop(self) -> int:
        """Send SIGTERM and return the exit status; SIGKILL after a timeout."""
        return stop(self.process, STOP_TIMEOUT_S)

    def log(self) -> str:
        """What it has logged so far."""
        # Not seek and read: the file offset is shared with the process that writes it.
        return os.pread(self._log.fileno(), _LOG_BYTES, 0).decode(errors="replace")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        self._log.close()

    async def _probe(self) -> bool:
        """Whether ``/readyz`` answers 200."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            return False
        try:
            writer.write(b"GET /readyz HTTP/1.0\r\n\r\n")
            status_line = await reader.readline()
        except OSError:
            return False
        finally:
            writer.close()
        return b" 200 " in status_line


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
