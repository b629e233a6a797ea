"""Figures of the GPU, read on a thread of their own: the driver may block, and no exporter and no event loop may wait for it.

In: a way to open the card. Out: the latest figures, for as long as they are fresh.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator

from transcriber.errors import CardError
from transcriber.gpu.nvml import Card, CardFigures

log = logging.getLogger(__name__)

INTERVAL_S = 5.0
STALE_S = 3 * INTERVAL_S
"""A driver that has said nothing for so long hangs: what it said last is no figure of this moment."""
LEAVE_S = 0.2

CARD_FIGURES: dict[str, Callable[[CardFigures], float | None]] = {
    "device_utilization": lambda figures: figures.utilization,
    "device_memory_used": lambda figures: figures.memory_used_bytes,
    "device_memory_total": lambda figures: figures.memory_total_bytes,
    "device_temperature": lambda figures: figures.temperature_c,
    "device_power": lambda figures: figures.power_w,
}
"""By the key of their instrument."""


class CardWatch:
    """Reads a card every ``interval_s``. Event loop; ``points`` is for any thread.

    Where the card cannot be read there are no points; the log has the reason, once.
    """

    def __init__(
        self,
        open_card: Callable[[], Card],
        interval_s: float = INTERVAL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open, self._interval_s, self._clock = open_card, interval_s, clock
        self._latest: tuple[float, CardFigures, dict[str, str]] | None = None
        self._leave = threading.Event()
        # A daemon thread: one that the driver holds does not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="card-figures", daemon=True)
        self._thread.start()

    def points(self, key: str) -> Iterator[tuple[float, dict[str, str]]]:
        """The value of one of ``CARD_FIGURES`` and what it is of; nothing where it is not known."""
        if (latest := self._latest) is None:
            return
        read_s, figures, attributes = latest
        value = CARD_FIGURES[key](figures)
        if value is not None and self._clock() - read_s <= STALE_S:
            yield value, attributes

    def close(self) -> None:
        """Leave the card; a thread that the driver holds is left behind."""
        self._leave.set()
        self._thread.join(LEAVE_S)

    def _run(self) -> None:
        reason = ""
        while not self._leave.is_set():
            try:
                self._read_on()
            except CardError as error:
                self._latest = None
                if reason != str(error):
                    log.warning("no figures of the GPU: %s", reason := str(error))
            self._leave.wait(self._interval_s)

    def _read_on(self) -> None:
        """Read until we leave.

        Raises:
            CardError: it cannot be read, or not any more.
        """
        card = self._open()
        try:
            attributes = {"card": card.name, "uuid": card.uuid}
            while not self._leave.is_set():
                self._latest = self._clock(), card.read(), attributes
                self._leave.wait(self._interval_s)
        finally:
            card.close()
