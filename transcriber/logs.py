"""Log formats: text for people, one JSON object a line for machines; on stderr, secrets masked."""

import json
import logging
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from transcriber.config import mask

QUIET = ("nats", "opentelemetry", "grpc", "requests", "urllib3")
"""Libraries of which only warnings are logged, whatever the level."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def configure(level: str, fmt: Literal["auto", "text", "json"]) -> None:
    """Log to stderr from now on; ``auto`` is text on a terminal, else JSON. May be called again."""
    text = fmt == "text" or (fmt == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_TextFormatter() if text else _JsonFormatter())
    handler.addFilter(_OncePerMinute())
    root = logging.getLogger()
    for old in [h for h in root.handlers if isinstance(h.formatter, _Formatter)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def extras(record: logging.LogRecord) -> dict[str, Any]:
    """What was logged beside the message, as ``extra``."""
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


class _Formatter(logging.Formatter):
    """What both formats share."""

    def trace(self, record: logging.LogRecord) -> str:
        parts = (self.formatException(record.exc_info) if record.exc_info else "", record.stack_info or "")
        return "\n".join(filter(None, parts))


class _JsonFormatter(_Formatter):
    """One object a line, in ASCII, so that no publisher's text can break the line or the stream."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "ts": at.replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "msg": record.getMessage(),
        }
        line |= {name: value for name, value in extras(record).items() if name not in line}
        if trace := self.trace(record):
            line["exception"] = trace
        return mask(json.dumps(line, default=str))


class _TextFormatter(_Formatter):
    """``12:03:04.567 INFO  service: ready streams=3``, times local."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        name = record.name.removeprefix("transcriber.")
        words = [f"{at}.{record.msecs:03.0f}", f"{record.levelname:7}", f"{name}:", record.getMessage()]
        words += [f"{key}={_word(value)}" for key, value in extras(record).items()]
        line = _CONTROL.sub(lambda control: repr(control[0])[1:-1], " ".join(words))
        return mask("\n".join(filter(None, (line, self.trace(record)))))


def _word(value: Any) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if not text or re.search(r"[\s\"=]", text) else text


class _OncePerMinute(logging.Filter):
    """Passes one line a minute of OpenTelemetry and gRPC, as a warning: a dead collector is no emergency."""

    def __init__(self) -> None:
        super().__init__()
        self._next_s = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith(("opentelemetry.", "grpc.")):
            return True
        if record.created < self._next_s:
            return False
        self._next_s = record.created + 60
        record.levelno, record.levelname, record.exc_info = logging.WARNING, "WARNING", None
        return True


@dataclass(slots=True)
class _Window:
    opened_s: float
    suppressed: int = 0


class RateLimited:
    """Warnings that may be frequent: the first of a kind at once, then one summary a period. Event loop only."""

    def __init__(
        self, logger: logging.Logger, period_s: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._logger, self._period_s, self._clock = logger, period_s, clock
        self._windows: dict[str, _Window] = {}

    def warning(self, kind: str, message: str, *args: object, **extra: object) -> None:
        """Log ``message % args``, or only count it if one of its ``kind`` was logged within the period."""
        self.flush_due()
        if window := self._windows.get(kind):
            window.suppressed += 1
            return
        self._windows[kind] = _Window(self._clock())
        self._logger.warning(message, *args, extra=extra)

    def flush_due(self) -> None:
        """Summarise the kinds whose period is over; to be called regularly, or the last summary is never logged."""
        now_s = self._clock()
        for kind, window in list(self._windows.items()):
            if now_s - window.opened_s >= self._period_s:
                self._close(kind, now_s)

    def flush(self) -> None:
        """Summarise everything pending; at the end."""
        for kind in list(self._windows):
            self._close(kind, self._clock())

    def _close(self, kind: str, now_s: float) -> None:
        """End the period of ``kind``; after a summary the next one begins, so that there is one line a period."""
        window = self._windows.pop(kind)
        if window.suppressed:
            passed_s = now_s - window.opened_s
            extra = {"kind": kind, "suppressed": window.suppressed}
            self._logger.warning("%s: and %d more in %.0f s", kind, window.suppressed, passed_s, extra=extra)
            self._windows[kind] = _Window(now_s)
