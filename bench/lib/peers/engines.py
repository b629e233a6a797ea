"""The speech engines to compare, each in a process of its own, asked one window at a time.

An engine is a function from 5 s of samples to text. The process allows another build of the same library, and keeps the
engines' threads out of each other's way.
"""

import importlib.util
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

WAITING = ("GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""How threads wait is set by ``transcriber.engine`` and read when a library is loaded; peers keep their own defaults."""

Samples = NDArray[np.float32]
Transcribe = Callable[[Samples], str]


@dataclass(frozen=True, slots=True)
class Engine:
    """What is asked, and how.

    Attributes:
        label: for tables.
        make: loads the engine; called in its process with a model's name and threads.
        package: what must be installed.
        ours: whether it is this project.
        site: a folder that goes before all others on the import path.
    """

    label: str
    make: Callable[[str, int], Transcribe]
    package: str
    ours: bool = False
    site: Path | None = None

    @property
    def installed(self) -> bool:
        return importlib.util.find_spec(self.package) is not None


class Running:
    """An engine in its process, loaded and warm."""

    def __init__(self, engine: Engine, model: str, threads: int, windows: list[Samples]) -> None:
        self.engine = engine
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, engine, model, threads, windows), daemon=True)
        self._process.start()
        self._answer()

    def ask(self, window: int) -> tuple[float, str]:
        """Milliseconds for one window, and its text."""
        self._pipe.send(window)
        time_ms, text = self._answer()
        return float(time_ms), str(text)

    def close(self) -> None:
        self._pipe.close()
        self._process.join(10)

    def _answer(self) -> Any:
        if not self._pipe.poll(300):
            raise SystemExit(f"{self.engine.label} does not answer")
        return self._pipe.recv()


def _serve(pipe: Connection, engine: Engine, model: str, threads: int, windows: list[Samples]) -> None:
    """The process: warm up, then time and text of each window asked for."""
    if engine.site:
        sys.path.insert(0, str(engine.site))
    if not engine.ours:
        for name in WAITING:
            os.environ.pop(name, None)
    transcribe = engine.make(model, threads)
    transcribe(windows[0])
    pipe.send("warm")
    while True:
        try:
            window = windows[pipe.recv()]
        except EOFError:
            return
        started_s = time.perf_counter()
        text = transcribe(window)
        pipe.send((1000 * (time.perf_counter() - started_s), text))


# How each is called. Whatever is not named is the engine's own default.


@dataclass(frozen=True, slots=True)
class Ours:
    """The daemon's whisper path, on a model file of the type ``kind``."""

    kind: str = "f16"

    def __call__(self, model: str, threads: int) -> Transcribe:
        from bench.lib.shapes import find  # noqa: PLC0415
        from transcriber.config import load_settings  # noqa: PLC0415
        from transcriber.engine.whisper.model import load_model  # noqa: PLC0415

        path = find(model if self.kind == "f16" else f"{model}-{self.kind}")
        loaded = load_model(path, load_settings(whisper_threads=threads, whisper_device="cpu"))

        def transcribe(samples: Samples) -> str:
            # As the worker does while its queue is short.
            first = loaded.transcribe(samples, "en", lambda: False)
            if first.doubt and loaded.tight:
                return loaded.transcribe(samples, "en", lambda: False, wide=True).text
            return first.text

        return transcribe


def pywhispercpp_defaults(model: str, threads: int) -> Transcribe:
    from pywhispercpp.model import Model  # noqa: PLC0415

    from bench.lib.shapes import find  # noqa: PLC0415

    loaded = Model(
        str(find(model)), n_threads=threads, language="en", print_progress=False, redirect_whispercpp_logs_to=None
    )
    return lambda samples: " ".join(segment.text for segment in loaded.transcribe(samples))


@dataclass(frozen=True, slots=True)
class FasterWhisper:
    """faster-whisper; its default beam is 5."""

    compute_type: str
    beam_size: int = 5

    def __call__(self, model: str, threads: int) -> Transcribe:
        from faster_whisper import WhisperModel  # noqa: PLC0415

        from bench.lib.peers.model_folders import ctranslate2_folder  # noqa: PLC0415

        folder = str(ctranslate2_folder(model))
        loaded = WhisperModel(folder, device="cpu", compute_type=self.compute_type, cpu_threads=threads)
        return lambda samples: " ".join(
            segment.text for segment in loaded.transcribe(samples, language="en", beam_size=self.beam_size)[0]
        )


def openai_whisper(model: str, threads: int) -> Transcribe:
    import torch  # noqa: PLC0415
    import whisper  # noqa: PLC0415

    from bench.lib.peers.model_folders import openai_checkpoint  # noqa: PLC0415

    torch.set_num_threads(threads)
    loaded = whisper.load_model(str(openai_checkpoint(model)), device="cpu")
    return lambda samples: str(loaded.transcribe(samples, language="en", fp16=False)["text"])
