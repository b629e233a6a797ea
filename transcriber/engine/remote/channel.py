"""What a daemon and the process of its model send each other.

Objects, pickled, over a socket pair; samples and the abort flag in memory that both have mapped. First the daemon sends an ``Order``,
and the process answers with ``Ready`` or a ``StartError``. Then each ``Call`` is answered with what the model returned, or its
``EngineError``. Log records may come before an answer.
"""

import mmap
import os
import pickle
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from transcriber.config import Settings
from transcriber.engine.job import WHISPER_SAMPLE_RATE, Device

MAX_SAMPLES = 30 * WHISPER_SAMPLE_RATE
"""Whisper's whole context; no model takes more."""

HEADER_BYTES = 64
"""The abort flag, and nothing else in its cache line."""

SHARED_BYTES = HEADER_BYTES + 4 * MAX_SAMPLES


class Order(NamedTuple):
    """Which model to load.

    Attributes:
        load: ``module:function`` that makes it of ``path`` and ``settings``.
        device: where it runs, as the daemon found it; None: as the settings say.
        warm: whether it transcribes a clip before it counts as started.
    """

    load: str
    path: Path
    settings: Settings
    device: Device | None
    warm: bool


class Ready(NamedTuple):
    """The model is loaded; the attributes are those of a ``PlacedModel``, and the ``languages`` that it supports."""

    name: str
    device: Device
    tight: bool
    translates: bool
    languages: frozenset[str]


class Call(NamedTuple):
    """One call of the model, on the first ``n_samples`` of the shared memory."""

    function: Literal["transcribe", "detect"]
    n_samples: int
    language: str | None
    options: dict[str, Any]


def send(connection: "Connection[Any, Any]", message: object) -> None:
    """As ``Connection.send``, whose buffer, if it fails, stays in the traceback: to collect it crashes some releases of Python 3.12.

    Raises:
        OSError: nobody reads any more.
    """
    connection.send_bytes(pickle.dumps(message))


class SharedAudio:
    """Samples of the call in hand, and whether it is to be aborted. Each process maps the same anonymous file.

    The daemon writes, while no call is in hand; but for ``abort``, which it sets while one is.
    """

    def __init__(self, file: int | None = None) -> None:
        """``file``: the descriptor of one that exists; None makes one."""
        self.file = os.memfd_create("samples") if file is None else file
        if file is None:
            os.ftruncate(self.file, SHARED_BYTES)
        self._memory = mmap.mmap(self.file, SHARED_BYTES)
        self._samples = np.frombuffer(self._memory, np.float32, MAX_SAMPLES, HEADER_BYTES)

    @property
    def abort(self) -> bool:
        """Whether the call in hand is to end. Reading it costs what reading a byte costs."""
        return self._memory[0] != 0

    @abort.setter
    def abort(self, wanted: bool) -> None:
        self._memory[0] = wanted

    def write(self, samples: NDArray[np.float32]) -> None:
        """Put the samples of a call, at most ``MAX_SAMPLES``; it is not to be aborted yet."""
        self.abort = False
        self._samples[: len(samples)] = samples

    def read(self, count: int) -> NDArray[np.float32]:
        """The samples of the call in hand: (count,), valid until the next one, not to be written."""
        samples = self._samples[:count]
        samples.flags.writeable = False
        return samples

    def close(self) -> None:
        """Give back the descriptor; the memory goes with the object."""
        os.close(self.file)
