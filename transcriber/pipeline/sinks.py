"""Where messages of a stream go: a publisher, a stored stream, or a buffer. Event loop only."""

from collections.abc import Callable
from typing import Protocol

from transcriber.schema.messages import AnyMessage


class MessageSink(Protocol):
    """Takes messages to publish; ``Publisher`` is one."""

    def put(self, build: Callable[[], AnyMessage], traceparent: str, rev: int = 0, channel: int = 0) -> None:
        """Publish what ``build`` returns, after all that was put before."""
        ...


class BufferedSink:
    """Keeps messages until they are taken."""

    def __init__(self) -> None:
        self._messages: list[tuple[Callable[[], AnyMessage], str, int, int]] = []

    def put(self, build: Callable[[], AnyMessage], traceparent: str, rev: int = 0, channel: int = 0) -> None:
        self._messages.append((build, traceparent, rev, channel))

    def take(self) -> list[tuple[Callable[[], AnyMessage], str, int, int]]:
        """What was put since the last call: builder, ``traceparent``, ``rev`` and ``channel`` of each."""
        messages, self._messages = self._messages, []
        return messages
