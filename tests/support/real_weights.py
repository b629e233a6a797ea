"""Real Whisper weights, fetched once for all tests and all processes of them.

They lie in the model folder of the user who runs the tests, as the daemon's own do, so that the next run finds them there.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from tests.support.durable_streams import provisioned
from tests.support.loop_thread import LoopThread
from transcriber.config import load_settings
from transcriber.errors import ModelError
from transcriber.models.find import find_named_model
from transcriber.testing.broker import EmbeddedBroker
from transcriber.testing.daemon import DaemonProcess


def real_model(name: str) -> Path:
    """The file of the model ``name``; where it cannot be had the test is skipped."""
    path, reason = _found(name)
    return path or pytest.skip(f"no weights of {name}: {reason}")


@contextmanager
def serving(name: str, folder: Path, **settings: str) -> Iterator[EmbeddedBroker]:
    """A broker that stores in ``folder``, with a daemon: for all tests of a module, as to load and measure a model takes seconds."""
    path = real_model(name)
    with EmbeddedBroker(store=folder) as broker, LoopThread() as loop:
        loop.run(provisioned(broker, files=settings.get("FILES") == "1"))
        with DaemonProcess(broker.url, str(path), **settings) as daemon:
            assert loop.run(daemon.ready()), daemon.log()
            yield broker


@cache
def _found(name: str) -> tuple[Path | None, str]:
    settings = load_settings()
    settings.whisper_model_dir.mkdir(parents=True, exist_ok=True)
    # Each test process would fetch them for itself, all at the same time.
    with (settings.whisper_model_dir / "tests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return find_named_model(settings, name), ""
        except ModelError as error:
            return None, str(error)
