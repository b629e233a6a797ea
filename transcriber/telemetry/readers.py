"""What the SDK collects, completed. In: the instruments. Out: histograms without a value too, which the SDK leaves out."""

import time
from dataclasses import replace
from typing import Any

from opentelemetry.metrics import Histogram
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Histogram as HistogramData,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricsData,
    PeriodicExportingMetricReader,
    ScopeMetrics,
)
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation

from transcriber.telemetry.instruments import BOUNDS_MS, INSTRUMENTS, Instrument

SCOPE = "transcriber"
"""Name of our meter, tracer and logger."""


class EmptyHistograms:
    """Adds a daemon's histograms that have no value yet, with cumulative buckets. Called from any thread.

    Prometheus takes the first value of a series as its start: a job whose value starts its series would not count.
    """

    def __init__(self, instruments: tuple[Instrument, ...]) -> None:
        self._started_ns = time.time_ns()
        # A gateway's has attributes, and an empty one would be a series that no request belongs to.
        self._completed = [i for i in instruments if i.kind == "histogram" and i in INSTRUMENTS]

    def added_to(self, metrics_data: MetricsData) -> MetricsData:
        """``metrics_data`` with all of them."""
        (resource,) = metrics_data.resource_metrics
        scopes = [self._complete(s) if s.scope.name == SCOPE else s for s in resource.scope_metrics]
        return MetricsData([replace(resource, scope_metrics=scopes)])

    def _complete(self, scope: ScopeMetrics) -> ScopeMetrics:
        present = {metric.name for metric in scope.metrics}
        missing = [i for i in self._completed if i.name not in present]
        empty = [Metric(i.name, i.description, i.unit, self._empty_histogram()) for i in missing]
        return replace(scope, metrics=[*scope.metrics, *empty])

    def _empty_histogram(self) -> HistogramData:
        point = HistogramDataPoint(
            attributes={},
            start_time_unix_nano=self._started_ns,
            time_unix_nano=time.time_ns(),
            count=0,
            sum=0.0,
            bucket_counts=[0] * (len(BOUNDS_MS) + 1),
            explicit_bounds=BOUNDS_MS,
            min=None,  # type: ignore[arg-type]  # optional on the wire, and there is none
            max=None,  # type: ignore[arg-type]
        )
        return HistogramData([point], AggregationTemporality.CUMULATIVE)


class PeriodicReader(PeriodicExportingMetricReader):
    """The SDK's reader, which exports every ``OTEL_METRIC_EXPORT_INTERVAL`` in a thread of its own, with empty histograms."""

    def __init__(self, exporter: MetricExporter, instruments: tuple[Instrument, ...]) -> None:
        self._empty = EmptyHistograms(instruments)
        super().__init__(exporter)

    def abandon(self) -> None:
        """Abort what is being sent."""
        self._exporter.shutdown()

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> None:
        if self._exports_cumulative_buckets():
            metrics_data = self._empty.added_to(metrics_data)
        super()._receive_metrics(metrics_data, timeout_millis, **kwargs)

    def _exports_cumulative_buckets(self) -> bool:
        """Whether histograms are cumulative buckets, the default: only there an empty one is needed."""
        temporality = (self._preferred_temporality or {}).get(Histogram, AggregationTemporality.CUMULATIVE)
        aggregations = self._instrument_class_aggregation.values()
        exponential = any(isinstance(a, ExponentialBucketHistogramAggregation) for a in aggregations)
        return temporality is AggregationTemporality.CUMULATIVE and not exponential
