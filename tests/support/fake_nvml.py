"""NVIDIA's management library as it would answer on machines that we do not have; errors and constants are the real ones."""

# ruff: noqa: N802 - the names are NVML's

import threading
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import pynvml

from tests.support.waiting import PATIENCE_S
from transcriber.gpu.nvml import open_card

GIB = 2**30


def refused(code=pynvml.NVML_ERROR_NOT_SUPPORTED):
    return pynvml.NVMLError(code)


@dataclass(eq=False)
class FakeCard:
    """A card, or an instance of one (``whole``); what is None is not supported."""

    uuid: str
    name: str = "NVIDIA H200"
    percent: int | None = 40
    used: int | None = 2 * GIB
    total: int = 139 * GIB
    celsius: int | None = 51
    milliwatts: int | None = 250_000
    instances: list["FakeCard"] | None = None
    whole: "FakeCard | None" = None

    def __post_init__(self):
        for instance in self.instances or ():
            instance.whole = self


@dataclass(eq=False)
class FakeNvml:
    """Stands for the module ``pynvml``. ``fails``: the error of every figure, from now on."""

    cards: list[FakeCard]
    fails: Exception | None = None
    opened: int = 0

    NVMLError = pynvml.NVMLError
    NVML_ERROR_NOT_SUPPORTED = pynvml.NVML_ERROR_NOT_SUPPORTED
    NVML_ERROR_FUNCTION_NOT_FOUND = pynvml.NVML_ERROR_FUNCTION_NOT_FOUND
    NVML_ERROR_NO_PERMISSION = pynvml.NVML_ERROR_NO_PERMISSION
    NVML_ERROR_NOT_FOUND = pynvml.NVML_ERROR_NOT_FOUND
    NVML_ERROR_INVALID_ARGUMENT = pynvml.NVML_ERROR_INVALID_ARGUMENT
    NVML_TEMPERATURE_GPU = pynvml.NVML_TEMPERATURE_GPU

    def nvmlInit(self):
        self.opened += 1

    def nvmlShutdown(self):
        self.opened -= 1

    def nvmlDeviceGetCount(self):
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index):
        return self.cards[index]

    def nvmlDeviceGetHandleByUUID(self, uuid):
        everything = [*self.cards, *(part for card in self.cards for part in card.instances or ())]
        return self._only(card for card in everything if card.uuid == uuid)

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, instance):
        return instance.whole

    def nvmlDeviceGetMigMode(self, card):
        if card.instances is None:
            raise refused()
        return [1, 1]

    def nvmlDeviceGetMaxMigDeviceCount(self, card):
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, card, index):
        if index >= len(card.instances):
            raise refused(pynvml.NVML_ERROR_NOT_FOUND)
        return card.instances[index]

    def nvmlDeviceGetUUID(self, card):
        return card.uuid

    def nvmlDeviceGetName(self, card):
        return card.name

    def nvmlDeviceGetUtilizationRates(self, card):
        return SimpleNamespace(gpu=self._figure(card.percent), memory=0)

    def nvmlDeviceGetMemoryInfo(self, card):
        return SimpleNamespace(used=self._figure(card.used), total=card.total)

    def nvmlDeviceGetTemperature(self, card, sensor):
        assert sensor == pynvml.NVML_TEMPERATURE_GPU
        return self._figure(card.celsius)

    def nvmlDeviceGetPowerUsage(self, card):
        return self._figure(card.milliwatts)

    def _figure(self, value):
        if self.fails:
            raise self.fails
        if value is None:
            raise refused()
        return value

    def _only(self, found):
        (card,) = [*found] or [None]
        if card is None:
            raise refused(pynvml.NVML_ERROR_NOT_FOUND)
        return card


class WatchedNvml(FakeNvml):
    """Says when it has been read; it answers as long as ``answers`` is set, and hangs else, as drivers do."""

    def __init__(self, *cards):
        super().__init__([*cards])
        self.read, self.answers = threading.Semaphore(0), threading.Event()
        self.answers.set()

    def nvmlDeviceGetPowerUsage(self, card):
        self.read.release()
        assert self.answers.wait(PATIENCE_S)
        return super().nvmlDeviceGetPowerUsage(card)

    def wait_read(self):
        """Three reads from now: one that has begun, one that sees what is now, and one that shows the other to be over."""
        while self.read.acquire(blocking=False):
            pass
        for _ in range(3):
            assert self.read.acquire(timeout=PATIENCE_S)

    @property
    def opener(self):
        return partial(open_card, 0, {}, self)
