"""Receivers of OTLP over gRPC and over HTTP, and what they received."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from threading import Event, Thread
from typing import Any

import grpc  # type: ignore[import-untyped]  # it has no types
import pytest
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs_pb, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics_pb, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_pb, trace_service_pb2_grpc
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.support.waiting import PATIENCE_S
from transcriber.config import load_settings
from transcriber.telemetry import Telemetry

EXPECTED = {  # DESIGN 1.6
    "transcriber.device": ("gauge", ""),
    "transcriber.model.swaps": ("sum", "{swap}"),
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
    "transcriber.text.trimmed": ("sum", "{window}"),
    "transcriber.queue.latency_ms": ("histogram", "ms"),
    "transcriber.processing.latency_ms": ("histogram", "ms"),
    "transcriber.end_to_end.latency_ms": ("histogram", "ms"),
    "transcriber.worker.busy": ("gauge", ""),
    "transcriber.chunks.received": ("sum", "{chunk}"),
    "transcriber.chunks.dropped": ("sum", "{chunk}"),
    "transcriber.chunks.filtered": ("sum", "{window}"),
    "transcriber.flushes.empty": ("sum", "{flush}"),
    "transcriber.buffer.size": ("gauge", "{sample}"),
    "transcriber.rtf": ("gauge", ""),
    "transcriber.engine.restarts": ("sum", "{restart}"),
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
    "transcriber.config.changes": ("sum", "{change}"),
    "transcriber.config.refused": ("gauge", "{key}"),
    "transcriber.revisions": ("sum", "{message}"),
    "transcriber.revisions.left_out": ("sum", "{passage}"),
    "transcriber.speakers.left_out": ("sum", "{window}"),
    "transcriber.requests": ("sum", "{request}"),
    "transcriber.files": ("sum", "{file}"),
    "transcriber.files.running": ("gauge", "{file}"),
    "transcriber.request.latency_ms": ("histogram", "ms"),
}


class Receiver:
    """What a collector got. ``held`` keeps it from answering, ``status`` is what it answers over HTTP."""

    def __init__(self) -> None:
        self.metrics: Queue[metrics_pb.ExportMetricsServiceRequest] = Queue()
        self.traces: Queue[trace_pb.ExportTraceServiceRequest] = Queue()
        self.logs: Queue[logs_pb.ExportLogsServiceRequest] = Queue()
        self.answers = Event()
        self.answers.set()
        self.status = 200

    def take_metrics(self, request: metrics_pb.ExportMetricsServiceRequest) -> None:
        self.metrics.put(request)
        self.answers.wait(PATIENCE_S)

    def take_logs(self, request: logs_pb.ExportLogsServiceRequest) -> None:
        self.logs.put(request)
        self.answers.wait(PATIENCE_S)

    def next_metrics(self) -> dict[str, Metric]:
        request = self.metrics.get(timeout=PATIENCE_S)
        return {m.name: m for r in request.resource_metrics for s in r.scope_metrics for m in s.metrics}

    def next_spans(self) -> dict[str, Span]:
        request = self.traces.get(timeout=PATIENCE_S)
        return {span.name: span for r in request.resource_spans for s in r.scope_spans for span in s.spans}

    def next_logs(self) -> list[LogRecord]:
        request = self.logs.get(timeout=PATIENCE_S)
        return [record for r in request.resource_logs for s in r.scope_logs for record in s.log_records]


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

    class LogsService(logs_service_pb2_grpc.LogsServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
            receiver.take_logs(request)
            return logs_pb.ExportLogsServiceResponse()

    server = grpc.server(ThreadPoolExecutor(4))
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(MetricsService(), server)
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(TraceService(), server)
    logs_service_pb2_grpc.add_LogsServiceServicer_to_server(LogsService(), server)
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
            elif self.path == "/v1/logs":
                receiver.take_logs(logs_pb.ExportLogsServiceRequest.FromString(body))
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


@pytest.fixture(params=RECEIVERS)
def receiver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A collector, and an environment that names it; once over gRPC and once over HTTP."""
    with RECEIVERS[request.param]() as (receiver, url):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", request.param)
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


def points(metric: Metric) -> Any:
    return getattr(metric, str(metric.WhichOneof("data"))).data_points


def number(point: Any) -> float:
    return float(getattr(point, point.WhichOneof("value")))
