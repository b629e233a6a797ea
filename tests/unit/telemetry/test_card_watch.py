"""Figures of a GPU, on the thread that reads them; the card is a fake."""

import threading

import pynvml
import pytest

from tests.support.fake_nvml import GIB, FakeCard, FakeNvml, WatchedNvml, refused
from tests.support.otlp_receiver import Clock
from tests.support.waiting import PATIENCE_S
from transcriber.gpu.nvml import open_card
from transcriber.telemetry.card_watch import CARD_FIGURES, STALE_S, CardWatch
from transcriber.telemetry.instruments import INSTRUMENTS

UUID = "GPU-1b2f4c6e-0000-4000-8000-000000000001"
OURS = {"card": "NVIDIA H200", "uuid": UUID}
NAMES = {i.key: i.name for i in INSTRUMENTS}


@pytest.fixture
def nvml():
    return WatchedNvml(FakeCard(UUID, percent=None))


@pytest.fixture
def watching(nvml):
    """A watch of ``nvml`` that does not rest, and its clock."""
    clock = Clock()
    watch = CardWatch(nvml.opener, interval_s=0.001, clock=clock)
    yield watch, clock
    nvml.answers.set()
    watch.close()


def test_every_figure_has_its_instrument_and_every_instrument_of_the_card_its_figure():
    assert {key for key in NAMES if key.startswith("device_")} == CARD_FIGURES.keys()


def test_figures_are_those_of_the_moment_and_what_the_card_does_not_say_is_left_out(nvml, watching):
    watch, _ = watching
    nvml.wait_read()

    nvml.cards[0].used = 3 * GIB
    nvml.wait_read()

    found = {key: list(watch.points(key)) for key in CARD_FIGURES}
    assert found == {
        "device_utilization": [],
        "device_memory_used": [(3 * GIB, OURS)],
        "device_memory_total": [(139 * GIB, OURS)],
        "device_temperature": [(51, OURS)],
        "device_power": [(250.0, OURS)],
    }


def test_a_driver_that_hangs_holds_nobody_and_its_last_figures_go(nvml, watching):
    watch, clock = watching
    nvml.wait_read()

    nvml.answers.clear()

    assert list(watch.points("device_temperature")) == [(51, OURS)]
    clock.now_s += STALE_S + 1
    assert list(watch.points("device_temperature")) == []

    watch.close()


def test_a_card_that_is_lost_has_no_figures_until_it_is_back_and_the_log_says_it_once(nvml, watching, caplog):
    watch, _ = watching
    nvml.wait_read()

    nvml.fails = refused(pynvml.NVML_ERROR_GPU_IS_LOST)
    lost = threading.Event()
    nvml.nvmlShutdown = lost.set
    assert lost.wait(PATIENCE_S)
    lost.clear()
    assert lost.wait(PATIENCE_S)
    assert list(watch.points("device_temperature")) == []

    del nvml.nvmlShutdown
    nvml.fails = None
    nvml.wait_read()

    assert list(watch.points("device_temperature")) == [(51, OURS)]
    assert [record.message for record in caplog.records] == ["no figures of the GPU: GPU is lost"]


def test_where_no_card_can_be_opened_nothing_is_exported_and_the_log_says_why(caplog):
    asked = threading.Semaphore(0)

    def opener():
        asked.release()
        return open_card(0, {"CUDA_VISIBLE_DEVICES": ""}, FakeNvml([]))

    watch = CardWatch(opener, interval_s=0.001)
    for _ in range(3):
        assert asked.acquire(timeout=PATIENCE_S)
    watch.close()

    assert [list(watch.points(key)) for key in CARD_FIGURES] == [[]] * len(CARD_FIGURES)
    assert [record.message for record in caplog.records] == [
        "no figures of the GPU: CUDA_VISIBLE_DEVICES='' has no number 0"
    ]
