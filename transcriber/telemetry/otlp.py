"""Metrics and spans to OpenTelemetry. Imported only when something is exported."""

import time
from collections.abc import Iterable, Mapping
from functools import partial
from importlib import import_module
from typing import Any, Literal

from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Histogram, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, MetricReader
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from transcriber import __version__
from transcriber.engine.job import Job, Lane
from transcriber.schema.subjects import JOB_SUBJECT, REQUEST_SUBJECT, URGENT_JOB_SUBJECT
from transcriber.telemetry.environment import Signal
from transcriber.telemetry.instruments import BOUNDS, Instrument, Points
from transcriber.telemetry.readers import SCOPE, PeriodicReader
from transcriber.telemetry.traceparent import parse_traceparent


def make_resource(service: str, instance: str) -> Resource:
    """Service name, version and instance; ``OTEL_SERVICE_NAME`` and ``OTEL_RESOURCE_ATTRIBUTES`` win."""
    ours = {"service.name": service, "service.version": __version__, "service.instance.id": instance}
    theirs = OTELResourceDetector().detect().attributes
    return Resource.create({name: value for name, value in ours.items() if name not in theirs})


class MetricExport:
    """Every instrument, read and sent by ``reader``, on the SDK's own threads."""

    def __init__(
        self, instruments: tuple[Instrument, ...], points: Points, reader: MetricReader, resource: Resource
    ) -> None:
        self._reader = reader
        self._provider = MeterProvider([reader], resource, shutdown_on_exit=False)
        self._histograms: dict[str, Histogram] = {}
        meter = self._provider.get_meter(SCOPE, __version__)
        creators = {
            "counter": meter.create_observable_counter,
            "gauge": meter.create_observable_gauge,
            "up-down counter": meter.create_observable_up_down_counter,
        }
        for i in instruments:
            if i.kind == "histogram":
                self._histograms[i.key] = meter.create_histogram(
                    i.name, i.unit, i.description, explicit_bucket_boundaries_advisory=BOUNDS[i.unit]
                )
            else:
                creators[i.kind](i.name, [partial(_observe, points, i.key)], i.unit, i.description)

    def record(self, values: Mapping[str, float], attributes: Mapping[str, str | int], traceparent: str | None) -> None:
        """Record values of histograms, each in its unit; those of a sampled trace may become exemplars."""
        context = span_context(traceparent)
        for key, value in values.items():
            self._histograms[key].record(value, attributes, context)

    def shutdown(self) -> None:
        """Flush, then stop; may block for as long as the collector does not answer."""
        self._provider.shutdown()

    def abandon(self) -> None:
        """Abort what is being sent."""
        if isinstance(self._reader, PeriodicReader):
            self._reader.abandon()


def periodic_reader(exporter: str, protocol: str, instruments: tuple[Instrument, ...]) -> PeriodicReader:
    """Sends every ``OTEL_METRIC_EXPORT_INTERVAL``, by ``otlp`` or to ``console``."""
    sender = ConsoleMetricExporter() if exporter == "console" else otlp_exporter(protocol, "Metric")
    return PeriodicReader(sender, instruments)


def _observe(points: Points, key: str, _: CallbackOptions) -> Iterable[Observation]:
    return [Observation(value, attributes) for value, attributes in points(key)]


class TraceExport:
    """One span a job, with its time in the queue and in whisper as children; one a request of a gateway. Never text or audio."""

    def __init__(self, signal: Signal, resource: Resource, audio_subject: str) -> None:
        self._exporters: list[SpanExporter] = [
            ConsoleSpanExporter() if exporter == "console" else otlp_exporter(signal.protocol, "Span")
            for exporter in signal.exporters
        ]
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        for exporter in self._exporters:
            self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer(SCOPE, __version__)
        self._prefix = audio_subject.rpartition(".")[0]

    def job_span(self, job: Job, *, session: str, message_id: str, error: str | None, parent: str | None) -> str:
        """Record a finished job; returns the ``traceparent`` of its span."""
        template, destination = self._destination(job)
        wall_ns = time.time_ns() - time.monotonic_ns()
        span = self._tracer.start_span(
            f"process {template}",
            span_context(parent),
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
        return _traceparent(span)

    def begin_request(self, method: str, scheme: str, parent: str) -> tuple[Span, str]:
        """The span of a request that begins, and its ``traceparent``; ``parent`` is the client's, or empty."""
        attributes = {"http.request.method": method, "url.scheme": scheme}
        span = self._tracer.start_span(method, span_context(parent), SpanKind.SERVER, attributes)
        return span, _traceparent(span)

    def end_request(self, span: Span, method: str, attributes: Mapping[str, str | int]) -> None:
        """The request is over."""
        if route := attributes.get("http.route"):
            span.update_name(f"{method} {route}")
        span.set_attributes(attributes)
        if int(status := attributes["http.response.status_code"]) >= 500:  # noqa: PLR2004 - HTTP's; a 4xx is the client's
            span.set_attribute("error.type", str(status))
            span.set_status(Status(StatusCode.ERROR))
        span.end()

    def _destination(self, job: Job) -> tuple[str, str]:
        """Where its audio was published: the template of the subject, and the subject."""
        match job.lane:
            case Lane.REQUEST:  # the reply subject is private
                return REQUEST_SUBJECT, REQUEST_SUBJECT
            case Lane.URGENT_FILE:
                return f"{URGENT_JOB_SUBJECT}.{{job}}", f"{URGENT_JOB_SUBJECT}.{job.stream}"
            case Lane.FILE:
                return f"{JOB_SUBJECT}.{{job}}", f"{JOB_SUBJECT}.{job.stream}"
            case _:
                return f"{self._prefix}.{{stream}}", f"{self._prefix}.{job.stream}"

    def shutdown(self) -> None:
        """Flush, then stop; may block for as long as the collector does not answer."""
        self._provider.shutdown()

    def abandon(self) -> None:
        """Abort what is being sent."""
        for exporter in self._exporters:
            exporter.shutdown()


def _traceparent(span: Span) -> str:
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def span_context(traceparent: str | None) -> Context:
    """The context of a span that is not ours; empty without one."""
    parsed = parse_traceparent(traceparent) if traceparent else None
    if not parsed:
        return Context()
    trace_id, span_id, flags = parsed
    remote = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
    return set_span_in_context(NonRecordingSpan(remote), Context())


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)


def otlp_exporter(protocol: str, kind: Literal["Metric", "Span", "Log"]) -> Any:
    """The SDK's exporter; it reads the endpoint and everything else from the environment.

    Imported here, and only the one that is used: gRPC alone is some 20 MB.
    """
    transport = protocol.partition("/")[0]
    module = {"Metric": "metric_exporter", "Span": "trace_exporter", "Log": "_log_exporter"}[kind]
    return getattr(import_module(f"opentelemetry.exporter.otlp.proto.{transport}.{module}"), f"OTLP{kind}Exporter")()
