"""What ends the daemon, and whether it watches the card that it runs on."""

import asyncio
import queue
import signal
import threading
from typing import Any

import pytest

from tests.support.waiting import PATIENCE_S, until
from transcriber.admin.model_swap import OF_SETTINGS
from transcriber.config import load_settings
from transcriber.engine.job import CPU, Device
from transcriber.engine.swap import ModelSource
from transcriber.errors import CardError
from transcriber.health import Health
from transcriber.live_settings.layers import Entry
from transcriber.live_settings.live import LiveSettings
from transcriber.service import _Service
from transcriber.tasks import cancel, hangup_signal, stop_signal
from transcriber.telemetry import Telemetry

NO_MODEL = ModelSource(lambda *_: pytest.fail("no model is needed"), lambda *_: pytest.fail("no model is needed"))

BOTH = (signal.SIGINT, signal.SIGTERM)
ALL = (*BOTH, signal.SIGHUP)


@pytest.fixture
def handlers_restored():
    before = {number: signal.getsignal(number) for number in ALL}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers_restored")
async def test_two_signals_at_once_are_one_stop():
    crashes = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: crashes.append(context))
    stop = stop_signal()

    for number in BOTH:
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    await stop
    await asyncio.sleep(0)  # the second one's turn

    assert crashes == []
    assert {signal.getsignal(number) for number in BOTH} == {signal.SIG_DFL}


@pytest.mark.usefixtures("handlers_restored")
@pytest.mark.parametrize("terminal", [True, False])
async def test_sighup_is_the_end_where_stdin_is_a_terminal_and_else_loads_the_model_again(monkeypatch, terminal):
    monkeypatch.setattr("transcriber.tasks.os.isatty", lambda _: terminal)
    stop, hangup = stop_signal(), hangup_signal()

    for _ in range(2):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGHUP)
        await until(lambda: stop.done() or hangup.is_set())

    assert (stop.done(), hangup.is_set()) == (terminal, not terminal)
    assert (signal.getsignal(signal.SIGTERM) == signal.SIG_DFL) == terminal


@pytest.mark.parametrize(("device", "opened"), [(Device("cuda:1", "NVIDIA H200"), [1]), (CPU, [])])
def test_the_card_on_which_whisper_runs_is_watched_and_no_other(monkeypatch, device, opened):
    asked: queue.Queue[int] = queue.Queue()

    def open_card(index):
        asked.put(index)
        raise CardError("no driver")

    monkeypatch.setattr("transcriber.service.open_card", open_card)
    telemetry = Telemetry(load_settings(), "one")
    service = _Service(load_settings(), telemetry, Health("", 0), NO_MODEL)

    service._watch_device(lambda: device)

    assert [asked.get(timeout=PATIENCE_S) for _ in opened] == opened
    telemetry.shutdown(PATIENCE_S)
    assert asked.empty()
    assert telemetry.snapshot().metrics["transcriber.device"] == {device.name: 1}


class Asked:
    """Stands for a ``ModelSwap``: what is asked of it."""

    def __init__(self):
        self.models: list[str] = []

    def begin(self, model, **_):
        self.models.append(model)


async def test_sighup_loads_the_model_that_a_live_setting_names_and_else_that_of_the_environment():
    settings = load_settings(whisper_model="one", config_bucket="config")
    telemetry = Telemetry(settings, "pod-1")
    service = _Service(settings, telemetry, Health("", 0), NO_MODEL)
    asked: Any = Asked()
    service._models = asked
    service._live = live = LiveSettings(settings, "pod-1", lambda _: True)

    hangup = asyncio.Event()
    reloading = asyncio.create_task(service._reload(hangup))
    for entries in ([], [Entry("global.whisper_model", "two", 1)], []):
        live.take(entries)
        hangup.set()
        await until(lambda: not hangup.is_set())

    await cancel([reloading])
    telemetry.shutdown(PATIENCE_S)
    assert asked.models == [OF_SETTINGS, "two", OF_SETTINGS]
