"""All metrics and spans, and their export.

In: counts and times from the event loop. Out: OTLP metrics and traces as ``OTEL_*`` says, and the same metrics as
one message for NATS. Without an endpoint nothing is exported and OpenTelemetry is not imported.
"""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from threading import Thread
from typing import TYPE_CHECKING, Unpack

from transcriber.config import Settings
from transcriber.engine.job import Job
from transcriber.errors import ConfigError
from transcriber.schema.messages import Latency, Metrics
from transcriber.telemetry.environment import read_signal
from transcriber.telemetry.figures import Counters, Figures, Readings
from transcriber.telemetry.instruments import BOUNDS_MS, INSTRUMENTS, Instrument
from transcriber.telemetry.traceparent import session_traceparent, valid_traceparent

if TYPE_CHECKING:
    from transcriber.telemetry.otlp import MetricExport, TraceExport

__all__ = [
    "BOUNDS_MS",
    "INSTRUMENTS",
    "Counters",
    "Instrument",
    "Telemetry",
    "session_traceparent",
    "valid_traceparent",
]

log = logging.getLogger(__name__)


class Telemetry:
    """All metrics of one daemon. Event loop only; the exporters have threads of their own and only read.

    Attributes:
        instance: id of this process, in every export.

    Raises:
        ConfigError: a variable of OpenTelemetry has a value that is not allowed.
    """

    def __init__(self, settings: Settings, instance: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._metrics_signal = read_signal("METRICS", default="otlp")
        self._traces_signal = read_signal("TRACES", default="none")
        self._settings, self.instance = settings, instance
        self._figures = Figures(per_stream=settings.metrics_per_stream, clock=clock)
        self._busy = self._figures.busy_fraction()
        self._metrics: MetricExport | None = None
        self._traces: TraceExport | None = None

    def start(self) -> None:
        """Start the exporters.

        Raises:
            ConfigError: OpenTelemetry refuses one of its variables.
        """
        exporters = {"metrics": self._metrics_signal.exporter, "traces": self._traces_signal.exporter}
        if set(exporters.values()) == {"none"}:
            return
        from transcriber.telemetry import otlp  # noqa: PLC0415 - the SDK takes time and memory: only when it is used

        resource = otlp.make_resource(self.instance)
        try:
            if exporters["metrics"] != "none":
                self._metrics = otlp.MetricExport(self._figures, self._metrics_signal, resource)
            if exporters["traces"] != "none":
                self._traces = otlp.TraceExport(self._traces_signal, resource, self._settings.audio_subject)
        except ValueError as error:
            raise ConfigError(f"OpenTelemetry refuses its environment (OTEL_*): {error}") from None
        log.info("telemetry is exported", extra=exporters)

    def counters(self, stream: str | None = None) -> Counters:
        """The counters of ``stream``; without one, of what belongs to no stream.

        One shared object, unless ``METRICS_PER_STREAM`` is set: then one for each of the first 300 streams, kept for the
        life of the process; later streams share. Look them up once a session, not once a payload.
        """
        return self._figures.counters(stream)

    def observe(self, **readings: Unpack[Readings]) -> None:
        """Set the sources of the gauges; one without a source is 0."""
        self._figures.observe(**readings)

    def record_job(self, stream: str, *, queue_ms: float, processing_ms: float, end_to_end_ms: float) -> None:
        """Record the times of a finished job."""
        for key, value_ms in (
            ("queue_latency_ms", queue_ms),
            ("processing_latency_ms", processing_ms),
            ("end_to_end_latency_ms", end_to_end_ms),
        ):
            self._figures.latencies[key].record(value_ms)
            if self._metrics:
                self._metrics.record(key, value_ms, stream)

    def record_request(self, code: str, latency_ms: float) -> None:
        """Count an answered request; record its latency if it returned text."""
        self._figures.counters(None).requests[code] += 1
        if code == "200":
            self._figures.latencies["request_latency_ms"].record(latency_ms)
            if self._metrics:
                self._metrics.record("request_latency_ms", latency_ms, "")

    def job_span(
        self, job: Job, *, session: str, message_id: str, error: str | None = None, parent: str | None = None
    ) -> str:
        """Trace a finished job, just before its message is published.

        Args:
            job: with its times; ``started_s`` 0 if it never reached the worker.
            session: its session.
            message_id: ``Nats-Msg-Id`` of its message.
            error: the reason of the ``gap``, if it became one.
            parent: ``traceparent`` of the audio; None if it had none. Then a traced job starts a trace of its own:
                a session can last for weeks.

        Returns:
            The ``traceparent`` to publish; without tracing the parent's, or the session's own.
        """
        if self._traces:
            return self._traces.job_span(job, session=session, message_id=message_id, error=error, parent=parent)
        return parent or session_traceparent(job.stream, session)

    def snapshot(self) -> Metrics:
        """All metrics at this moment, for NATS; summed over streams."""
        figures: dict[str, int | float | Latency | dict[str, int]] = {}
        for i in INSTRUMENTS:
            if i.kind == "histogram":
                figures[i.name] = self._figures.latencies[i.key].summary()
            else:
                figures[i.name] = _add_up(list(self._figures.points(i.key, self._busy)))
        return Metrics(instance=self.instance, at=datetime.now(UTC), metrics=figures)

    def shutdown(self, timeout_s: float) -> bool:
        """Flush the exporters. Blocks for at most about ``timeout_s`` seconds.

        An unreachable collector would delay the SDK's own shutdown by many seconds.

        Returns:
            Whether the exporters ended in time.
        """
        deadline_s = time.monotonic() + timeout_s
        exports = [export for export in (self._metrics, self._traces) if export]
        self._metrics = self._traces = None
        threads = [Thread(target=export.shutdown, name="telemetry-shutdown", daemon=True) for export in exports]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))
        late = [export for export, thread in zip(exports, threads, strict=True) if thread.is_alive()]
        if late:
            # Threads left behind must not write to stderr while the interpreter ends.
            logging.getLogger("opentelemetry").setLevel(logging.CRITICAL + 1)
            log.warning("the collector did not take the last figures within %.1f s", timeout_s)
        for export in late:
            export.abandon()
        return not late


def _add_up(points: list[tuple[float, dict[str, str]]]) -> float | dict[str, int]:
    """The sum over streams; by reason, code or outcome, where there is one."""
    by_label: dict[str, int] = {}
    for value, attributes in points:
        for label in (label for name, label in attributes.items() if name != "stream"):
            by_label[label] = by_label.get(label, 0) + int(value)
    return by_label or sum(value for value, _ in points)
