"""Figures of one NVIDIA card, by its management library (NVML): utilisation, memory, temperature, power.

In: which card, as CUDA counts them in this process. Out: its figures, of the whole card or of a MIG instance. No CUDA context is
made, and no memory of the card is taken. Every call may block for as long as the driver does: not for the event loop.
"""

import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from transcriber.errors import CardError

PACKAGE = "nvidia-ml-py, of the extra cuda, is not installed"
FULL_PERCENT, MILLIWATTS = 100, 1000


@dataclass(frozen=True, slots=True)
class CardFigures:
    """What a card says of itself at one moment. None: it does not say, as a MIG instance of its utilisation.

    Attributes:
        utilization: share of NVML's last sampling period, at most a second, in which a kernel ran: 0 to 1.
        memory_used_bytes: by all processes, ours and others'.
        memory_total_bytes: of the card, or of the MIG instance.
        temperature_c: of the whole card.
        power_w: of the whole card.
    """

    utilization: float | None
    memory_used_bytes: int | None
    memory_total_bytes: int | None
    temperature_c: float | None
    power_w: float | None


class Card:
    """An open card. Any thread, but one at a time.

    Attributes:
        uuid: ``GPU-...``, or ``MIG-...`` of an instance.
        name: such as ``NVIDIA H200``.
    """

    def __init__(self, nvml: Any, handle: Any, whole: Any) -> None:
        """``handle`` may be of an instance; ``whole`` is the card that it is a part of, or the same.

        Raises:
            CardError: it does not even say which it is.
        """
        self._nvml, self._handle, self._whole = nvml, handle, whole
        try:
            self.uuid, self.name = str(nvml.nvmlDeviceGetUUID(handle)), str(nvml.nvmlDeviceGetName(handle))
        except nvml.NVMLError as error:
            raise CardError(str(error)) from None

    def read(self) -> CardFigures:
        """The figures of this moment.

        Raises:
            CardError: the driver does not answer, or the card is lost.
        """
        nvml = self._nvml
        rates = self._ask(nvml.nvmlDeviceGetUtilizationRates, self._handle)
        memory = self._ask(nvml.nvmlDeviceGetMemoryInfo, self._handle)
        milliwatts = self._ask(nvml.nvmlDeviceGetPowerUsage, self._whole)
        return CardFigures(
            utilization=None if rates is None else rates.gpu / FULL_PERCENT,
            memory_used_bytes=None if memory is None else int(memory.used),
            memory_total_bytes=None if memory is None else int(memory.total),
            temperature_c=self._ask(nvml.nvmlDeviceGetTemperature, self._whole, nvml.NVML_TEMPERATURE_GPU),
            power_w=None if milliwatts is None else milliwatts / MILLIWATTS,
        )

    def close(self) -> None:
        """Let go of the driver."""
        try:
            self._nvml.nvmlShutdown()
        except self._nvml.NVMLError:  # the driver is gone, and with it what was held
            return

    def _ask(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """What ``call`` says; None where this card, this driver or our rights do not include it."""
        nvml = self._nvml
        try:
            return call(*arguments)
        except nvml.NVMLError as error:
            unknown = {nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_FUNCTION_NOT_FOUND, nvml.NVML_ERROR_NO_PERMISSION}
            if error.value in unknown:
                return None
            raise CardError(str(error)) from None


def open_card(index: int, environ: Mapping[str, str] = os.environ, nvml: Any = None) -> Card:
    """The card that CUDA, in this process, calls number ``index``.

    Args:
        index: as in ``cuda:1``; it counts the cards that ``CUDA_VISIBLE_DEVICES`` leaves.
        environ: of the process that uses CUDA.
        nvml: the module ``pynvml``, loaded here by default: it is needed only where there is a GPU.

    Raises:
        CardError: it cannot be had, or it is not certain which it is.
    """
    if nvml is None:
        try:
            nvml = importlib.import_module("pynvml")
        except ImportError:
            raise CardError(PACKAGE) from None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise CardError(str(error)) from None
    try:
        return Card(nvml, *_find(nvml, index, environ))
    except nvml.NVMLError as error:
        nvml.nvmlShutdown()
        raise CardError(str(error)) from None
    except CardError:
        nvml.nvmlShutdown()
        raise


def _find(nvml: Any, index: int, environ: Mapping[str, str]) -> tuple[Any, Any]:
    """Handles of what we run on, and of the whole card; the same unless it is divided (MIG)."""
    named = _named(index, environ.get("CUDA_VISIBLE_DEVICES"))
    if named.startswith("MIG-"):
        instance = nvml.nvmlDeviceGetHandleByUUID(named)
        return instance, nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(instance)
    whole = _by_name(nvml, named, environ)
    if not _divided(nvml, whole):
        return whole, whole
    instances = _instances(nvml, whole)
    if len(instances) != 1:
        raise CardError(f"the card is divided into {len(instances)} (MIG), and CUDA_VISIBLE_DEVICES names none of them")
    return instances[0], whole


def _named(index: int, visible: str | None) -> str:
    """What ``CUDA_VISIBLE_DEVICES`` calls number ``index``: a number or the start of a UUID; the number itself, if it is not set."""
    if visible is None:
        return str(index)
    names = [name.strip() for name in visible.split(",")]
    if index >= len(names) or not names[index]:
        raise CardError(f"CUDA_VISIBLE_DEVICES={visible!r} has no number {index}")
    return names[index]


def _by_name(nvml: Any, named: str, environ: Mapping[str, str]) -> Any:
    """The card with this number, or whose UUID begins so."""
    cards = [nvml.nvmlDeviceGetHandleByIndex(number) for number in range(nvml.nvmlDeviceGetCount())]
    if not named.isdecimal():
        found = [card for card in cards if str(nvml.nvmlDeviceGetUUID(card)).startswith(named)]
        if len(found) != 1:
            raise CardError(f"CUDA_VISIBLE_DEVICES names {named!r}, which {len(found)} cards are")
        return found[0]
    # NVML counts by bus, CUDA the fastest first unless it is asked to do the same.
    by_bus = (
        environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID" or len({nvml.nvmlDeviceGetName(card) for card in cards}) == 1
    )
    if not by_bus:
        raise CardError("the cards differ, and CUDA counts them by speed: set CUDA_DEVICE_ORDER=PCI_BUS_ID")
    if int(named) >= len(cards):
        raise CardError(f"there is no card number {named}")
    return cards[int(named)]


def _divided(nvml: Any, card: Any) -> bool:
    """Whether MIG is on; most cards do not know it."""
    try:
        current, _ = nvml.nvmlDeviceGetMigMode(card)
    except nvml.NVMLError as error:
        if error.value == nvml.NVML_ERROR_NOT_SUPPORTED:
            return False
        raise
    return bool(current)


def _instances(nvml: Any, card: Any) -> list[Any]:
    """Those of a divided card that we see: a container has one of them."""
    found = []
    for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(card)):
        try:
            found.append(nvml.nvmlDeviceGetMigDeviceHandleByIndex(card, number))
        except nvml.NVMLError as error:  # also for an empty place
            if error.value not in {nvml.NVML_ERROR_NOT_FOUND, nvml.NVML_ERROR_INVALID_ARGUMENT}:
                raise
    return found
