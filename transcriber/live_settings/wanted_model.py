"""The model that a live setting names. In: live settings. Out: swaps, begun; of one that fails the key is refused, with why."""

import asyncio
import math
import time
from collections.abc import Callable
from contextlib import suppress

from transcriber.errors import RequestError
from transcriber.live_settings.live import LiveSettings
from transcriber.schema.admin import Swap

AGAIN_S = 60.0
"""After a swap that failed: what it lacked may be there by then, such as the model's file, or memory."""


class WantedModel:
    """Event loop only."""

    def __init__(self, live: LiveSettings, begin: Callable[[str], asyncio.Future[Swap]]) -> None:
        """``begin`` begins to load the model of a name, or (empty) that of the environment.

        While another swap is under way it raises ``RequestError``, and is called again.
        """
        self._live, self._begin = live, begin
        self._named, self._again_s = "", math.inf

    def look(self) -> None:
        """Begin a swap, if another model is wanted, or the latest swap failed some time ago."""
        wanted = self._live.model_named
        if wanted == self._named and time.monotonic() < self._again_s:
            return
        with suppress(RequestError):
            self._begin(wanted).add_done_callback(self._ended)
            if wanted != self._named:
                self._live.model_refused = ""
            self._named, self._again_s = wanted, math.inf

    def _ended(self, swap: asyncio.Future[Swap]) -> None:
        if swap.cancelled():  # the daemon stops
            return
        found = swap.result()
        self._live.model_refused = found.error if found.state in {"refused", "failed"} else ""
        if self._live.model_refused:
            self._again_s = time.monotonic() + AGAIN_S
