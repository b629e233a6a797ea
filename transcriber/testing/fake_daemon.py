"""The real daemon with a fake model: ``python -m transcriber.testing.fake_daemon``. Our own tests and ``bench.chaos`` use it.

In: the daemon's settings, the variables of ``fake_model``, and those below. Out: the daemon; with ``WHISPER_PROCESSES`` each model is in
a process of its own, which kills and crashes end, and not the daemon.

With SPEAKERS=voices each hundred of levels is a voice. FAKE_VOICE_FAILS_AT: the hundred at which its network raises.

FAKE_SET="module:NAME=number ...": constants to set. FAKE_BEFORE="module:Class.method:n SIGKILL": the signal that the process
sends itself before the n-th call of a method; or RAISE, or HANG. FAKE_GC=0: no collection of reference cycles.
"""

import gc
import importlib
import itertools
import os
import signal
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transcriber import cli
from transcriber.config import load_settings
from transcriber.diarization.live_labeller import LiveLabeller
from transcriber.engine.remote.model import RemoteModel
from transcriber.engine.swap import ModelSource
from transcriber.errors import StartError
from transcriber.logs import configure
from transcriber.service import serve
from transcriber.testing.fake_model import load_fake_model

FIRST, STEP = 495, 270
"""Samples to the middle of a frame of activity, and from one to the next."""

LOAD = "transcriber.testing.fake_model:load_fake_model"


class LevelNetworks:
    """Stands for ``diarization.networks.VoiceNetworks``: who speaks is heard by level."""

    def __init__(self) -> None:
        self.fail_at = int(os.environ.get("FAKE_VOICE_FAILS_AT", "9999"))

    def activity(self, samples: NDArray[np.float32]) -> NDArray[np.bool_]:
        hundreds = np.round(samples[FIRST : len(samples) - FIRST : STEP] * 1000).astype(int) // 100
        voices = [voice for voice in dict.fromkeys(hundreds.tolist()) if voice][:3]
        active = np.zeros((len(hundreds), 3), bool)
        for local, voice in enumerate(voices):
            active[:, local] = hundreds == voice
        return active

    def voice(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        hundred = round(float(np.median(samples)) * 1000) // 100
        if 100 * hundred == self.fail_at:
            raise RuntimeError("the fake network failed, as requested")
        vector = np.zeros(192, np.float32)
        vector[hundred] = 1
        return vector


def patch_modules() -> None:
    """Apply FAKE_SET and FAKE_BEFORE to our own modules."""
    for change in os.environ.get("FAKE_SET", "").split():
        name, _, value = change.partition("=")
        owner, attribute = find_attribute(name)
        setattr(owner, attribute, float(value))
    if before := os.environ.get("FAKE_BEFORE"):
        place, number = before.split()
        name, _, count = place.rpartition(":")
        owner, attribute = find_attribute(name)
        calls, original = itertools.count(1), getattr(owner, attribute)

        def interrupted(*args: Any, **kwargs: Any) -> Any:
            if next(calls) == int(count):
                if number == "RAISE":
                    raise RuntimeError("raised, as requested")
                if number == "HANG":
                    time.sleep(3600)
                os.kill(os.getpid(), signal.Signals[number])
            return original(*args, **kwargs)

        setattr(owner, attribute, interrupted)


def find_attribute(name: str) -> tuple[Any, str]:
    """``package.module:Class.attribute`` as the class, or module, and the attribute's name."""
    module, _, path = name.partition(":")
    owner = importlib.import_module(module)
    *parts, attribute = path.split(".")
    for part in parts:
        owner = getattr(owner, part)
    return owner, attribute


def main() -> None:
    """Run the daemon; the process ends as the command's does, which leaves threads that hang behind."""
    cli._run = run  # noqa: SLF001 - all of the command but which model it makes
    sys.exit(cli.main([]))


def run(argv: Sequence[str] | None) -> int:  # noqa: ARG001 - as it replaces
    """Serve, and return the exit status."""
    patch_modules()
    try:
        settings = load_settings().on_device("cpu")
        configure(settings.log_level, settings.log_format)
        owner, loads = find_attribute("transcriber.service:load_labeller")
        setattr(owner, loads, lambda hold_back_s: LiveLabeller(LevelNetworks(), hold_back_s))
        load = partial(RemoteModel, LOAD) if settings.whisper_processes else load_fake_model
        serve(settings, ModelSource(lambda wanted, name: Path(name or wanted.whisper_model or "fake"), load))
    except StartError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_status
    return 0


if __name__ == "__main__":
    if os.environ.get("FAKE_GC") == "0":
        gc.disable()
    main()
