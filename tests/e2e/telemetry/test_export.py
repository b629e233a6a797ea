"""Figures and spans, as a real OTLP receiver gets them over gRPC and over HTTP."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.audio import level, speak
from tests.support.daemon import Daemon
from tests.support.otlp_receiver import grpc_receiver, number, points
from tests.support.waiting import until
from transcriber.telemetry import INSTRUMENTS

OF_A_CARD = "transcriber.device."
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(autouse=True)
def _silence_is_over() -> Iterator[None]:
    yield
    logging.getLogger("opentelemetry").setLevel(logging.NOTSET)


# The daemon as a whole.


async def test_a_daemon_exports_its_figures_and_continues_the_trace(
    broker: Any, tmp_path: Any, publisher: Any, listener: Any
) -> None:
    with grpc_receiver() as (receiver, url):
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_TRACES_EXPORTER": "otlp", "BUFFER_DURATION_SECS": 0.5}
        async with Daemon(broker.url, tmp_path, **env) as daemon:
            await speak(publisher, "s", level(5, 24_000), traceparent=PARENT, end=1)
            await listener.ends(1)
            status, _ = await daemon.stop()

    metrics = receiver.next_metrics()
    spans = receiver.next_spans()
    published = listener.traceparents[[message.type for message in listener.messages].index("final")]
    span = spans["process audio.{stream}"]
    assert status == 0
    assert set(metrics) == {instrument.name for instrument in INSTRUMENTS if not instrument.name.startswith(OF_A_CARD)}
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
