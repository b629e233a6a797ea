"""The gateway beside an embedded broker. In: the broker's URL, settings. Out: a child process, its URL, and a key that was made for it."""

import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
from datetime import datetime
from types import TracebackType
from typing import IO, Any, Self

from transcriber.child_process import stop, tethered
from transcriber.config import Settings, settings_fields
from transcriber.errors import ConfigError, StartError
from transcriber.telemetry.environment import next_prometheus_port

log = logging.getLogger(__name__)

OF_THE_BUS = ("transcript_subject_prefix", "audio_subject", "audio_stream", "transcript_stream", "file_max_bytes")
"""Settings in which the gateway and its daemons must agree."""

STOP_TIMEOUT_S = 10.0


def page_origins(settings: Settings) -> list[str]:
    """Origins of the pages that may use what is embedded: those on this machine, at ``GATEWAY_PORT``, and ``GATEWAY_ORIGINS``."""
    port, scheme = settings.gateway_port, "https" if settings.gateway_tls_cert else "http"
    ours = [f"{scheme}://{host}:{port}" for host in ("localhost", "127.0.0.1")] if port else []
    return ours + settings.origins


class EmbeddedGateway:
    """``transcriber gateway`` that runs as long as the ``with`` block, or until ``stop``.

    It ends with the thread that started it, and logs as if it were in this process.

    Attributes:
        url: of its page, such as ``http://127.0.0.1:8000``.
        key: for all but administration, in no file; empty where ``GATEWAY_KEYS_FILE`` has others.
    """

    def __init__(self, nats_url: str, settings: Settings, least: int = logging.INFO) -> None:
        """Not yet started.

        Args:
            nats_url: of its broker.
            settings: those of the gateway count, and ``OF_THE_BUS``.
            least: level of what it logs that is logged here.
        """
        self._nats_url, self._settings, self._least = nats_url, settings, least
        self.url = self.key = self._last = ""
        self._known, self._stopping = threading.Event(), False

    def __enter__(self) -> Self:
        """Start it, and wait until it serves.

        Raises:
            ConfigError: its settings are wrong.
            StartError: its packages are missing, or it ended, as where the port is taken.
        """
        entry = ""
        if self._settings.gateway_keys_file is None:
            self.key, entry = _new_key()
        self._process = subprocess.Popen(  # noqa: S603 - our own command line
            tethered(sys.executable, "-m", "transcriber", "gateway"),
            env=self._environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self._process.stderr,), daemon=True)
        self._reader.start()
        try:
            self._wait(self._process.stdin, entry)  # type: ignore[arg-type]  # a pipe
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> int:
        """SIGTERM, and the exit status; harmless when it has already ended."""
        self._stopping = True
        status = stop(self._process, STOP_TIMEOUT_S)
        self._reader.join()
        return status

    @property
    def line(self) -> str:
        """Where the page is, and what opens it."""
        if not self.key:
            return f"page: {self.url}/  keys: {self._settings.gateway_keys_file}"
        # Behind # no server gets it; the page takes it out of the address.
        return f"page: {self.url}/#/key/{self.key}"

    def _environment(self) -> dict[str, str]:
        # No other broker, access or mode of the user's must apply; an empty value is unset.
        ours = [name for name in settings_fields() if name in OF_THE_BUS or name.startswith("gateway_")]
        values = {name: getattr(self._settings, name) for name in ours}
        return {
            **os.environ,
            **{name.upper(): "" for name in settings_fields()},
            **{name.upper(): str(value) for name, value in values.items() if value is not None},
            **({"GATEWAY_KEYS_FILE": "/dev/stdin"} if self.key else {}),
            "NATS_URL": self._nats_url,
            **next_prometheus_port(),
            "LOG_FORMAT": "json",
            "LOG_LEVEL": "DEBUG" if self._settings.log_level == "DEBUG" else "INFO",  # it says that it serves
        }

    def _wait(self, keys: IO[bytes], entry: str) -> None:
        with contextlib.suppress(BrokenPipeError), keys:  # where it has ended already it has said why
            keys.write(entry.encode())
        self._known.wait()
        if not self.url:
            status = self.stop()
            said = self._last.removeprefix("transcriber: ") or f"status {status}"
            kind = ConfigError if status == ConfigError.exit_status else StartError
            raise kind(f"the gateway did not start: {said}")

    def _read(self, log_of_it: IO[bytes]) -> None:
        """Read its log to the end, whoever shows it, or it would block. In a thread."""
        with log_of_it as lines:
            for line in lines:
                text = line.decode(errors="replace").strip()
                if record := _record(text):
                    self._take(record)
                else:
                    self._last = text
        self._known.set()  # that it has ended
        if self.url and not self._stopping:
            log.error("the gateway has ended", extra={"status": self._process.wait(), "said": self._last})

    def _take(self, record: logging.LogRecord) -> None:
        if record.msg == "gateway ready":
            self.url = vars(record)["url"]
            self._known.set()
        logger = logging.getLogger(record.name)
        record.process = self._process.pid
        if record.levelno >= self._least and logger.isEnabledFor(record.levelno):
            logger.handle(record)


def _new_key() -> tuple[str, str]:
    """A key, and its entry for the keys file.

    Raises:
        StartError: the gateway's packages are missing.
    """
    try:
        from transcriber.gateway.keys import new_key  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise StartError(f"{error.name} is missing: pip install 'nats-transcriber[gateway]'") from None
    return new_key("embedded")


def _record(line: str) -> logging.LogRecord | None:
    """A line of a log in JSON, as the record that it was; None if it is none."""
    try:
        found: dict[str, Any] = json.loads(line)
        created_s = datetime.fromisoformat(found.pop("ts")).timestamp()
        level = found.pop("level")
        number = logging.getLevelNamesMapping()[level]
        about = {"name": found.pop("logger"), "msg": found.pop("msg"), "stack_info": found.pop("exception", None)}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    times = {"created": created_s, "msecs": 1000 * created_s % 1000}
    levels = {"levelname": level, "levelno": number}
    return logging.makeLogRecord(found | about | times | levels)
