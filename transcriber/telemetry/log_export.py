"""Warnings and errors to OpenTelemetry. In: records of the log. Out: the same by OTLP, with stack, resource and trace. Never text or audio.

The SDK's own handler is deprecated, and its successor sends the message of any exception: one of a library may hold what it was given.
"""

import logging
import os
import traceback
from collections.abc import Iterator
from contextlib import suppress
from threading import Thread
from typing import Any

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, ConsoleLogRecordExporter, LogRecordExporter
from opentelemetry.sdk.resources import Resource

from transcriber import __version__
from transcriber.config import mask
from transcriber.errors import TranscriberError
from transcriber.logs import extras
from transcriber.telemetry.environment import Signal
from transcriber.telemetry.otlp import otlp_exporter, span_context
from transcriber.telemetry.readers import SCOPE
from transcriber.telemetry.traceparent import current_traceparent

FLUSH_S = 0.5
"""For a collector to take what was logged last, at a crash."""

SENDERS = ("opentelemetry", "grpc", "urllib3", "requests")
"""What they log of sending would be sent, and so on without end."""

_SEVERITIES = {
    logging.WARNING: (SeverityNumber.WARN, "WARN"),
    logging.ERROR: (SeverityNumber.ERROR, "ERROR"),
    logging.CRITICAL: (SeverityNumber.FATAL, "FATAL"),
}
_MOST_CAUSES = 10


class LogExport(logging.Handler):
    """The handler, of all threads: it only queues, at most ``OTEL_BLRP_MAX_QUEUE_SIZE`` records, and the SDK's own thread sends.

    A full queue loses the oldest.
    """

    def __init__(self, signal: Signal, resource: Resource) -> None:
        super().__init__(logging.WARNING)
        self._exporters: list[LogRecordExporter] = [
            ConsoleLogRecordExporter() if exporter == "console" else otlp_exporter(signal.protocol, "Log")
            for exporter in signal.exporters
        ]
        self._provider = LoggerProvider(resource, shutdown_on_exit=False)
        for exporter in self._exporters:
            self._provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
        self._logger = self._provider.get_logger(SCOPE, __version__)
        self._abandoned = False
        logging.getLogger().addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record, unless it is of what sends, or of another process that sends its own."""
        if record.name.partition(".")[0] in SENDERS or record.process != os.getpid():
            return
        try:
            self._logger.emit(_translated(record))
        except Exception:  # noqa: BLE001 - as any handler: what is logged must not end anything
            self.handleError(record)

    def flush(self) -> None:
        """Send what is queued; waits for at most ``FLUSH_S`` seconds. While the interpreter ends it does nothing."""
        if self._abandoned:
            return
        thread = Thread(target=self._provider.force_flush, name="telemetry-flush", daemon=True)
        with suppress(RuntimeError):  # it starts no thread then, and all was sent before
            thread.start()
            thread.join(FLUSH_S)

    def shutdown(self) -> None:
        """Send what is queued; may block for as long as the collector does not answer. What crashes later is still taken."""
        self._provider.force_flush()

    def abandon(self) -> None:
        """Take no more, and abort what is being sent."""
        self._abandoned = True
        logging.getLogger().removeHandler(self)
        for exporter in self._exporters:
            exporter.shutdown()  # type: ignore[no-untyped-call]  # it has no types


def _translated(record: logging.LogRecord) -> LogRecord:
    number, name = _SEVERITIES.get(record.levelno, _SEVERITIES[logging.ERROR])
    attributes: dict[str, Any] = {
        "code.file.path": record.pathname,
        "code.function.name": record.funcName,
        "code.line.number": record.lineno,
        "logger": record.name,
    }
    for key, value in extras(record).items():
        attributes[key] = value if isinstance(value, bool | int | float) else mask(str(value))
    if error := record.exc_info and record.exc_info[1]:
        attributes["exception.type"] = _type_of(error)
        if message := _message_of(error):
            attributes["exception.message"] = message
        attributes["exception.stacktrace"] = mask("".join(_stack_of(error)))
    return LogRecord(
        timestamp=int(record.created * 1e9),
        context=span_context(attributes.pop("traceparent", None) or current_traceparent.get()),
        severity_number=number,
        severity_text=name,
        body=mask(_body_of(record)),
        attributes=attributes,
    )


def _body_of(record: logging.LogRecord) -> str:
    """The message; of a library the first line as it is written in its source, since it may fill in what it was given."""
    if record.name.partition(".")[0] == SCOPE:
        return record.getMessage()
    return str(record.msg).partition("\n")[0]


def _type_of(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _message_of(error: BaseException) -> str:
    """What it says, if it is our own or the operating system's: none of these has text or audio."""
    if isinstance(error, TranscriberError):
        return mask(str(error))
    return error.strerror or "" if isinstance(error, OSError) else ""


def _stack_of(error: BaseException) -> Iterator[str]:
    """Its frames, and those of what it was raised from, as Python prints them, but for the messages."""
    chain = [error]
    while len(chain) < _MOST_CAUSES and (cause := chain[-1].__cause__ or chain[-1].__context__):
        chain.append(cause)
    for raised in reversed(chain):
        yield "Traceback (most recent call last):\n"
        yield from traceback.format_tb(raised.__traceback__)
        message = _message_of(raised)
        yield f"{_type_of(raised)}: {message}\n" if message else f"{_type_of(raised)}\n"
