"""Figures and spans, as a real OTLP receiver gets them over gRPC and over HTTP."""

import json
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Empty, Queue
from threading import Event, Thread
from typing import Any

import grpc  # type: ignore[import-untyped]  # it has no types
import numpy as np
import pytest
from hypothesis import given, strategies as st
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics_pb, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_pb, trace_service_pb2_grpc
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.harness import PATIENCE_S, Daemon, level, speak, until
from transcriber import __version__, logs
from transcriber.config import load_settings
from transcriber.engine.job import Job, Lane
from transcriber.errors import ConfigError
from transcriber.schema.messages import Latency, Metrics
from transcriber.telemetry import INSTRUMENTS, Telemetry, session_traceparent, valid_traceparent

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = PARENT[:-2] + "00"

EXPECTED = {  # DESIGN 1.6
    "transcriber.queue.depth": ("gauge", "{job}"),
    "transcriber.queue.capacity": ("gauge", "{job}"),
    "transcriber.queue.resized": ("sum", "{change}"),
    "transcriber.jobs.enqueued": ("sum", "{job}"),
    "transcriber.jobs.dropped": ("sum", "{job}"),
    "transcriber.jobs.redone": ("sum", "{job}"),
    "transcriber.jobs.shortened": ("sum", "{job}"),
    "transcriber.language.changes": ("sum", "{change}"),
    "transcriber.partials": ("sum", "{message}"),
    "transcriber.text.suppressed": ("sum", "{window}"),
    "transcriber.queue.latency_ms": ("histogram", "ms"),
    "transcriber.processing.latency_ms": ("histogram", "ms"),
    "transcriber.end_to_end.latency_ms": ("histogram", "ms"),
    "transcriber.worker.busy": ("gauge", ""),
    "transcriber.chunks.received": ("sum", "{chunk}"),
    "transcriber.chunks.dropped": ("sum", "{chunk}"),
    "transcriber.chunks.filtered": ("sum", "{window}"),
    "transcriber.buffer.size": ("gauge", "{sample}"),
    "transcriber.rtf": ("gauge", ""),
    "transcriber.streams.active": ("gauge", "{stream}"),
    "transcriber.streams.stalled": ("gauge", "{stream}"),
    "transcriber.nats.reconnects": ("sum", "{reconnect}"),
    "transcriber.messages.malformed": ("sum", "{message}"),
    "transcriber.messages.unsent": ("sum", "{message}"),
    "transcriber.chunks.odd": ("sum", "{oddity}"),
    "transcriber.gaps": ("sum", "{gap}"),
    "transcriber.lag_s": ("gauge", ""),
    "transcriber.streams.fenced": ("gauge", "{stream}"),
    "transcriber.publish.retries": ("sum", "{message}"),
    "transcriber.consumer.resets": ("sum", "{reset}"),
    "transcriber.revisions": ("sum", "{message}"),
    "transcriber.revisions.left_out": ("sum", "{passage}"),
    "transcriber.requests": ("sum", "{request}"),
    "transcriber.files": ("sum", "{file}"),
    "transcriber.files.running": ("gauge", "{file}"),
    "transcriber.request.latency_ms": ("histogram", "ms"),
}
REASONS = {
    "transcriber.jobs.dropped": {"queue_full", "engine_error", "shutdown"},
    "transcriber.text.suppressed": {"no_speech", "token_cap", "log_probability", "repetition", "rate", "max_payload"},
    "transcriber.chunks.dropped": {"bad_input", "slow_consumer", "overlap", "contended", "too_many_streams"},
    "transcriber.chunks.odd": {"header", "bytes"},
    "transcriber.gaps": {"queue_full", "slow_consumer", "lost_input", "bad_input", "engine_error", "shutdown"},
    "transcriber.requests": {"200", "400", "413", "429", "500", "503", "504", "none"},
    "transcriber.files": {"done", "failed", "cancelled"},
    "transcriber.revisions.left_out": {"same", "shorter", "doubted", "busy", "suspect", "gone"},
}


class Receiver:
    """What a collector got. ``held`` keeps it from answering, ``status`` is what it answers over HTTP."""

    def __init__(self) -> None:
        self.metrics: Queue[metrics_pb.ExportMetricsServiceRequest] = Queue()
        self.traces: Queue[trace_pb.ExportTraceServiceRequest] = Queue()
        self.answers = Event()
        self.answers.set()
        self.status = 200

    def take_metrics(self, request: metrics_pb.ExportMetricsServiceRequest) -> None:
        self.metrics.put(request)
        self.answers.wait(PATIENCE_S)

    def next_metrics(self) -> dict[str, Metric]:
        request = self.metrics.get(timeout=PATIENCE_S)
        return {m.name: m for r in request.resource_metrics for s in r.scope_metrics for m in s.metrics}

    def next_spans(self) -> dict[str, Span]:
        request = self.traces.get(timeout=PATIENCE_S)
        return {span.name: span for r in request.resource_spans for s in r.scope_spans for span in s.spans}


@contextmanager
def grpc_receiver() -> Iterator[tuple[Receiver, str]]:
    receiver = Receiver()

    class MetricsService(metrics_service_pb2_grpc.MetricsServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
            receiver.take_metrics(request)
            return metrics_pb.ExportMetricsServiceResponse()

    class TraceService(trace_service_pb2_grpc.TraceServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
            receiver.traces.put(request)
            return trace_pb.ExportTraceServiceResponse()

    server = grpc.server(ThreadPoolExecutor(4))
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(MetricsService(), server)
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(TraceService(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield receiver, f"http://127.0.0.1:{port}"
    receiver.answers.set()
    server.stop(None).wait()


@contextmanager
def http_receiver() -> Iterator[tuple[Receiver, str]]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/v1/metrics":
                receiver.take_metrics(metrics_pb.ExportMetricsServiceRequest.FromString(body))
            elif self.path == "/v1/traces":
                receiver.traces.put(trace_pb.ExportTraceServiceRequest.FromString(body))
            self.send_response(receiver.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield receiver, f"http://127.0.0.1:{server.server_port}"
    receiver.answers.set()
    server.shutdown()
    thread.join()
    server.server_close()


RECEIVERS = {"grpc": grpc_receiver, "http/protobuf": http_receiver}


@pytest.fixture(autouse=True)
def _silence_is_over() -> Iterator[None]:
    yield
    logging.getLogger("opentelemetry").setLevel(logging.NOTSET)


@pytest.fixture(params=RECEIVERS)
def receiver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A collector, and an environment that names it; once over gRPC and once over HTTP."""
    with RECEIVERS[request.param]() as (receiver, url):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", request.param)
        yield receiver


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """The same over gRPC only, for what does not depend on the protocol."""
    with grpc_receiver() as (receiver, url):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        yield receiver


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def make() -> Iterator[Callable[..., Telemetry]]:
    """Makes a telemetry that is running; ends it if the test did not."""
    made = []

    def make(clock: Callable[[], float] = time.monotonic, **settings: Any) -> Telemetry:
        telemetry = Telemetry(load_settings(**settings), "one", clock)
        made.append(telemetry)
        telemetry.start()
        return telemetry

    yield make
    for telemetry in made:
        telemetry.shutdown(PATIENCE_S)


def record(telemetry: Telemetry, *, stream: str = "a") -> None:
    telemetry.record_job(stream, queue_ms=7.0, processing_ms=400.0, end_to_end_ms=70_000.0)


def make_job(*, started: bool = True) -> Job:
    """A job of 5 s of silence: arrived 3 s ago, enqueued 2.5, begun 2 and done 1 second ago."""
    now_s = time.monotonic()
    job = Job("radio-7", np.zeros(80_000, np.float32), None, lambda *_: None, arrived_s=now_s - 3)
    job.enqueued_s = now_s - 2.5
    if started:
        job.started_s, job.finished_s = now_s - 2, now_s - 1
    return job


def points(metric: Metric) -> Any:
    return getattr(metric, str(metric.WhichOneof("data"))).data_points


def attributes(owner: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, str(a.value.WhichOneof("value"))) for a in owner.attributes}


def reason(point: Any) -> str:
    """The attributes of a counter's points."""
    labels = attributes(point)
    return str(labels.get("code") or labels.get("outcome") or labels["reason"])


def number(point: Any) -> float:
    return float(getattr(point, point.WhichOneof("value")))


# The instruments.


def test_every_instrument_arrives_at_once_with_its_unit_and_kind(
    receiver: Receiver, make: Callable[..., Telemetry]
) -> None:
    assert make().shutdown(PATIENCE_S)

    metrics = receiver.next_metrics()
    assert {name: (m.WhichOneof("data"), m.unit) for name, m in metrics.items()} == EXPECTED
    assert all(metric.description for metric in metrics.values())
    assert all(len(points(metric)) >= 1 for metric in metrics.values())


def test_counters_are_cumulative_and_only_grow(receiver: Receiver, make: Callable[..., Telemetry]) -> None:
    make().shutdown(PATIENCE_S)

    sums = [metric.sum for metric in receiver.next_metrics().values() if metric.HasField("sum")]
    assert all(data.is_monotonic for data in sums)
    assert {data.aggregation_temporality for data in sums} == {
        AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    }


def test_loss_is_zero_from_the_start_for_every_reason(receiver: Receiver, make: Callable[..., Telemetry]) -> None:
    make().shutdown(PATIENCE_S)

    metrics = receiver.next_metrics()
    for name, reasons in REASONS.items():
        values = {reason(p): number(p) for p in points(metrics[name])}
        assert values == dict.fromkeys(reasons, 0)


def test_latency_buckets_reach_60_s_and_are_there_before_the_first_job(
    receiver: Receiver, make: Callable[..., Telemetry]
) -> None:
    telemetry = make()

    telemetry.shutdown(PATIENCE_S)

    for name, metric in receiver.next_metrics().items():
        if EXPECTED[name][0] == "histogram":
            (point,) = metric.histogram.data_points
            assert point.explicit_bounds[-1] == 60_000
            assert len(point.bucket_counts) == len(point.explicit_bounds) + 1
            assert (point.count, point.sum, sum(point.bucket_counts)) == (0, 0, 0)
            assert not point.HasField("min")
            assert point.start_time_unix_nano <= point.time_unix_nano


def test_jobs_fall_into_the_buckets_of_their_latencies(receiver: Receiver, make: Callable[..., Telemetry]) -> None:
    telemetry = make()
    record(telemetry)
    record(telemetry)

    telemetry.shutdown(PATIENCE_S)

    metrics = receiver.next_metrics()
    for name, value_ms in (("queue", 7.0), ("processing", 400.0), ("end_to_end", 70_000.0)):
        (point,) = metrics[f"transcriber.{name}.latency_ms"].histogram.data_points
        bucket = sum(bound < value_ms for bound in point.explicit_bounds)
        assert point.bucket_counts[bucket] == point.count == 2
        assert point.sum == 2 * value_ms
        assert not attributes(point)


def test_what_is_observed_and_counted_is_exported(collector: Receiver, make: Callable[..., Telemetry]) -> None:
    telemetry = make()
    telemetry.observe(queue_depth=lambda: 3, queue_capacity=lambda: 5, buffer_size=lambda: 80_000)
    telemetry.observe(streams_active=lambda: 4, streams_stalled=lambda: 1)
    telemetry.observe(nats_reconnects=lambda: 2, messages_malformed=lambda: 6, messages_unsent=lambda: 7)
    telemetry.observe(lag_s=lambda: 1.5, streams_fenced=lambda: 1, consumer_resets=lambda: 10)
    counters = telemetry.counters("a")
    counters.publish_retries += 8
    counters.revisions += 11
    counters.revisions_left_out["busy"] += 12
    counters.chunks_received += 50
    counters.chunks_dropped["overlap"] += 2
    counters.chunks_filtered += 1
    counters.jobs_enqueued += 9
    counters.jobs_dropped["queue_full"] += 4
    counters.gaps["queue_full"] += 4

    telemetry.shutdown(PATIENCE_S)

    values = {
        (name, attributes(p).get("reason")): number(p)
        for name, metric in collector.next_metrics().items()
        if not metric.HasField("histogram")
        for p in points(metric)
    }
    assert {key: value for key, value in values.items() if value} == {
        ("transcriber.queue.depth", None): 3,
        ("transcriber.queue.capacity", None): 5,
        ("transcriber.buffer.size", None): 80_000,
        ("transcriber.streams.active", None): 4,
        ("transcriber.streams.stalled", None): 1,
        ("transcriber.nats.reconnects", None): 2,
        ("transcriber.messages.malformed", None): 6,
        ("transcriber.messages.unsent", None): 7,
        ("transcriber.lag_s", None): 1.5,
        ("transcriber.streams.fenced", None): 1,
        ("transcriber.publish.retries", None): 8,
        ("transcriber.consumer.resets", None): 10,
        ("transcriber.revisions", None): 11,
        ("transcriber.revisions.left_out", "busy"): 12,
        ("transcriber.gaps", "queue_full"): 4,
        ("transcriber.chunks.received", None): 50,
        ("transcriber.chunks.dropped", "overlap"): 2,
        ("transcriber.chunks.filtered", None): 1,
        ("transcriber.jobs.enqueued", None): 9,
        ("transcriber.jobs.dropped", "queue_full"): 4,
    }


def test_a_reason_nobody_knows_is_an_error(make: Callable[..., Telemetry]) -> None:
    counters = make().counters("a")

    with pytest.raises(KeyError):
        counters.jobs_dropped["bad_luck"] += 1


def test_figures_go_out_every_interval(
    collector: Receiver, make: Callable[..., Telemetry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "20")

    make()

    assert collector.next_metrics().keys() == collector.next_metrics().keys() == EXPECTED.keys()


def test_the_resource_says_who_we_are(receiver: Receiver, make: Callable[..., Telemetry]) -> None:
    make().shutdown(PATIENCE_S)

    request = receiver.metrics.get(timeout=PATIENCE_S)
    resource = attributes(request.resource_metrics[0].resource)
    assert resource["service.name"] == "transcriber"
    assert resource["service.version"] == __version__
    assert resource["service.instance.id"] == "one"


def test_the_environment_may_name_us_otherwise(
    collector: Receiver, make: Callable[..., Telemetry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "captions")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=pod-3,k8s.namespace.name=media")

    make().shutdown(PATIENCE_S)

    resource = attributes(collector.metrics.get(timeout=PATIENCE_S).resource_metrics[0].resource)
    assert resource["service.name"] == "captions"
    assert resource["service.instance.id"] == "pod-3"
    assert resource["k8s.namespace.name"] == "media"


@pytest.mark.parametrize(
    ("variable", "value", "data", "temporality"),
    [
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta", "histogram", "DELTA"),
        (
            "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
            "base2_exponential_bucket_histogram",
            "exponential_histogram",
            "CUMULATIVE",
        ),
    ],
)
def test_the_sdks_preferences_are_kept(
    collector: Receiver,
    make: Callable[..., Telemetry],
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    data: str,
    temporality: str,
) -> None:
    monkeypatch.setenv(variable, value)
    telemetry = make()
    record(telemetry)

    telemetry.shutdown(PATIENCE_S)

    metric = collector.next_metrics()["transcriber.queue.latency_ms"]
    assert metric.WhichOneof("data") == data
    assert AggregationTemporality.Name(getattr(metric, data).aggregation_temporality).endswith(temporality)


def prometheus_name(name: str, kind: str, unit: str) -> str:
    """The name in Prometheus, by the rules of its OTLP translator with suffixes on."""
    words = [word for word in name.replace(".", "_").split("_") if word]
    suffix = {"ms": "milliseconds", "s": "seconds", "By": "bytes", "1": "ratio" if kind == "gauge" else ""}.get(
        unit, ""
    )
    if suffix and suffix not in words:
        words.append(suffix)
    if kind == "sum":
        words = [*(word for word in words if word != "total"), "total"]
    return "_".join(words)


def test_names_in_prometheus_are_those_of_the_alert_rules() -> None:
    kinds = {"counter": "sum"}
    names = {prometheus_name(i.name, kinds.get(i.kind, i.kind), i.unit) for i in INSTRUMENTS}

    assert names == {
        "transcriber_queue_depth",
        "transcriber_queue_capacity",
        "transcriber_queue_resized_total",
        "transcriber_jobs_enqueued_total",
        "transcriber_jobs_dropped_total",
        "transcriber_jobs_redone_total",
        "transcriber_jobs_shortened_total",
        "transcriber_language_changes_total",
        "transcriber_partials_total",
        "transcriber_text_suppressed_total",
        "transcriber_queue_latency_ms_milliseconds",
        "transcriber_processing_latency_ms_milliseconds",
        "transcriber_end_to_end_latency_ms_milliseconds",
        "transcriber_worker_busy",
        "transcriber_chunks_received_total",
        "transcriber_chunks_dropped_total",
        "transcriber_chunks_odd_total",
        "transcriber_chunks_filtered_total",
        "transcriber_buffer_size",
        "transcriber_rtf",
        "transcriber_streams_active",
        "transcriber_streams_stalled",
        "transcriber_nats_reconnects_total",
        "transcriber_messages_malformed_total",
        "transcriber_messages_unsent_total",
        "transcriber_gaps_total",
        "transcriber_lag_s",
        "transcriber_streams_fenced",
        "transcriber_publish_retries_total",
        "transcriber_consumer_resets_total",
        "transcriber_revisions_total",
        "transcriber_revisions_left_out_total",
        "transcriber_requests_total",
        "transcriber_files_total",
        "transcriber_files_running",
        "transcriber_request_latency_ms_milliseconds",
    }


# Streams.


def test_streams_share_one_object_and_no_attribute_by_default(
    collector: Receiver, make: Callable[..., Telemetry]
) -> None:
    telemetry = make()

    assert telemetry.counters("a") is telemetry.counters("b") is telemetry.counters()
    telemetry.shutdown(PATIENCE_S)
    assert all("stream" not in attributes(p) for metric in collector.next_metrics().values() for p in points(metric))


def test_each_stream_has_its_own_series_when_asked(collector: Receiver, make: Callable[..., Telemetry]) -> None:
    telemetry = make(metrics_per_stream=True)
    telemetry.counters("a").jobs_dropped["shutdown"] += 1
    telemetry.counters("b").chunks_received += 5
    telemetry.counters().chunks_dropped["too_many_streams"] += 1
    record(telemetry, stream="b")

    telemetry.shutdown(PATIENCE_S)

    metrics = collector.next_metrics()
    dropped = {
        (attributes(p).get("stream"), attributes(p)["reason"]): number(p)
        for p in points(metrics["transcriber.jobs.dropped"])
    }
    assert dropped == {
        (s, r): float((s, r) == ("a", "shutdown"))
        for s in (None, "a", "b")
        for r in REASONS["transcriber.jobs.dropped"]
    }
    received = {attributes(p).get("stream"): number(p) for p in points(metrics["transcriber.chunks.received"])}
    assert received == {None: 0, "a": 0, "b": 5}
    assert [attributes(p) for p in points(metrics["transcriber.queue.latency_ms"])] == [{"stream": "b"}]


def test_a_stream_that_comes_back_goes_on_counting(make: Callable[..., Telemetry]) -> None:
    telemetry = make(metrics_per_stream=True)
    telemetry.counters("a").chunks_received += 5

    telemetry.counters("a").chunks_received += 1

    assert telemetry.counters("a").chunks_received == 6


def test_ever_new_streams_end_up_in_the_shared_series_and_nothing_is_lost(
    collector: Receiver, make: Callable[..., Telemetry]
) -> None:
    telemetry = make(metrics_per_stream=True)
    for i in range(500):
        telemetry.counters(f"s{i}").chunks_dropped["overlap"] += 1
        record(telemetry, stream=f"s{i}")

    telemetry.shutdown(PATIENCE_S)

    metrics = collector.next_metrics()
    overlaps = {
        attributes(p).get("stream"): number(p)
        for p in points(metrics["transcriber.chunks.dropped"])
        if attributes(p).get("reason") == "overlap"
    }
    assert len(overlaps) == 301
    assert overlaps[None] == 200
    assert sum(overlaps.values()) == 500
    assert sum(p.count for p in points(metrics["transcriber.queue.latency_ms"])) == 500
    assert telemetry.snapshot().metrics["transcriber.chunks.dropped"] == {
        "bad_input": 0,
        "slow_consumer": 0,
        "overlap": 500,
        "contended": 0,
        "too_many_streams": 0,
    }


# The message for NATS.


def test_the_snapshot_has_the_figures_that_are_exported(collector: Receiver, make: Callable[..., Telemetry]) -> None:
    clock = Clock()
    telemetry = make(clock)
    telemetry.observe(queue_depth=lambda: 3, rtf=lambda: 0.5, busy_s=lambda: 2.5, nats_reconnects=lambda: 2)
    telemetry.counters("a").jobs_dropped["queue_full"] += 4
    for _ in range(3):
        record(telemetry)
    clock.now_s = 10.0

    snapshot = telemetry.snapshot().metrics
    telemetry.shutdown(PATIENCE_S)

    exported: dict[str, Any] = {}
    for name, metric in collector.next_metrics().items():
        if metric.HasField("histogram"):
            (point,) = metric.histogram.data_points
            exported[name] = (point.count, point.sum)
        elif name in REASONS:
            exported[name] = {reason(p): number(p) for p in points(metric)}
        else:
            (exported[name],) = map(number, points(metric))
    assert exported == {n: (v.count, v.sum_ms) if isinstance(v, Latency) else v for n, v in snapshot.items()}
    assert exported["transcriber.worker.busy"] == 0.25
    assert exported["transcriber.rtf"] == 0.5


def test_the_snapshot_is_complete_from_the_start_and_survives_json(make: Callable[..., Telemetry]) -> None:
    snapshot = make().snapshot()

    assert snapshot.metrics.keys() == EXPECTED.keys()
    assert Metrics.model_validate_json(snapshot.model_dump_json(by_alias=True)) == snapshot
    assert json.loads(snapshot.model_dump_json())["metrics"]["transcriber.jobs.enqueued"] == 0


@given(values_ms=st.lists(st.floats(0, 200_000), min_size=1))
def test_quantiles_are_the_upper_bounds_of_their_buckets(values_ms: list[float]) -> None:
    telemetry = Telemetry(load_settings(), "one")
    for value_ms in values_ms:
        telemetry.record_job("a", queue_ms=value_ms, processing_ms=0, end_to_end_ms=0)

    latency = telemetry.snapshot().metrics["transcriber.queue.latency_ms"]

    assert isinstance(latency, Latency)
    assert latency.p50_ms is not None
    assert latency.p95_ms is not None
    assert sum(value_ms <= latency.p50_ms for value_ms in values_ms) >= len(values_ms) / 2
    assert sum(value_ms <= latency.p95_ms for value_ms in values_ms) >= len(values_ms) * 0.95
    assert latency.p95_ms <= max(60_000, *values_ms, 0)


def test_without_a_job_there_is_no_quantile(make: Callable[..., Telemetry]) -> None:
    latency = make().snapshot().metrics["transcriber.queue.latency_ms"]

    assert latency == Latency(count=0, sum_ms=0, p50_ms=None, p95_ms=None)


def test_busy_is_the_fraction_since_the_readers_own_last_look(
    collector: Receiver, make: Callable[..., Telemetry]
) -> None:
    clock, busy_s = Clock(), 0.0
    telemetry = make(clock)
    telemetry.observe(busy_s=lambda: busy_s)

    seen = []
    for clock.now_s, busy_s in ((10.0, 5.0), (20.0, 5.0), (30.0, 14.0), (30.0, 14.0), (31.0, 99.0)):  # noqa: B007
        seen.append(telemetry.snapshot().metrics["transcriber.worker.busy"])
    clock.now_s, busy_s = 40.0, 10.0
    telemetry.shutdown(PATIENCE_S)

    assert seen == [0.5, 0.0, 0.9, 0.9, 1.0]
    (point,) = points(collector.next_metrics()["transcriber.worker.busy"])
    assert number(point) == 0.25


def test_two_workers_are_fully_busy_only_together(make: Callable[..., Telemetry]) -> None:
    clock = Clock()
    telemetry = make(clock)
    telemetry.observe(busy_s=lambda: 10.0, workers=lambda: 2)

    clock.now_s = 10.0

    assert telemetry.snapshot().metrics["transcriber.worker.busy"] == 0.5


# Which exporter.


def test_without_an_endpoint_nothing_is_exported_and_nothing_imported() -> None:
    program = """
import sys
from transcriber.config import load_settings
from transcriber.telemetry import Telemetry
telemetry = Telemetry(load_settings(), "one")
telemetry.start()
telemetry.record_job("a", queue_ms=1, processing_ms=1, end_to_end_ms=1)
telemetry.snapshot()
assert telemetry.shutdown(0)
print([name for name in sys.modules if name.split(".")[0] in {"opentelemetry", "grpc", "requests"}])
"""

    result = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)

    assert result.stdout == "[]\n"


@pytest.mark.parametrize(
    "environment",
    [{"OTEL_METRICS_EXPORTER": "none"}, {"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "otlp"}],
)
def test_nothing_is_sent_when_told_so(
    collector: Receiver,
    make: Callable[..., Telemetry],
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    telemetry = make()
    telemetry.counters("a").chunks_received += 1
    record(telemetry)

    traceparent = telemetry.job_span(make_job(), session="s", message_id="m", parent=PARENT)

    assert telemetry.shutdown(PATIENCE_S)
    assert traceparent == PARENT
    assert telemetry.snapshot().metrics["transcriber.chunks.received"] == 1
    for queue in (collector.metrics, collector.traces):
        with pytest.raises(Empty):
            queue.get_nowait()


def test_an_endpoint_of_one_signal_is_for_that_signal(
    make: Callable[..., Telemetry], monkeypatch: pytest.MonkeyPatch
) -> None:
    with grpc_receiver() as (receiver, url):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", url)
        monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
        telemetry = make()
        telemetry.job_span(make_job(), session="s", message_id="m")

        telemetry.shutdown(PATIENCE_S)

        assert receiver.next_spans()
        assert receiver.metrics.empty()


def test_a_protocol_of_one_signal_wins(make: Callable[..., Telemetry], monkeypatch: pytest.MonkeyPatch) -> None:
    with http_receiver() as (receiver, url):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/protobuf")

        make().shutdown(PATIENCE_S)

        assert receiver.next_metrics().keys() == EXPECTED.keys()


def test_console_prints_figures_and_spans() -> None:
    program = """
import numpy as np
from transcriber.config import load_settings
from transcriber.engine.job import Job
from transcriber.telemetry import Telemetry
telemetry = Telemetry(load_settings(), "one")
telemetry.start()
job = Job("a", np.zeros(80_000, np.float32), None, lambda *_: None)
telemetry.job_span(job, session="s", message_id="m")
assert telemetry.shutdown(30)
"""
    environment = {**os.environ, "OTEL_METRICS_EXPORTER": "console", "OTEL_TRACES_EXPORTER": "console"}

    result = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, env=environment
    )

    assert "transcriber.queue.depth" in result.stdout
    assert "process audio.{stream}" in result.stdout


ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://user:hunter2@127.0.0.1:4317"}


@pytest.mark.parametrize(
    ("environment", "line"),
    [
        (
            {"OTEL_METRICS_EXPORTER": "prometheus"},
            "OTEL_METRICS_EXPORTER='prometheus': must be otlp or console or none",
        ),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER='zipkin': must be otlp or console or none"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "tcp"}, "OTEL_EXPORTER_OTLP_PROTOCOL='tcp': must be grpc or http/protobuf"),
        (
            {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "udp"},
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL='udp': must be grpc or http/protobuf",
        ),
        (
            ENDPOINT | {"OTEL_METRIC_EXPORT_INTERVAL": "0"},
            "OTEL_METRIC_EXPORT_INTERVAL='0': must be a number above 0",
        ),
        (
            ENDPOINT | {"OTEL_EXPORTER_OTLP_METRICS_TIMEOUT": "soon"},
            "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT='soon': must be a number above 0",
        ),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_COMPRESSION": "zip"}, "OTEL_EXPORTER_OTLP_COMPRESSION='zip': must be gzip"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "tcp://user:hunter2@x:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
            "OTEL_EXPORTER_OTLP_ENDPOINT='tcp://***@x:1': must start with http:// or https://",
        ),
    ],
)
def test_a_wrong_value_is_one_line(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], line: str) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(ConfigError) as raised:
        Telemetry(load_settings(), "one")

    assert str(raised.value) == line
    assert raised.value.exit_status == 2


def test_what_the_sdk_refuses_is_a_configuration_error_too(
    collector: Receiver, make: Callable[..., Telemetry], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert collector.answers.is_set()
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "1")

    with pytest.raises(ConfigError, match="OTEL_"):
        make()


# Collectors that are dead.


@contextmanager
def black_hole() -> Iterator[str]:
    """Takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def nobody() -> Iterator[str]:
    """A port that refuses: bound, so that no other process gets it, and not listening."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{unused.getsockname()[1]}"


@pytest.mark.parametrize("protocol", RECEIVERS)
@pytest.mark.parametrize("collector_is", [black_hole, nobody])
def test_a_dead_collector_does_not_hold_the_process(collector_is: Callable[[], Any], protocol: str) -> None:
    program = """
import sys
import numpy as np
from transcriber import logs
from transcriber.config import load_settings
from transcriber.engine.job import Job
from transcriber.telemetry import Telemetry
logs.configure("INFO", "text")
telemetry = Telemetry(load_settings(), "one")
telemetry.start()
for _ in range(1000):
    telemetry.record_job("a", queue_ms=1, processing_ms=1, end_to_end_ms=1)
    job = Job("a", np.zeros(80_000, np.float32), None, lambda *_: None)
    telemetry.job_span(job, session="s", message_id="m")
print(telemetry.shutdown(0.3))
"""
    with collector_is() as url:
        environment = {
            **os.environ,
            "OTEL_EXPORTER_OTLP_ENDPOINT": url,
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_METRIC_EXPORT_INTERVAL": "10",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "3600",
        }

        # The exporter's timeout is an hour: waiting for it would never return.
        result = subprocess.run(
            [sys.executable, "-c", program],
            check=True,
            capture_output=True,
            text=True,
            env=environment,
            timeout=PATIENCE_S,
        )

    assert result.stdout == "False\n"
    *theirs, last = result.stderr.splitlines()[1:]
    assert last.endswith("the collector did not take the last figures within 0.3 s")
    assert len(theirs) <= 1


def test_work_goes_on_while_the_collector_does_not_answer(
    receiver: Receiver, make: Callable[..., Telemetry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "20")
    receiver.answers.clear()
    telemetry = make()
    receiver.next_metrics()

    for _ in range(1000):
        telemetry.counters("a").chunks_received += 1
        record(telemetry)
    snapshot = telemetry.snapshot()
    in_time = telemetry.shutdown(0.1)

    assert snapshot.metrics["transcriber.chunks.received"] == 1000
    assert not in_time


def test_figures_of_a_dead_time_are_in_the_next_export(
    collector: Receiver, make: Callable[..., Telemetry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "20")
    collector.answers.clear()
    telemetry = make()
    collector.next_metrics()
    telemetry.counters("a").jobs_enqueued += 7

    collector.answers.set()

    (point,) = points(collector.next_metrics()["transcriber.jobs.enqueued"])
    assert number(point) == 7


def test_a_collector_that_refuses_the_data_costs_one_line_a_minute(
    make: Callable[..., Telemetry], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "20")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    with http_receiver() as (receiver, url):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        receiver.status = 400
        logs.configure("INFO", "json")
        telemetry = make()

        for _ in range(5):
            receiver.next_metrics()
        telemetry.shutdown(PATIENCE_S)
    root.handlers[:] = handlers
    root.setLevel(level)

    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    (theirs,) = [line for line in lines if line["logger"].startswith("opentelemetry")]
    assert theirs["level"] == "WARNING"
    assert "400" in theirs["msg"]


def test_ending_twice_is_no_harm(receiver: Receiver, make: Callable[..., Telemetry]) -> None:
    telemetry = make()

    assert telemetry.shutdown(PATIENCE_S)
    assert telemetry.shutdown(PATIENCE_S)
    record(telemetry)

    assert receiver.metrics.qsize() == 1


# Traces.


@pytest.fixture
def tracing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")


@pytest.mark.usefixtures("tracing")
def test_a_job_is_a_span_below_its_parent_with_its_wait_and_its_work(
    receiver: Receiver, make: Callable[..., Telemetry]
) -> None:
    telemetry, job = make(audio_subject="audio.radio-7"), make_job()

    traceparent = telemetry.job_span(job, session="monday", message_id="id-1", parent=PARENT)
    telemetry.shutdown(PATIENCE_S)

    spans = receiver.next_spans()
    assert spans.keys() == {"process audio.{stream}", "queue", "whisper"}
    span = spans["process audio.{stream}"]
    assert span.kind == Span.SPAN_KIND_CONSUMER
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == tuple(PARENT.split("-")[1:3])
    assert traceparent.split("-")[1:3] == [span.trace_id.hex(), span.span_id.hex()]
    assert valid_traceparent(traceparent)
    assert int(traceparent[-2:], 16) & 1
    assert all(spans[name].parent_span_id == span.span_id for name in ("queue", "whisper"))
    assert attributes(span) == {
        "messaging.system": "nats",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": "audio.radio-7",
        "messaging.destination.template": "audio.{stream}",
        "transcriber.session": "monday",
        "transcriber.message_id": "id-1",
        "transcriber.window.duration_s": 5.0,
    }
    assert span.status.code == Status.STATUS_CODE_UNSET


@pytest.mark.usefixtures("tracing")
def test_the_span_of_a_request_names_its_subject_and_not_who_asked(
    collector: Receiver, make: Callable[..., Telemetry]
) -> None:
    telemetry, job = make(), make_job()
    job.lane, job.stream = Lane.REQUEST, "_INBOX.somebody"

    telemetry.job_span(job, session="monday", message_id="id-1", parent=PARENT)
    telemetry.shutdown(PATIENCE_S)

    span = collector.next_spans()["process transcriber.transcribe"]
    assert attributes(span)["messaging.destination.name"] == "transcriber.transcribe"
    assert span.trace_id.hex() == PARENT.split("-")[1]
    assert "somebody" not in str(span)


@pytest.mark.usefixtures("tracing")
def test_the_span_of_a_file_names_the_subject_under_which_its_job_was_queued(
    collector: Receiver, make: Callable[..., Telemetry]
) -> None:
    telemetry, job = make(), make_job()
    job.lane, job.stream = Lane.FILE, "job=01"

    telemetry.job_span(job, session="monday", message_id="id-1", parent=PARENT)
    telemetry.shutdown(PATIENCE_S)

    span = attributes(collector.next_spans()["process transcriber.jobs.{job}"])
    assert span["messaging.destination.name"] == "transcriber.jobs.job=01"
    assert span["messaging.destination.template"] == "transcriber.jobs.{job}"


@pytest.mark.usefixtures("tracing")
def test_spans_have_the_times_of_their_job_on_the_wall_clock(
    collector: Receiver, make: Callable[..., Telemetry]
) -> None:
    telemetry = make()
    before_ns = time.time_ns()
    job = make_job()

    telemetry.job_span(job, session="s", message_id="m")
    after_ns = time.time_ns()
    telemetry.shutdown(PATIENCE_S)

    spans = collector.next_spans()
    span, queue, whisper = spans["process audio.{stream}"], spans["queue"], spans["whisper"]
    assert before_ns - 1e6 <= span.start_time_unix_nano + 3e9 <= after_ns + 1e6
    assert span.end_time_unix_nano <= after_ns + 1e6
    assert queue.start_time_unix_nano - span.start_time_unix_nano == pytest.approx(0.5e9, abs=1e3)
    assert queue.end_time_unix_nano - queue.start_time_unix_nano == pytest.approx(0.5e9, abs=1e3)
    assert whisper.start_time_unix_nano == queue.end_time_unix_nano
    assert whisper.end_time_unix_nano - whisper.start_time_unix_nano == pytest.approx(1e9, abs=1e3)
    assert span.end_time_unix_nano > whisper.end_time_unix_nano


@pytest.mark.usefixtures("tracing")
def test_a_job_that_never_began_is_an_error_without_children(
    collector: Receiver, make: Callable[..., Telemetry]
) -> None:
    telemetry = make()

    telemetry.job_span(make_job(started=False), session="s", message_id="m", error="queue_full")
    telemetry.shutdown(PATIENCE_S)

    (span,) = collector.next_spans().values()
    assert span.status.code == Status.STATUS_CODE_ERROR
    assert attributes(span)["error.type"] == "queue_full"


@pytest.mark.usefixtures("tracing")
@pytest.mark.parametrize("parent", [None, "nonsense"])
def test_without_a_parent_a_job_begins_a_trace(
    collector: Receiver, make: Callable[..., Telemetry], parent: str | None
) -> None:
    telemetry = make()

    first, second = (telemetry.job_span(make_job(), session="s", message_id="m", parent=parent) for _ in range(2))
    telemetry.shutdown(PATIENCE_S)

    assert first.split("-")[1] != second.split("-")[1]
    assert not collector.next_spans()["process audio.{stream}"].parent_span_id


@pytest.mark.usefixtures("tracing")
def test_what_the_parent_does_not_sample_is_not_sent_but_continued(
    collector: Receiver, make: Callable[..., Telemetry]
) -> None:
    telemetry = make()

    traceparent = telemetry.job_span(make_job(), session="s", message_id="m", parent=UNSAMPLED)
    telemetry.shutdown(PATIENCE_S)

    assert traceparent.split("-")[1] == UNSAMPLED.split("-")[1]
    assert traceparent[-2:] == "00"
    assert collector.traces.empty()


def test_without_tracing_the_parent_is_passed_on(collector: Receiver, make: Callable[..., Telemetry]) -> None:
    telemetry = make()

    assert telemetry.job_span(make_job(), session="s", message_id="m", parent=PARENT) == PARENT
    assert telemetry.job_span(make_job(), session="s", message_id="m") == session_traceparent("radio-7", "s")
    telemetry.shutdown(PATIENCE_S)
    assert collector.traces.empty()


# The header.


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        PARENT + "-",
        PARENT + "-00",
        PARENT + " ",
        PARENT + "\n",
        "\n" + PARENT,
        PARENT.upper(),
        "ff" + PARENT[2:],
        "0" + PARENT,
        "00-" + "0" * 32 + PARENT[35:],
        PARENT[:36] + "0" * 16 + "-01",
        PARENT.replace("b7ad", "b7ag"),
        PARENT.replace("b7ad", "b7a\u0664"),
        PARENT.replace("-", "_"),
        "cc" + PARENT[2:] + ".more",
        "cc" + PARENT[2:] + "-\r\nEvil: 1",
        "cc" + PARENT[2:] + "-" + "x" * 1000,
    ],
)
def test_what_w3c_forbids_is_no_traceparent(text: str) -> None:
    assert not valid_traceparent(text)


@pytest.mark.parametrize(
    "text", [PARENT, UNSAMPLED, PARENT[:-2] + "ff", "cc" + PARENT[2:], "cc" + PARENT[2:] + "-what"]
)
def test_what_w3c_allows_is_a_traceparent(text: str) -> None:
    assert valid_traceparent(text)


@given(text=st.text() | st.text("0123456789abcdef-", min_size=50, max_size=60))
def test_any_text_is_judged_by_its_parts(text: str) -> None:
    version, trace, span, flags = (text.split("-") + [""] * 4)[:4]
    hexadecimal = set("0123456789abcdef")
    good = (
        [len(part) for part in (version, trace, span, flags)] == [2, 32, 16, 2]
        and set(version + trace + span + flags) <= hexadecimal
        and version != "ff"
        and set(trace) != {"0"}
        and set(span) != {"0"}
        and (version != "00" or text.count("-") == 3)
    )

    assert valid_traceparent(text) is good


@given(stream=st.text(), session=st.text())
def test_a_sessions_own_traceparent_is_valid_unsampled_and_always_the_same(stream: str, session: str) -> None:
    traceparent = session_traceparent(stream, session)

    assert valid_traceparent(traceparent)
    assert traceparent.endswith("-00")
    assert traceparent == session_traceparent(stream, session)


# The daemon as a whole.


async def test_a_daemon_exports_its_figures_and_continues_the_trace(
    broker: Any, tmp_path: Any, mouth: Any, ears: Any
) -> None:
    with grpc_receiver() as (receiver, url):
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_TRACES_EXPORTER": "otlp", "BUFFER_DURATION_SECS": 0.5}
        async with Daemon(broker.url, tmp_path, **env) as daemon:
            await speak(mouth, "s", level(5, 24_000), traceparent=PARENT, end=1)
            await ears.ends(1)
            status, _ = await daemon.stop()

    metrics = receiver.next_metrics()
    spans = receiver.next_spans()
    published = ears.traceparents[[message.type for message in ears.messages].index("final")]
    span = spans["process audio.{stream}"]
    assert status == 0
    assert set(metrics) == {instrument.name for instrument in INSTRUMENTS}
    assert number(points(metrics["transcriber.jobs.enqueued"])[0]) == 1
    assert number(points(metrics["transcriber.chunks.received"])[0]) == 1
    assert span.trace_id.hex() == PARENT.split("-")[1]
    assert span.parent_span_id.hex() == PARENT.split("-")[2]
    assert published == f"00-{span.trace_id.hex()}-{span.span_id.hex()}-01"


async def test_whatever_is_exported_while_the_daemon_starts_knows_every_figure(broker: Any, tmp_path: Any) -> None:
    env = {
        "OTEL_METRICS_EXPORTER": "console",
        "OTEL_METRIC_EXPORT_INTERVAL": 50,
        "FAKE_BEFORE": "transcriber.live.ingest:LiveIngest.subscribe:1 HANG",  # its exporters are at work by then
    }
    daemon = Daemon(broker.url, tmp_path, **env)
    daemon.start()
    await until(lambda: daemon.log().count("transcriber.revisions.left_out") > 1, "exports")
    await daemon.__aexit__()

    assert "Callback failed" not in daemon.log()
    assert "transcriber.files.running" in daemon.log()
