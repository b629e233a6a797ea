"""Another model for the workers, while they work. In: what loads it. Out: each worker has its own, and the old ones are freed.

The new models are loaded, tested and measured on threads of their own, one after the other, so that the workers lose little time. Only
when all of them are ready does each worker take its own, between two windows. Whatever fails before that has changed nothing.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from transcriber.config import Settings
from transcriber.engine import WORKER_THREAD
from transcriber.engine.job import CPU, Device, DivisibleModel, PlacedModel, SpeechModel
from transcriber.engine.transcript import Transcript
from transcriber.engine.worker import Worker
from transcriber.errors import ConfigError, EngineError, ModelError

POLL_S = 0.01

Load = Callable[[], SpeechModel]
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where models come from. Each blocks; any thread.

    Attributes:
        find: the file of the model of the settings, or if a request has a name that of this name; fetched if need be.
        load: loads and tests it.
        lack_of_room: why there is no memory for one more beside what is loaded, on the device where that runs; empty: there is.
    """

    find: Callable[[Settings, str], Path]
    load: Callable[[Path, Settings], SpeechModel]
    lack_of_room: Callable[[Path, Settings, Device], str] = lambda *_: ""


def load_fitting(source: ModelSource, path: Path, *, settings: Settings) -> SpeechModel:
    """The model in ``path``, if it is one for these settings. Blocks; any thread.

    Raises:
        ConfigError: it is not.
        ModelError: it cannot be loaded.
    """
    model = source.load(path, settings.for_model)
    wanted = {"WHISPER_LANGUAGE": [] if settings.whisper_language == "auto" else [settings.whisper_language]}
    for name, languages in (wanted | {"WHISPER_LANGUAGES": settings.languages}).items():
        if lacking := [one for one in languages if not model.supports(one)]:
            model.close()
            value = getattr(settings, name.lower())
            raise ConfigError(f"{name}={value!r}: the model {model.name} does not know {lacking[0]!r}")
    return model


class SharedLoad:
    """Makes each worker's model, on the thread that calls: the first one loads, and the others, which wait for it, share its weights."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._loading = threading.Lock()
        self._first: SpeechModel | None = None

    def __call__(self) -> SpeechModel:
        with self._loading:
            if self._first is None:
                self._first = self._load()
                return self._first
        return self._first.sibling() if isinstance(self._first, DivisibleModel) else self._load()


class AbsentModel:
    """In the place of a model that was freed: a ``RestartingModel`` that is away, so that no job leaves the queue."""

    late = False

    def __init__(self, before: SpeechModel) -> None:
        """Says of itself what ``before`` does, until another one is there."""
        self.name, self.tight, self.translates = before.name, before.tight, before.translates
        self.supports = before.supports
        self.device = before.device if isinstance(before, PlacedModel) else CPU
        self.restarts = 0
        self.on_failure: Callable[[BaseException], None] = lambda _: None

    def wait(self, should_stop: Callable[[], bool]) -> None:
        """See ``RestartingModel.wait``."""
        while not should_stop():
            time.sleep(POLL_S)

    def transcribe(self, *_: Any, **__: Any) -> Transcript:
        """Nothing: it is called only where the daemon ends."""
        raise EngineError("no model is loaded")

    def close(self) -> None:
        """There is nothing to free."""


class _Warm(NamedTuple):
    model: SpeechModel
    rtf: float


async def swap_models(workers: Sequence[Worker], load: Load, load_again: Load | None = None) -> None:
    """Give each worker a model that ``load`` makes, and free those that they have. Event loop only.

    With ``load_again`` these are freed first, and made again by it if ``load`` fails; meanwhile jobs wait in the queue. If that fails,
    too, the workers end as if their threads had died.

    Raises:
        StartError: the model cannot be used; each worker has what it had.
    """
    if load_again is None:
        await _give(workers, await _make(workers, load))
        return
    await _give(workers, [_Warm(AbsentModel(worker.model), worker.capacity.rtf) for worker in workers])
    try:
        made = await _make(workers, load)
    except Exception:
        try:
            await _give(workers, await _make(workers, load_again))
        except Exception as error:  # noqa: BLE001 - handed to the service, which raises it
            for worker in workers:
                worker.fail(RuntimeError(f"neither model can be loaded: {error}"))  # a crash: it had started
        raise
    await _give(workers, made)


async def in_thread(function: Callable[[], Result], name: str = "") -> Result:
    """What ``function`` returns or raises, on a thread of its own, for whose end nothing waits at the end of the process."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Result] = loop.create_future()

    def settle(result: Result | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, error = None, None
        try:
            result = function()
        except BaseException as raised:  # noqa: BLE001 - handed to who waits
            error = raised
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name=name or f"{WORKER_THREAD}loader", daemon=True).start()
    return await done


async def _make(workers: Sequence[Worker], load: Load) -> list[_Warm]:
    """A warm model for each worker; or none at all."""
    shared, made = SharedLoad(load), list[_Warm]()
    undisturbed = {worker: worker.capacity.rtf for worker in workers}
    try:
        for worker in workers:
            model, rtf = await in_thread(partial(_load_warm, shared, worker), worker.name)
            # Each slows the other, and will not when it has taken its place: what the present model says of that is true of the new one.
            made.append(_Warm(model, rtf / max(1.0, worker.capacity.rtf / undisturbed[worker])))
    except BaseException:
        for model, _ in made:
            await in_thread(model.close)
        raise
    return made


def _load_warm(load: Load, worker: Worker) -> _Warm:
    """On the thread that loads."""
    model = load()
    if isinstance(worker.model, PlacedModel) and isinstance(model, PlacedModel):
        before, now = worker.model.device, model.device
        if now.kind == "cpu" and before.kind != "cpu":
            model.close()
            raise ModelError(f"{model.name} would run on the CPU, and not on {before.name}: {now.reason}")
    try:
        return _Warm(model, worker.warm_up(model))
    except BaseException:
        model.close()
        raise


async def _give(workers: Sequence[Worker], models: Sequence[_Warm]) -> None:
    """Have each worker take its model, and free the old one as soon as it does: another one may take long to finish its window."""

    async def give(worker: Worker, warm: _Warm) -> None:
        model = await worker.replace_model(*warm)
        await in_thread(model.close)

    await asyncio.gather(*map(give, workers, models))
