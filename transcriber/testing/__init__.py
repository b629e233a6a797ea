"""A test kit for what publishes to the daemon, or reads from it: ``docs/testing.md`` shows a whole test.

In: nothing but this package with its extra ``demo``. Out: a nats-server (``EmbeddedBroker``), the daemon as a process
(``DaemonProcess``), a network that fails (``FaultyProxy``), speech and what is said in it (``load_speech``,
``load_public_speech``), a check that every frame is accounted for (``account_errors``), and one of the words
(``word_errors``).

A name is imported when it is first used: importing this module loads neither a model nor a NATS client.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transcriber.testing.broker import EmbeddedBroker
    from transcriber.testing.daemon import DaemonProcess
    from transcriber.testing.faulty_proxy import FaultyProxy
    from transcriber.testing.speech import SPEECH_FORMAT, Recording, load_public_speech, load_speech
    from transcriber.testing.verify import account_errors
    from transcriber.testing.wer import word_errors, words

__all__ = [
    "SPEECH_FORMAT",
    "DaemonProcess",
    "EmbeddedBroker",
    "FaultyProxy",
    "Recording",
    "account_errors",
    "load_public_speech",
    "load_speech",
    "word_errors",
    "words",
]

_MODULES = {
    "broker": ("EmbeddedBroker",),
    "daemon": ("DaemonProcess",),
    "faulty_proxy": ("FaultyProxy",),
    "speech": ("SPEECH_FORMAT", "Recording", "load_public_speech", "load_speech"),
    "verify": ("account_errors",),
    "wer": ("word_errors", "words"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
