"""Whatever is wrong fails before "ready", with one clear line and the right status."""

import socket

import nats
import pytest

from transcriber.bus.connection import describe


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 4222)"), "nothing listens there"),
        (OSError("Multiple exceptions: [Errno 111] Connect call failed ('::1', 4222, 0, 0), [Errno 111] Connect call"), "nothing listens there"),
        (socket.gaierror(-2, "Name or service not known"), "there is no host of that name"),
        (OSError(101, "Connect call failed ('10.0.0.1', 4222)"), "Network is unreachable"),
        (TimeoutError(), "no answer"),
        (nats.errors.Error("nats: 'Authorization Violation' of nats://me:secret@host"), "'Authorization Violation' of nats://***@host"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_connection_is_said_in_words(error, words):
    assert describe(error) == words
