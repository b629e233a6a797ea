"""The exporters of a process. In: what is to be exported. Out: OTLP, or ``/metrics``, as ``OTEL_*`` says; by default nothing, and no import."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Thread
from typing import TYPE_CHECKING

from transcriber.errors import ConfigError
from transcriber.telemetry.environment import METRICS_EXPORTER, prometheus_address, read_signal
from transcriber.telemetry.instruments import Instrument, Points

if TYPE_CHECKING:
    from transcriber.telemetry.log_export import LogExport
    from transcriber.telemetry.otlp import MetricExport, TraceExport
    from transcriber.telemetry.prometheus import MetricsServer

log = logging.getLogger(__name__)


class Exports:
    """Event loop only; the exporters have threads of their own. Errors are exported from the first on, all else from ``start`` on.

    Attributes:
        traces: None until ``start``, or if none are exported.

    Raises:
        ConfigError: a variable of OpenTelemetry has a value that is not allowed.
        PortError: the port of ``/metrics`` cannot be opened.
    """

    def __init__(self, service: str, instance: str) -> None:
        """``service``: its name, if ``OTEL_SERVICE_NAME`` gives no other. ``instance``: id of this process."""
        self._service, self._instance = service, instance
        self._metrics_signal = read_signal("METRICS", default=METRICS_EXPORTER)
        self._traces_signal = read_signal("TRACES", default="none")
        self._logs_signal = read_signal("LOGS", default="none")
        self._server: MetricsServer | None = None
        self._metrics: list[MetricExport] = []
        self.traces: TraceExport | None = None
        self._logs: LogExport | None = None
        if "prometheus" in self._metrics_signal.exporters:
            address = prometheus_address()
            from transcriber.telemetry import prometheus  # noqa: PLC0415 - as in ``start``

            self._server = prometheus.MetricsServer(*address)
        if self._logs_signal.exporters:
            from transcriber.telemetry import log_export, otlp  # noqa: PLC0415 - as in ``start``

            with _refusals():
                self._logs = log_export.LogExport(self._logs_signal, otlp.make_resource(service, instance))

    def start(self, instruments: tuple[Instrument, ...], points: Callable[[], Points], audio_subject: str) -> None:
        """Start the exporters of metrics and spans.

        Args:
            instruments: to be exported.
            points: makes, for one exporter, a source of those that are no histograms.
            audio_subject: as the setting.

        Raises:
            ConfigError: OpenTelemetry refuses one of its variables.
        """
        signals = {"metrics": self._metrics_signal, "traces": self._traces_signal, "logs": self._logs_signal}
        if not any(signal.exporters for signal in signals.values()):
            return
        from transcriber.telemetry import otlp  # noqa: PLC0415 - the SDK takes time and memory: only when it is used

        resource = otlp.make_resource(self._service, self._instance)
        with _refusals():
            for exporter in self._metrics_signal.exporters:
                reader = (
                    self._server.reader(instruments)
                    if exporter == "prometheus" and self._server
                    else otlp.periodic_reader(exporter, self._metrics_signal.protocol, instruments)
                )
                self._metrics.append(otlp.MetricExport(instruments, points(), reader, resource))
            if self._traces_signal.exporters:
                self.traces = otlp.TraceExport(self._traces_signal, resource, audio_subject)
        extra = {name: ",".join(signal.exporters) or "none" for name, signal in signals.items()}
        log.info("telemetry is exported", extra=extra | ({"url": self._server.url} if self._server else {}))

    def record(
        self, values: Mapping[str, float], attributes: Mapping[str, str | int], traceparent: str | None = None
    ) -> None:
        """Record values of histograms, each in its unit, with the span that they belong to."""
        for export in self._metrics:
            export.record(values, attributes, traceparent)

    def shutdown(self, timeout_s: float) -> bool:
        """Flush the exporters. Blocks for at most about ``timeout_s`` seconds.

        An unreachable collector would delay the SDK's own shutdown by many seconds.

        Returns:
            Whether the exporters ended in time.
        """
        deadline_s = time.monotonic() + timeout_s
        exports = [*self._metrics, *(export for export in (self.traces, self._logs) if export)]
        self._metrics, self.traces, self._logs = [], None, None
        if self._server:
            self._server.close()
            self._server = None
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


@contextmanager
def _refusals() -> Iterator[None]:
    """What OpenTelemetry refuses, as our error."""
    try:
        yield
    except ValueError as error:
        raise ConfigError(f"OpenTelemetry refuses its environment (OTEL_*): {error}") from None
