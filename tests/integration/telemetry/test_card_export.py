"""Figures of a GPU, from the thread that reads them to a real OTLP receiver and to the message for NATS; the card is a fake."""

from tests.support.fake_nvml import GIB, FakeCard, WatchedNvml
from tests.support.otlp_receiver import number, points, receiver
from tests.support.waiting import PATIENCE_S
from transcriber.config import load_settings
from transcriber.telemetry import Telemetry

__all__ = ["receiver"]

UUID = "GPU-1b2f4c6e-0000-4000-8000-000000000001"


def test_figures_of_the_card_are_exported_with_what_they_are_of_and_are_plain_numbers_on_nats(receiver, monkeypatch):
    nvml = WatchedNvml(FakeCard(UUID, percent=None))
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "50")
    telemetry = Telemetry(load_settings(), "one")
    assert "transcriber.device.temperature" not in telemetry.snapshot().metrics
    telemetry.watch_card(nvml.opener)
    assert nvml.read.acquire(timeout=PATIENCE_S)

    telemetry.start()
    while "transcriber.device.temperature" not in (metrics := receiver.next_metrics()):
        pass
    figures = telemetry.snapshot().metrics
    telemetry.shutdown(PATIENCE_S)

    (point,) = points(metrics["transcriber.device.memory.used"])
    assert number(point) == 2 * GIB
    assert {one.key: one.value.string_value for one in point.attributes} == {"card": "NVIDIA H200", "uuid": UUID}
    assert metrics["transcriber.device.temperature"].unit == "Cel"
    assert "transcriber.device.utilization" not in metrics
    assert figures["transcriber.device.memory.total"] == 139 * GIB
    assert figures["transcriber.device.power"] == 250.0
    assert nvml.opened == 0
