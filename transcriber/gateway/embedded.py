"""The gateway beside an embedded broker. In: the broker's URL, settings. Out: a child process, its URL, and a key that was made for it."""

import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

from transcriber.child_process import stop, tethered
from transcriber.config import Settings, settings_fields
from transcriber.errors import StartError

OF_THE_BUS = ("transcript_subject_prefix", "audio_subject", "audio_stream", "transcript_stream", "file_max_bytes")
"""Settings in which the gateway and its daemons must agree."""

STOP_TIMEOUT_S = 10.0
_POLL_S = 0.05


class EmbeddedGateway:
    """``transcriber gateway`` that runs as long as the ``with`` block. Any thread.

    Attributes:
        url: of its page, such as ``http://127.0.0.1:8000``.
        key: for all but administration, in no file.
    """

    url: str
    key: str

    def __init__(self, nats_url: str, settings: Settings) -> None:
        """Not yet started; of ``settings`` the port, the origins and ``OF_THE_BUS`` count: it is for this machine alone."""
        self._nats_url, self._settings = nats_url, settings
        self.url = f"http://127.0.0.1:{settings.gateway_port}"

    def __enter__(self) -> Self:
        """Start it, and wait until it serves.

        Raises:
            StartError: its packages are missing, or it ended, as where the port is taken.
        """
        if find_spec("starlette") is None or find_spec("itsdangerous") is None:
            raise StartError("the gateway is missing: pip install 'nats-transcriber[gateway]'")
        from transcriber.gateway.keys import new_key  # noqa: PLC0415 - an extra

        self._folder = tempfile.TemporaryDirectory(prefix="transcriber-gateway-")
        self._log = Path(self._folder.name, "log")
        keys = Path(self._folder.name, "keys.toml")
        self.key, entry = new_key("embedded")
        keys.write_text(entry)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own command line
                tethered(sys.executable, "-m", "transcriber", "gateway"),
                env=self._environment(keys),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._wait()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        stop(self._process, STOP_TIMEOUT_S)
        self._folder.cleanup()

    @property
    def line(self) -> str:
        """Where the page is, and its key."""
        return f"page at {self.url}/, key {self.key}"

    def _environment(self, keys: Path) -> dict[str, str]:
        # No other broker, access or mode of the user's must apply; an empty value is unset.
        agreed = {name: getattr(self._settings, name) for name in (*OF_THE_BUS, "gateway_port", "gateway_origins")}
        return {
            **os.environ,
            **{name.upper(): "" for name in settings_fields()},
            **{name.upper(): str(value) for name, value in agreed.items()},
            "NATS_URL": self._nats_url,
            "GATEWAY_HOST": "127.0.0.1",
            "GATEWAY_KEYS_FILE": str(keys),
            "LOG_FORMAT": "text",
        }

    def _wait(self) -> None:
        while self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/readyz", timeout=1):  # noqa: S310 - our own
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(_POLL_S)
        said = self._log.read_text(errors="replace").strip().splitlines()
        raise StartError(f"the gateway did not start: {said[-1] if said else f'status {self._process.returncode}'}")
