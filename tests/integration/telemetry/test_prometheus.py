"""``/metrics`` as a scrape gets it: names, exemplars, lists of exporters, and its port."""

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.support.otlp_receiver import EXPECTED, Clock, Receiver, number, points
from tests.support.waiting import PATIENCE_S, until
from transcriber.config import load_settings
from transcriber.errors import PortError
from transcriber.telemetry import Telemetry

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}
SUFFIXES = {"gauge": ("",), "sum": ("_total",), "histogram": ("_bucket", "_count", "_sum")}


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> int:
    """A port that is free, and the environment in which metrics are served there."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "prometheus")
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_HOST", "127.0.0.1")
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", str(port))
    return port


def scrape(port: int, headers: dict[str, str] | None = None, query: str = "") -> str:
    return httpx.get(f"http://127.0.0.1:{port}/metrics{query}", headers=headers, timeout=PATIENCE_S).text


def samples(text: str) -> dict[str, float]:
    """By name, of series without labels."""
    return {s.name: s.value for family in parse_text(text) for s in family.samples if not s.labels}


def exemplars(text: str) -> dict[tuple[str, str], str]:
    """Trace ids by name and bucket."""
    return {
        (s.name, s.labels["le"]): s.exemplar.labels["trace_id"]
        for family in parse_openmetrics(text)
        for s in family.samples
        if s.exemplar
    }


def test_every_metric_is_served_under_the_name_that_the_page_gives(port: int, make: Callable[..., Telemetry]) -> None:
    make()

    names = {sample.name for family in parse_text(scrape(port)) for sample in family.samples}

    expected = {"target_info"}
    for name, (kind, unit) in EXPECTED.items():
        base = name.replace(".", "_") + ("_milliseconds" if unit == "ms" else "")
        expected |= {base + suffix for suffix in SUFFIXES[kind]}
    assert names == expected


def test_values_are_those_of_the_moment_of_the_scrape_also_of_several_at_once(
    port: int, make: Callable[..., Telemetry]
) -> None:
    telemetry = make()
    telemetry.counters().chunks_received += 5
    telemetry.counters().jobs_dropped["queue_full"] += 2

    with ThreadPoolExecutor(8) as pool:
        scrapes = list(pool.map(lambda _: scrape(port, OPENMETRICS), range(24)))
    telemetry.counters().chunks_received += 1

    assert all(text.count("transcriber_chunks_received_total 5.0\n") == 1 for text in scrapes)
    assert all('transcriber_jobs_dropped_total{reason="queue_full"} 2.0\n' in text for text in scrapes)
    assert samples(scrape(port))["transcriber_chunks_received_total"] == 6
    assert samples(scrape(port, query="?name[]=transcriber_queue_depth")) == {"transcriber_queue_depth": 0}


def test_latencies_have_the_trace_of_the_last_job_in_each_bucket(port: int, make: Callable[..., Telemetry]) -> None:
    telemetry = make()
    times = {"queue_ms": 7.0, "processing_ms": 70_000.0, "end_to_end_ms": 5.0}
    telemetry.record_job("a", **times, traceparent=PARENT.replace("0af", "fff"))
    telemetry.record_job("a", **times, traceparent=PARENT)
    telemetry.record_job("a", queue_ms=20.0, processing_ms=1.0, end_to_end_ms=5.1, traceparent=PARENT[:-2] + "00")

    text = scrape(port, OPENMETRICS)

    trace_id = PARENT.split("-")[1]
    assert exemplars(text) == {
        ("transcriber_queue_latency_ms_milliseconds_bucket", "10"): trace_id,
        ("transcriber_processing_latency_ms_milliseconds_bucket", "+Inf"): trace_id,
        ("transcriber_end_to_end_latency_ms_milliseconds_bucket", "5"): trace_id,
    }
    assert samples(scrape(port))["transcriber_queue_latency_ms_milliseconds_count"] == 3


def test_the_standard_variable_switches_exemplars_off(
    port: int, make: Callable[..., Telemetry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_METRICS_EXEMPLAR_FILTER", "always_off")
    telemetry = make()
    telemetry.record_job("a", queue_ms=7.0, processing_ms=1.0, end_to_end_ms=5.0, traceparent=PARENT)

    assert not exemplars(scrape(port, OPENMETRICS))


def test_several_exporters_each_have_all_of_it_and_their_own_interval_of_busy(
    receiver: Receiver, port: int, make: Callable[..., Telemetry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "otlp, prometheus")
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "3600000")
    clock, busy_s = Clock(), 0.0
    telemetry = make(clock)
    telemetry.observe(busy_s=lambda: busy_s, workers=lambda: 1)
    telemetry.record_job("a", queue_ms=7.0, processing_ms=1.0, end_to_end_ms=5.0, traceparent=PARENT)
    clock.now_s, busy_s = 8.0, 8.0
    scrape(port)
    clock.now_s = 10.0

    scraped = samples(scrape(port))
    telemetry.shutdown(PATIENCE_S)
    sent = receiver.next_metrics()

    assert scraped["transcriber_worker_busy"] == 0
    assert number(points(sent["transcriber.worker.busy"])[0]) == pytest.approx(0.8)
    assert scraped["transcriber_queue_latency_ms_milliseconds_count"] == 1
    (point,) = points(sent["transcriber.queue.latency_ms"])
    assert point.count == 1
    assert [exemplar.trace_id.hex() for exemplar in point.exemplars] == [PARENT.split("-")[1]]


async def test_a_port_that_is_taken_is_one_line_and_a_port_that_was_ours_is_free_again(
    port: int, make: Callable[..., Telemetry]
) -> None:
    telemetry = make()

    with pytest.raises(PortError) as raised:
        Telemetry(load_settings(), "two")
    assert telemetry.shutdown(PATIENCE_S)

    assert str(raised.value) == (
        f"OTEL_EXPORTER_PROMETHEUS_PORT={port} on 127.0.0.1 cannot be opened: Address already in use"
    )
    assert raised.value.exit_status == 3

    def opened() -> bool:
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            return False
        return True

    await until(opened, "the port")


def test_a_host_that_nobody_knows_is_one_line(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_HOST", "nowhere.invalid")

    with pytest.raises(PortError, match=f"PORT={port} on nowhere.invalid cannot be opened"):
        Telemetry(load_settings(), "one")
