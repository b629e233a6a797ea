"""The process of one model: ``python -P -m transcriber.engine.remote.child CONNECTION SAMPLES``, two descriptors.

In: an order and calls, see ``channel``. Out: answers and log records. It ends when the daemon closes the connection, or dies. It imports
neither NATS nor OpenTelemetry. What native code writes to stderr is read by the daemon; so is the traceback of a crash.
"""

import logging
import os
import queue
import sys
from contextlib import suppress
from importlib import import_module
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection
from typing import Any

from transcriber.engine.job import CPU, PlacedModel, SpeechModel
from transcriber.engine.remote.channel import Call, Order, Ready, SharedAudio, send
from transcriber.engine.warm_up import self_test_speech
from transcriber.errors import EngineError, ModelError, StartError
from transcriber.schema.languages import WHISPER_LANGUAGES


def main() -> None:
    """Load the model, answer calls until the connection is closed."""
    connection: Connection[Any, Any] = Connection(int(sys.argv[1]))
    audio = SharedAudio(int(sys.argv[2]))
    with suppress(EOFError, ConnectionError):  # the daemon is gone
        order: Order = connection.recv()
        root = logging.getLogger()
        root.setLevel(order.settings.log_level)
        root.addHandler(_ToDaemon(connection))
        try:
            model = _load(order)
        except StartError as error:
            send(connection, error)
            return
        languages = frozenset(one for one in WHISPER_LANGUAGES if model.supports(one))
        device = model.device if isinstance(model, PlacedModel) else CPU
        send(connection, Ready(model.name, device, model.tight, model.translates, languages))
        while True:
            send(connection, _answer(model, connection.recv(), audio))
    os._exit(0)  # the kernel frees the model sooner than whisper.cpp does


def _load(order: Order) -> SpeechModel:
    """Load, and try it if asked to.

    Raises:
        StartError: the model cannot be used.
    """
    module, _, function = order.load.partition(":")
    given = (order.path, order.settings, *([order.device] if order.device else []))
    model: SpeechModel = getattr(import_module(module), function)(*given)
    if order.warm:
        try:
            model.transcribe(self_test_speech(), "en", lambda: False)
        except EngineError as error:
            raise ModelError(f"model {model.name} failed its self-test: {error}") from error
    return model


def _answer(model: Any, call: Call, audio: SharedAudio) -> object:
    samples = audio.read(call.n_samples)
    try:
        if call.function == "detect":
            return model.detect(samples, lambda: audio.abort)
        return model.transcribe(samples, call.language, lambda: audio.abort, **call.options)
    except EngineError as error:
        return error


class _ToDaemon(QueueHandler):
    """Sends log records to the daemon, formatted, so that they can be pickled."""

    def __init__(self, connection: "Connection[Any, Any]") -> None:
        super().__init__(queue.SimpleQueue())  # not used
        self._connection = connection

    def enqueue(self, record: logging.LogRecord) -> None:
        send(self._connection, record)


if __name__ == "__main__":
    main()
