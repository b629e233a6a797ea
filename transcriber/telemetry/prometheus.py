"""``/metrics`` for Prometheus. In: what the SDK collects at each scrape. Out: it as text, or as OpenMetrics with exemplars.

Imported only when it is used. OpenTelemetry's exporter translates; the exemplars, which it leaves out, are added here.
"""

import socket
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain
from threading import Lock, Thread
from typing import Any

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics.export import Histogram, HistogramDataPoint, MetricsData
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import Exemplar, Metric

from transcriber.errors import PortError
from transcriber.telemetry.instruments import Instrument
from transcriber.telemetry.readers import EmptyHistograms


class MetricsServer:
    """Serves what its readers collect; nothing until there is one. It has threads of its own.

    Attributes:
        url: of the metrics, such as ``http://127.0.0.1:9464/metrics``.
    """

    def __init__(self, host: str, port: int) -> None:
        """Open the port; 0 is any free one.

        Raises:
            PortError: it cannot be opened.
        """
        self._collected = _Collected()
        registry = CollectorRegistry(support_collectors_without_names=True)
        registry.register(self._collected)
        try:
            self._server, self._thread = start_http_server(port, host, registry)
        except OSError as error:
            raise PortError(
                f"OTEL_EXPORTER_PROMETHEUS_PORT={port} on {host} cannot be opened: {error.strerror or error}"
            ) from None
        address, opened = self._server.server_address[:2]
        self.url = (
            f"http://[{address!s}]:{opened}/metrics" if ":" in str(address) else f"http://{address!s}:{opened}/metrics"
        )

    def reader(self, instruments: tuple[Instrument, ...]) -> PrometheusMetricReader:
        """The reader of a meter provider that is served."""
        return _Reader(instruments, self._collected)

    def close(self) -> None:
        """Close the port, without waiting for scrapes that are being answered."""
        with suppress(OSError):
            # Its thread looks only every half second whether to end, unless something happens at its socket.
            self._server.socket.shutdown(socket.SHUT_RDWR)
        Thread(target=self._end, name="metrics-end", daemon=True).start()

    def _end(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.socket.close()


class _Collected:
    """The exporter's families, one scrape after the other: it would mix up two."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.histograms: list[Histogram] = []
        self._lock = Lock()

    def collect(self) -> Iterable[Metric]:
        """What is scraped."""
        with self._lock:
            self.histograms = []
            families = list(self.registry.collect())
            # Both are in the order of the instruments.
            for family, data in zip((f for f in families if f.type == "histogram"), self.histograms, strict=True):
                _add_exemplars(family, data)
        return families


class _Reader(PrometheusMetricReader):
    def __init__(self, instruments: tuple[Instrument, ...], collected: _Collected) -> None:
        self._empty, self._collected = EmptyHistograms(instruments), collected
        # One scope: its labels would say nothing, and its version would end all series at an update.
        super().__init__(scope_info_enabled=False, registry=collected.registry)

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> None:
        metrics_data = self._empty.added_to(metrics_data)
        found = [m.data for r in metrics_data.resource_metrics for s in r.scope_metrics for m in s.metrics]
        self._collected.histograms += [data for data in found if isinstance(data, Histogram)]
        super()._receive_metrics(metrics_data, timeout_millis, **kwargs)


def _add_exemplars(family: Metric, data: Histogram) -> None:
    """To each bucket the newest one of this scrape."""
    exemplars = chain.from_iterable(_by_bucket(point) for point in data.data_points)
    family.samples = [
        sample._replace(exemplar=next(exemplars)) if sample.name.endswith("_bucket") else sample
        for sample in family.samples
    ]


def _by_bucket(point: HistogramDataPoint) -> Iterator[Exemplar | None]:
    """One for each bucket of a series; None where there is none, or it belongs to no trace."""
    lower = float("-inf")
    for upper in (*point.explicit_bounds, float("inf")):
        inside = [e for e in point.exemplars if lower < e.value <= upper and e.trace_id and e.span_id]
        newest = max(inside, key=lambda exemplar: exemplar.time_unix_nano, default=None)
        lower = upper
        yield (
            None
            if newest is None
            else Exemplar(
                {"trace_id": f"{newest.trace_id:032x}", "span_id": f"{newest.span_id:016x}"},
                newest.value,
                newest.time_unix_nano / 1e9,
            )
        )
