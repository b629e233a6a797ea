"""The daemon's model, and swaps of it. In: a model's name, or a SIGHUP. Out: the outcome; an audit entry, a figure, a line in the log."""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple, Self

from transcriber.bus.audit import AuditLog
from transcriber.config import Settings
from transcriber.engine.pool import WorkerPool
from transcriber.engine.swap import ModelSource, in_thread, load_fitting, swap_models
from transcriber.errors import ConfigError, RequestError, StartError, UnansweredError
from transcriber.schema.admin import Swap, SwapOutcome
from transcriber.tasks import cancel
from transcriber.telemetry import Telemetry

log = logging.getLogger(__name__)

OF_SETTINGS = ""
"""The model of the settings, instead of a name."""


class ModelFile(NamedTuple):
    """A model's file as it was on disk: another one under the same name differs."""

    path: Path
    version: tuple[int, ...] = ()

    @classmethod
    def find(cls, source: ModelSource, settings: Settings, name: str = OF_SETTINGS) -> Self:
        """That of a name, fetched if need be. Blocks; any thread.

        Raises:
            StartError: there is none.
        """
        path = source.find(settings, name)
        try:
            status = path.stat()
        except OSError:  # loading it says what is wrong
            return cls(path)
        return cls(path, (status.st_mtime_ns, status.st_size, status.st_ino))


class ModelSwap:
    """Event loop only.

    Attributes:
        latest: the swap under way, or the latest; None: none so far.
    """

    def __init__(
        self,
        settings: Settings,
        source: ModelSource,
        file: ModelFile,
        pool: WorkerPool,
        audit: AuditLog,
        telemetry: Telemetry,
        on_swapped: Callable[[], None],
    ) -> None:
        """``file``: of the model that is loaded. ``on_swapped`` is called when another one is."""
        self._settings, self._source, self._file = settings, source, file
        self._pool, self._audit, self._telemetry = pool, audit, telemetry
        self._on_swapped = on_swapped
        self.latest: Swap | None = None
        self._task: asyncio.Task[Swap] | None = None

    def begin(self, model: str, *, unload_first: bool, by: str) -> "asyncio.Task[Swap]":
        """Begin to swap the model for that of a name, or ``OF_SETTINGS``; the task returns how it ended.

        Raises:
            RequestError: another swap is under way.
        """
        if self._task and not self._task.done():
            raise RequestError(409, f"a swap is under way: {self.latest.model if self.latest else ''}")
        number = self.latest.number + 1 if self.latest else 1
        name = model or str(self._settings.whisper_model_path or self._settings.whisper_model)
        self.latest = Swap(number=number, model=name, by=by, at=datetime.now(UTC), state="loading")
        log.info("a swap of the model begins", extra={"model": name, "by": by, "unload_first": unload_first})
        self._task = asyncio.create_task(self._run(self.latest, model, unload_first=unload_first))
        return self._task

    async def close(self) -> None:
        """Wait for no swap any more."""
        if self._task:
            await cancel([self._task])

    async def _run(self, swap: Swap, name: str, *, unload_first: bool) -> Swap:
        outcome: SwapOutcome = "failed"
        why, begun_s, before = "an error of ours", time.monotonic(), self._pool.model.name
        try:
            outcome, why = await self._outcome(swap, name, unload_first=unload_first), ""
        except (ConfigError, _RefusedError) as error:
            outcome, why = "refused", str(error)
        except StartError as error:
            why = str(error)
        except Exception:
            log.exception("a swap of the model failed")
        self.latest = ended = swap.model_copy(update={"state": outcome, "error": why})
        self._telemetry.counters().model_swaps[outcome] += 1
        extra = {"model": self._pool.model.name, "by": swap.by, "took_s": round(time.monotonic() - begun_s, 2)}
        if outcome == "swapped":
            capacity = {"rtf": round(self._pool.rtf, 4), "queue_capacity": self._pool.capacity}
            log.info("the model is swapped", extra={**extra, "before": before, **capacity})
            self._on_swapped()
        elif outcome == "unchanged":
            log.info("the model is not swapped: its file has not changed", extra=extra)
        else:
            log.warning("the model is not swapped: %s", why, extra=extra)
        return ended

    async def _outcome(self, swap: Swap, name: str, *, unload_first: bool) -> SwapOutcome:
        """Swap.

        Raises:
            StartError, _RefusedError: the daemon has the model that it had.
        """
        file = await in_thread(partial(ModelFile.find, self._source, self._settings, name))
        if file == self._file:
            return "unchanged"
        lack = await in_thread(partial(self._source.lack_of_room, file.path, self._settings, self._pool.device))
        if lack and not unload_first:
            raise _RefusedError(f"no room beside {self._pool.model.name}: {lack}")
        await self._on_record(swap, "begun")
        load = partial(load_fitting, self._source, settings=self._settings)
        again = partial(load, self._file.path) if unload_first else None
        await swap_models(self._pool.workers, partial(load, file.path), again)
        self._file = file
        await self._on_record(swap, "done")
        return "swapped"

    async def _on_record(self, swap: Swap, phase: str) -> None:
        """Write the audit entry, if there is an audit."""
        try:
            await self._audit.write("swapped", by=swap.by, what=swap.model, phase=phase)
        except UnansweredError as error:
            if phase == "begun":
                raise _RefusedError(str(error)) from None
            log.warning("%s", error)


class _RefusedError(Exception):
    """Nothing was done; the message says why."""
