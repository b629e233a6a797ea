"""Metrics and job spans to OpenTelemetry. Its only importer; imported only when something is exported."""

import time
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any, Literal

from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Histogram, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    ConsoleMetricExporter,
    Histogram as HistogramData,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricsData,
    PeriodicExportingMetricReader,
    ScopeMetrics,
)
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from transcriber import __version__
from transcriber.engine.job import Job, Lane
from transcriber.schema.subjects import JOB_SUBJECT, REQUEST_SUBJECT
from transcriber.telemetry.environment import Signal
from transcriber.telemetry.figures import BusyFraction, Figures
from transcriber.telemetry.instruments import BOUNDS_MS, INSTRUMENTS
from transcriber.telemetry.traceparent import parse_traceparent

SCOPE = "transcriber"
"""Name of our meter and tracer."""


def make_resource(instance: str) -> Resource:
    """Service name, version and instance; ``OTEL_SERVICE_NAME`` and ``OTEL_RESOURCE_ATTRIBUTES`` win."""
    ours = {"service.name": "transcriber", "service.version": __version__, "service.instance.id": instance}
    theirs = OTELResourceDetector().detect().attributes
    return Resource.create({name: value for name, value in ours.items() if name not in theirs})


class MetricExport:
    """Every instrument, read and sent every ``OTEL_METRIC_EXPORT_INTERVAL`` by the SDK's own thread."""

    def __init__(self, figures: Figures, signal: Signal, resource: Resource) -> None:
        self._exporter: MetricExporter = (
            ConsoleMetricExporter() if signal.exporter == "console" else _otlp_exporter(signal.protocol, "Metric")
        )
        self._provider = MeterProvider([_Reader(self._exporter)], resource, shutdown_on_exit=False)
        self._figures = figures
        self._histograms: dict[str, Histogram] = {}
        meter, busy = self._provider.get_meter(SCOPE, __version__), figures.busy_fraction()
        for i in INSTRUMENTS:
            if i.kind == "histogram":
                self._histograms[i.key] = meter.create_histogram(
                    i.name, i.unit, i.description, explicit_bucket_boundaries_advisory=BOUNDS_MS
                )
            else:
                create = meter.create_observable_counter if i.kind == "counter" else meter.create_observable_gauge
                create(i.name, [partial(_observe, figures, i.key, busy)], i.unit, i.description)

    def record(self, key: str, value_ms: float, stream: str) -> None:
        self._histograms[key].record(value_ms, self._figures.attributes(stream))

    def shutdown(self) -> None:
        """Flush, then stop; may block for as long as the collector does not answer."""
        self._provider.shutdown()

    def abandon(self) -> None:
        """Abort what is being sent."""
        self._exporter.shutdown()


def _observe(figures: Figures, key: str, busy: BusyFraction, _: CallbackOptions) -> Iterable[Observation]:
    return [Observation(value, attributes) for value, attributes in figures.points(key, busy)]


class _Reader(PeriodicExportingMetricReader):
    """The SDK's reader; a histogram without a value, which the SDK leaves out, is sent as an empty one.

    Prometheus takes the first value of a series as its start: a job whose value starts its series would not count.
    """

    def __init__(self, exporter: MetricExporter) -> None:
        self._started_ns = time.time_ns()
        super().__init__(exporter)

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> None:
        (resource,) = metrics_data.resource_metrics
        if self._exports_cumulative_buckets():
            scopes = [self._complete(s) if s.scope.name == SCOPE else s for s in resource.scope_metrics]
            metrics_data = MetricsData([replace(resource, scope_metrics=scopes)])
        super()._receive_metrics(metrics_data, timeout_millis, **kwargs)

    def _complete(self, scope: ScopeMetrics) -> ScopeMetrics:
        present = {metric.name for metric in scope.metrics}
        missing = [i for i in INSTRUMENTS if i.kind == "histogram" and i.name not in present]
        empty = [Metric(i.name, i.description, i.unit, self._empty_histogram()) for i in missing]
        return replace(scope, metrics=[*scope.metrics, *empty])

    def _exports_cumulative_buckets(self) -> bool:
        """Whether histograms are cumulative buckets, the default: only there an empty one is needed."""
        temporality = (self._preferred_temporality or {}).get(Histogram, AggregationTemporality.CUMULATIVE)
        aggregations = self._instrument_class_aggregation.values()
        exponential = any(isinstance(a, ExponentialBucketHistogramAggregation) for a in aggregations)
        return temporality is AggregationTemporality.CUMULATIVE and not exponential

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


class TraceExport:
    """One span a job, with its time in the queue and in whisper as children. Never text or audio."""

    def __init__(self, signal: Signal, resource: Resource, audio_subject: str) -> None:
        self._exporter: SpanExporter = (
            ConsoleSpanExporter() if signal.exporter == "console" else _otlp_exporter(signal.protocol, "Span")
        )
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer(SCOPE, __version__)
        self._prefix = audio_subject.rpartition(".")[0]

    def job_span(self, job: Job, *, session: str, message_id: str, error: str | None, parent: str | None) -> str:
        """Record a finished job; returns the ``traceparent`` of its span."""
        template, destination = self._destination(job)
        wall_ns = time.time_ns() - time.monotonic_ns()
        span = self._tracer.start_span(
            f"process {template}",
            _context(parent),
            SpanKind.CONSUMER,
            {
                "messaging.system": "nats",
                "messaging.operation.type": "process",
                "messaging.operation.name": "process",
                "messaging.destination.name": destination,
                "messaging.destination.template": template,
                "transcriber.session": session,
                "transcriber.message_id": message_id,
                "transcriber.window.duration_s": job.duration_s,
            },
            start_time=wall_ns + _ns(job.arrived_s or job.enqueued_s),
        )
        if error:
            span.set_attribute("error.type", error)
            span.set_status(Status(StatusCode.ERROR))
        if job.started_s and span.is_recording():
            around = set_span_in_context(span)
            for name, start_s, end_s in (
                ("queue", job.enqueued_s, job.started_s),
                ("whisper", job.started_s, job.finished_s),
            ):
                child = self._tracer.start_span(name, around, start_time=wall_ns + _ns(start_s))
                child.end(wall_ns + _ns(end_s))
        span.end()
        context = span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def _destination(self, job: Job) -> tuple[str, str]:
        """Where its audio was published: the template of the subject, and the subject."""
        match job.lane:
            case Lane.REQUEST:  # the reply subject is private
                return REQUEST_SUBJECT, REQUEST_SUBJECT
            case Lane.FILE:
                return f"{JOB_SUBJECT}.{{job}}", f"{JOB_SUBJECT}.{job.stream}"
            case _:
                return f"{self._prefix}.{{stream}}", f"{self._prefix}.{job.stream}"

    def shutdown(self) -> None:
        """Flush, then stop; may block for as long as the collector does not answer."""
        self._provider.shutdown()

    def abandon(self) -> None:
        """Abort what is being sent."""
        self._exporter.shutdown()


def _context(traceparent: str | None) -> Context:
    parsed = parse_traceparent(traceparent) if traceparent else None
    if not parsed:
        return Context()
    trace_id, span_id, flags = parsed
    remote = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
    return set_span_in_context(NonRecordingSpan(remote), Context())


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)


def _otlp_exporter(protocol: str, kind: Literal["Metric", "Span"]) -> Any:
    """The SDK's exporter; it reads the endpoint and everything else from the environment.

    Imported here, and only the one that is used: gRPC alone is some 20 MB.
    """
    transport = protocol.partition("/")[0]
    module = import_module(
        f"opentelemetry.exporter.otlp.proto.{transport}.{'metric' if kind == 'Metric' else 'trace'}_exporter"
    )
    return getattr(module, f"OTLP{kind}Exporter")()
