"""A model in another process, which is started again when it dies.

In: windows of samples. Out: transcripts, as of a model in this process. Two threads: the worker's, which calls, and one that starts the
process, waits for its end and starts the next one, so that it is back sooner than the next window comes.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transcriber.config import Settings
from transcriber.engine.job import WHISPER_SAMPLE_RATE, Device
from transcriber.engine.language_evidence import LanguageProbabilities
from transcriber.engine.remote.channel import MAX_SAMPLES, Call, Order, Ready, SharedAudio
from transcriber.engine.remote.process import POLL_S, ModelProcess
from transcriber.engine.transcript import Transcript
from transcriber.errors import EngineError, ModelError, StartError

log = logging.getLogger(__name__)

RETRY_S, MAX_RETRIES = 1.0, 4
"""A restart comes at once. If it fails the next one comes after so many seconds, and each further one after twice as many."""

LATE_S = 60.0
"""A restart that takes longer counts as not alive."""

MIN_START_LIMIT_S, START_FACTOR = 60.0, 10
"""A restart may take so many seconds, or so many times as long as the first start."""

MIN_PATIENCE_S, PATIENCE_FACTOR = 2.0, 2
"""So long an aborted call may go on, or so many times as long as the slowest call: an encoder run cannot be aborted."""


_card = threading.Lock()
"""Held while a process loads its model onto the card: each first looks whether it has room there, which another one may be taking."""


class RemoteModel:
    """A ``MultilingualModel`` and ``RestartingModel`` in a process of its own. ``transcribe``, ``detect``, ``wait`` and ``close``: worker thread only.

    Attributes:
        name, tight, translates: those of the model.
        device: where it runs since its last start; any thread.
        restarts: how often its process has died and was started again.
        on_failure: called once, on another thread, with why it cannot be started again.
    """

    def __init__(self, load: str, path: Path, settings: Settings, device: Device | None = None) -> None:
        """Blocks until it is loaded. ``load``: ``module:function`` that makes it of ``path``, ``settings`` and ``device``, in the process.

        Raises:
            StartError: it cannot be used.
        """
        self.restarts = 0
        self.on_failure: Callable[[BaseException], None] = _ignore
        self._load, self._path, self._device = load, path, device
        one = {"whisper_workers": 1, "whisper_processes": 0, "whisper_threads": settings.threads}
        self._settings = settings.model_copy(update=one)
        self._worker = threading.current_thread().name
        self._audio = SharedAudio()
        self._changed = threading.Condition()
        self._process: ModelProcess | None = None  # that lives
        self._ready: Ready | None = None  # of the first one
        self.device: Device  # set by the other thread
        self._usable = False
        self._closed = False
        self._failure: BaseException | None = None
        self._away_since_s = time.monotonic()
        self._first_start_s = 0.0
        self._slowest_s = 0.0
        # A daemon: it waits for a process.
        self._supervisor = threading.Thread(target=self._supervise, name=f"process of {self._worker}", daemon=True)
        self._supervisor.start()
        ready = self._first()
        self.name, _, self.tight, self.translates, self._languages = ready

    @property
    def late(self) -> bool:
        """Whether it has been away for longer than a restart should take. Any thread."""
        return not self._usable and time.monotonic() - self._away_since_s > LATE_S

    def supports(self, language: str) -> bool:
        """See ``SpeechModel.supports``."""
        return language in self._languages

    def transcribe(
        self,
        samples: NDArray[np.float32],
        language: str | None,
        should_abort: Callable[[], bool],
        *,
        wide: bool = False,
        prompt: str = "",
        translate: bool = False,
        greedy: bool = False,
    ) -> Transcript:
        """See ``SpeechModel.transcribe``. While the process is away it waits for it, until it is aborted."""
        options = {"wide": wide, "prompt": prompt, "translate": translate, "greedy": greedy}
        answer = self._call(Call("transcribe", len(samples), language, options), samples, should_abort)
        if not isinstance(answer, Transcript):
            raise TypeError(f"no transcript: {answer!r}")
        return answer

    def detect(self, samples: NDArray[np.float32], should_abort: Callable[[], bool]) -> LanguageProbabilities:
        """See ``MultilingualModel.detect``. A process that detects for long after it was to abort is killed, as in ``transcribe``."""
        answer = self._call(Call("detect", len(samples), None, {}), samples, should_abort)
        if not isinstance(answer, LanguageProbabilities):
            raise TypeError(f"no probabilities: {answer!r}")
        return answer

    def wait(self, should_stop: Callable[[], bool]) -> None:
        """Wait until the process can be called, or ``should_stop``.

        Raises:
            RuntimeError: it cannot be started again.
        """
        self._living(should_stop)

    def close(self) -> None:
        """End the process; it is not started again."""
        with self._changed:
            self._closed = True
            process, usable = self._process, self._usable
            self._changed.notify_all()
        if process and usable:
            process.hang_up()
        elif process:
            process.kill("is not needed any more")
        self._supervisor.join()
        self._audio.close()

    def _first(self) -> Ready:
        """Of the first process, once it has loaded the model.

        Raises:
            StartError: it cannot.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._failure)
            if self._ready:
                return self._ready
        self._audio.close()
        raise self._failure or AssertionError

    def _call(self, call: Call, samples: NDArray[np.float32], should_abort: Callable[[], bool]) -> object:
        if call.n_samples > MAX_SAMPLES:
            raise EngineError(f"{call.n_samples / WHISPER_SAMPLE_RATE:g} s do not fit any context")
        if should_abort():
            raise EngineError("aborted before it began")
        answer = None
        while answer is None:
            process = self._living(should_abort)
            if process is None:
                raise EngineError("aborted while its process was started again")
            self._audio.write(samples)
            begun_s = time.monotonic()
            answer = process.call(call, should_abort, max(MIN_PATIENCE_S, PATIENCE_FACTOR * self._slowest_s))
            self._slowest_s = max(self._slowest_s, time.monotonic() - begun_s)
        return answer

    def _living(self, should_stop: Callable[[], bool]) -> ModelProcess | None:
        """The process, once it can be called; None: stopped before that."""
        with self._changed:
            while not self._usable or self._process is None or self._process.lost:
                if self._failure:
                    raise RuntimeError(f"the model cannot be started again: {self._failure}")
                if should_stop():
                    return None
                self._changed.wait(POLL_S)
            return self._process

    # The other thread.

    def _supervise(self) -> None:
        """The thread's outermost frame: start it, wait for its end, start the next one; until it is closed or given up."""
        retries = 0
        try:
            while not self._closed:
                error = self._live_once()
                if error is None:
                    retries = 0
                    continue
                if self._ready is None or retries == MAX_RETRIES:
                    self._give_up(error)
                    return
                after_s = RETRY_S * 2**retries
                retries += 1
                if not self._closed:
                    log.error("%s; tried again in %g s", error, after_s, extra={"worker": self._worker})
                    with self._changed:
                        self._changed.wait_for(lambda: self._closed, after_s)
        except BaseException as error:  # noqa: BLE001 - handed to the worker, which raises it
            self._give_up(error)

    def _give_up(self, error: BaseException) -> None:
        with self._changed:
            self._failure = error
            self._changed.notify_all()
        if self._ready and not self._closed:
            self.on_failure(RuntimeError(f"the model cannot be started again: {error}"))

    def _live_once(self) -> StartError | None:
        """One process, from its start to its end; returns why it could not be started."""
        try:
            process = ModelProcess(self._audio)
        except OSError as error:
            return ModelError(f"{self._path}: no process can be started for it: {error.strerror}")
        with self._changed:
            self._process = process
            if self._closed:
                process.kill("is not needed any more")
        try:
            self._start(process)
            process.wait()
            self._note_death(process)
        except StartError as error:
            process.kill("could not load the model")
            process.wait()
            return error
        finally:
            process.free()
        return None

    def _start(self, process: ModelProcess) -> None:
        """Wait until it has loaded its model.

        Raises:
            StartError: it cannot.
        """
        limit_s = max(MIN_START_LIMIT_S, START_FACTOR * self._first_start_s) if self._ready else None
        again = self._ready is not None
        order = Order(self._load, self._path, self._settings, self._device, warm=again)
        with self._alone_on_card():
            begun_s = time.monotonic()
            ready = process.wait_until_ready(order, limit_s)
        took_s = time.monotonic() - begun_s
        if again:
            log.info("the model is back", extra={"worker": self._worker, "start_s": round(took_s, 2)})
        with self._changed:
            if not again:
                self._first_start_s, self._ready = took_s, ready
            self.device = ready.device  # a card that was there may not be any more
            self._usable = True
            self._changed.notify_all()

    @contextmanager
    def _alone_on_card(self) -> Iterator[None]:
        """Wait until no other process loads onto the card, if this one does; not once it is closed, since then it loads nothing."""
        held = False
        if self._device and self._device.kind != "cpu":
            while not held and not self._closed:
                asked_s = time.monotonic()
                held = _card.acquire(timeout=POLL_S)
                self._away_since_s += time.monotonic() - asked_s  # late is who loads, not who waits for that
        try:
            yield
        finally:
            if held:
                _card.release()

    def _note_death(self, process: ModelProcess) -> None:
        with self._changed:
            self._usable = False
            self._away_since_s = time.monotonic()
        if not self._closed:
            self.restarts += 1
            log.error("%s; it is started again", process.end, extra={"worker": self._worker, "restarts": self.restarts})


def _ignore(_: BaseException) -> None:
    """Nobody has asked."""
