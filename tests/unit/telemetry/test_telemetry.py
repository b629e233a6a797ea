"""Figures and spans, as a real OTLP receiver gets them over gRPC and over HTTP."""

import json
import logging
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, strategies as st

from tests.support.otlp_receiver import EXPECTED, Clock
from transcriber.config import load_settings
from transcriber.engine.job import Device
from transcriber.errors import ConfigError
from transcriber.schema.messages import Latency, Metrics
from transcriber.telemetry import INSTRUMENTS, Telemetry, session_traceparent, valid_traceparent

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = PARENT[:-2] + "00"


@pytest.fixture(autouse=True)
def _silence_is_over() -> Iterator[None]:
    yield
    logging.getLogger("opentelemetry").setLevel(logging.NOTSET)


def test_a_reason_nobody_knows_is_an_error(make: Callable[..., Telemetry]) -> None:
    counters = make().counters("a")

    with pytest.raises(KeyError):
        counters.jobs_dropped["bad_luck"] += 1


def prometheus_name(name: str, kind: str, unit: str) -> str:
    """The name in Prometheus, by the rules of its OTLP translator with suffixes on."""
    words = [word for word in name.replace(".", "_").split("_") if word]
    suffix = {
        "ms": "milliseconds",
        "s": "seconds",
        "By": "bytes",
        "Cel": "celsius",
        "W": "watts",
        "1": "ratio" if kind == "gauge" else "",
    }.get(unit, "")
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
        "transcriber_text_trimmed_total",
        "transcriber_queue_latency_ms_milliseconds",
        "transcriber_processing_latency_ms_milliseconds",
        "transcriber_end_to_end_latency_ms_milliseconds",
        "transcriber_worker_busy",
        "transcriber_device",
        "transcriber_model",
        "transcriber_model_swaps_total",
        "transcriber_chunks_received_total",
        "transcriber_chunks_dropped_total",
        "transcriber_chunks_odd_total",
        "transcriber_chunks_filtered_total",
        "transcriber_flushes_empty_total",
        "transcriber_buffer_size",
        "transcriber_rtf",
        "transcriber_engine_restarts_total",
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
        "transcriber_config_changes_total",
        "transcriber_config_refused",
        "transcriber_revisions_total",
        "transcriber_revisions_left_out_total",
        "transcriber_speakers_left_out_total",
        "transcriber_requests_total",
        "transcriber_files_total",
        "transcriber_files_running",
        "transcriber_request_latency_ms_milliseconds",
        "transcriber_device_utilization",
        "transcriber_device_memory_used_bytes",
        "transcriber_device_memory_total_bytes",
        "transcriber_device_temperature_celsius",
        "transcriber_device_power_watts",
    }


def test_a_stream_that_comes_back_continues_its_numbers(make: Callable[..., Telemetry]) -> None:
    telemetry = make(metrics_per_stream=True)
    telemetry.counters("a").chunks_received += 5

    telemetry.counters("a").chunks_received += 1

    assert telemetry.counters("a").chunks_received == 6


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


def test_two_workers_are_fully_busy_only_together(make: Callable[..., Telemetry]) -> None:
    clock = Clock()
    telemetry = make(clock)
    telemetry.observe(busy_s=lambda: 10.0, workers=lambda: 2)

    clock.now_s = 10.0

    assert telemetry.snapshot().metrics["transcriber.worker.busy"] == 0.5


def test_where_whisper_runs_is_a_series_of_its_own(make: Callable[..., Telemetry]) -> None:
    telemetry = make()
    assert telemetry.snapshot().metrics["transcriber.device"] == {"cpu": 1}

    where = [Device("cuda:0", "NVIDIA H200")]
    telemetry.observe_device(lambda: where[-1])

    assert telemetry.snapshot().metrics["transcriber.device"] == {"cuda:0": 1}
    where.append(Device(reason="cuda:0 was there, and is not any more"))
    assert telemetry.snapshot().metrics["transcriber.device"] == {"cpu": 1}


ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://user:hunter2@127.0.0.1:4317"}


@pytest.mark.parametrize(
    ("environment", "line"),
    [
        (
            {"OTEL_METRICS_EXPORTER": "prometheus,statsd"},
            "OTEL_METRICS_EXPORTER='prometheus,statsd': must be otlp or prometheus or console or none",
        ),
        ({"OTEL_METRICS_EXPORTER": "otlp,none"}, "OTEL_METRICS_EXPORTER='otlp,none': none excludes the others"),
        (
            {"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_PROMETHEUS_PORT": "65536"},
            "OTEL_EXPORTER_PROMETHEUS_PORT='65536': must be a port, 0 to 65535",
        ),
        ({"OTEL_LOGS_EXPORTER": "prometheus"}, "OTEL_LOGS_EXPORTER='prometheus': must be otlp or console or none"),
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
