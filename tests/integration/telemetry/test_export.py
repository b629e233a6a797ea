"""Figures and spans, as a real OTLP receiver gets them over gRPC and over HTTP."""

import json
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty
from typing import Any

import numpy as np
import pytest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.support.otlp_receiver import (
    EXPECTED,
    RECEIVERS,
    Clock,
    Receiver,
    grpc_receiver,
    http_receiver,
    number,
    points,
)
from tests.support.waiting import PATIENCE_S
from transcriber import __version__, logs
from transcriber.engine.job import Device, Job, Lane
from transcriber.errors import ConfigError
from transcriber.schema.messages import Latency
from transcriber.telemetry import Telemetry, session_traceparent, valid_traceparent

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = PARENT[:-2] + "00"
REASONS = {
    "transcriber.jobs.dropped": {"queue_full", "engine_error", "shutdown"},
    "transcriber.text.suppressed": {"no_speech", "token_cap", "log_probability", "repetition", "rate", "max_payload"},
    "transcriber.chunks.dropped": {"bad_input", "slow_consumer", "overlap", "contended", "too_many_streams"},
    "transcriber.chunks.odd": {"header", "bytes"},
    "transcriber.gaps": {"queue_full", "slow_consumer", "lost_input", "bad_input", "engine_error", "shutdown"},
    "transcriber.requests": {"200", "400", "413", "429", "500", "503", "504", "none"},
    "transcriber.files": {"done", "failed", "cancelled"},
    "transcriber.revisions.left_out": {"same", "shorter", "doubted", "busy", "suspect", "gone"},
    "transcriber.speakers.left_out": {"busy", "failed"},
    "transcriber.device": {"cpu"},
    "transcriber.model.swaps": {"swapped", "unchanged", "refused", "failed"},
}


@pytest.fixture(autouse=True)
def _silence_is_over() -> Iterator[None]:
    yield
    logging.getLogger("opentelemetry").setLevel(logging.NOTSET)


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """The same over gRPC only, for what does not depend on the protocol."""
    with grpc_receiver() as (receiver, url):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        yield receiver


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


def attributes(owner: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, str(a.value.WhichOneof("value"))) for a in owner.attributes}


def reason(point: Any) -> str:
    """The attributes of a counter's points."""
    labels = attributes(point)
    return str(labels.get("code") or labels.get("outcome") or labels.get("device") or labels["reason"])


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
        assert values == dict.fromkeys(reasons, 1 if name == "transcriber.device" else 0)


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
    telemetry.observe_device(lambda: Device("cpu", reason="no card"))
    telemetry.observe(lag_s=lambda: 1.5, streams_fenced=lambda: 1, consumer_resets=lambda: 10)
    counters = telemetry.counters("a")
    counters.publish_retries += 8
    counters.revisions += 11
    counters.revisions_left_out["busy"] += 12
    counters.speakers_left_out["failed"] += 13
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
        ("transcriber.device", "no card"): 1,
        ("transcriber.publish.retries", None): 8,
        ("transcriber.consumer.resets", None): 10,
        ("transcriber.revisions", None): 11,
        ("transcriber.revisions.left_out", "busy"): 12,
        ("transcriber.speakers.left_out", "failed"): 13,
        ("transcriber.gaps", "queue_full"): 4,
        ("transcriber.chunks.received", None): 50,
        ("transcriber.chunks.dropped", "overlap"): 2,
        ("transcriber.chunks.filtered", None): 1,
        ("transcriber.jobs.enqueued", None): 9,
        ("transcriber.jobs.dropped", "queue_full"): 4,
    }


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
def test_nothing_is_sent_when_export_is_switched_off(
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


def test_work_continues_while_the_collector_does_not_answer(
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
