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
        make: loads the engine; called in its process with shape and threads.
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

    def __init__(self, engine: Engine, shape: str, threads: int, windows: list[Samples]) -> None:
        self.engine = engine
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, engine, shape, threads, windows), daemon=True)
        self._process.start()
        self.text: str = self._answer()

    def ask(self, window: int) -> float:
        """Milliseconds for one window."""
        self._pipe.send(window)
        return float(self._answer())

    def close(self) -> None:
        self._pipe.close()
        self._process.join(10)

    def _answer(self) -> Any:
        if not self._pipe.poll(300):
            raise SystemExit(f"{self.engine.label} does not answer")
        return self._pipe.recv()


def _serve(pipe: Connection, engine: Engine, shape: str, threads: int, windows: list[Samples]) -> None:
    """The process: warm up, say the text, then a time for each window asked for."""
    if engine.site:
        sys.path.insert(0, str(engine.site))
    if not engine.ours:
        for name in WAITING:
            os.environ.pop(name, None)
    transcribe = engine.make(shape, threads)
    transcribe(windows[0])
    pipe.send(transcribe(windows[0]))
    while True:
        try:
            window = windows[pipe.recv()]
        except EOFError:
            return
        started_s = time.perf_counter()
        transcribe(window)
        pipe.send(1000 * (time.perf_counter() - started_s))


# How each is called. Whatever is not named is the engine's own default.


@dataclass(frozen=True, slots=True)
class Ours:
    """The daemon's whisper path, on a model file of the type ``kind``."""

    kind: str = "f16"
    audio_ctx: str = "auto"
    threads: int | None = None
    device: str = "cpu"

    def __call__(self, shape: str, threads: int) -> Transcribe:
        from bench.shapes import model_file  # noqa: PLC0415
        from transcriber.config import load_settings  # noqa: PLC0415
        from transcriber.engine.whisper import load_model  # noqa: PLC0415

        settings = load_settings(
            whisper_threads=self.threads or threads, whisper_audio_ctx=self.audio_ctx, whisper_device=self.device
        )
        model = load_model(model_file(shape, self.kind), settings)
        return lambda samples: model.transcribe(samples, "en", lambda: False).text


def pywhispercpp_defaults(shape: str, threads: int) -> Transcribe:
    from pywhispercpp.model import Model  # noqa: PLC0415

    from bench.shapes import model_file  # noqa: PLC0415

    model = Model(str(model_file(shape)), n_threads=threads, print_progress=False, redirect_whispercpp_logs_to=None)
    return lambda samples: " ".join(segment.text for segment in model.transcribe(samples))


@dataclass(frozen=True, slots=True)
class FasterWhisper:
    """faster-whisper; its default beam is 5."""

    compute_type: str
    beam_size: int = 5

    def __call__(self, shape: str, threads: int) -> Transcribe:
        from faster_whisper import WhisperModel  # noqa: PLC0415

        from bench.peer_files import ctranslate2_folder  # noqa: PLC0415

        folder = str(ctranslate2_folder(shape))
        model = WhisperModel(folder, device="cpu", compute_type=self.compute_type, cpu_threads=threads)
        return lambda samples: " ".join(
            segment.text for segment in model.transcribe(samples, language="en", beam_size=self.beam_size)[0]
        )


def openai_whisper(shape: str, threads: int) -> Transcribe:
    import torch  # noqa: PLC0415
    import whisper  # noqa: PLC0415

    from bench.peer_files import openai_checkpoint  # noqa: PLC0415

    torch.set_num_threads(threads)
    model = whisper.load_model(str(openai_checkpoint(shape)), device="cpu")
    return lambda samples: str(model.transcribe(samples, language="en", fp16=False)["text"])
