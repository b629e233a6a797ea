"""Where messages of a stream go: a publisher, a store, or a list that is taken later. Event loop only."""

from collections.abc import Callable
from typing import Protocol

from transcriber.schema.messages import AnyMessage


class MessageSink(Protocol):
    """Where messages go; ``Publisher`` is one."""

    def put(self, build: Callable[[], AnyMessage], traceparent: str, rev: int = 0, channel: int = 0) -> None:
        """Send what ``build`` returns, after all that was put before."""
        ...


class BufferedSink:
    """Takes what is told of an entry, until it is stored."""

    def __init__(self) -> None:
        self._messages: list[tuple[Callable[[], AnyMessage], str, int, int]] = []

    def put(self, build: Callable[[], AnyMessage], traceparent: str, rev: int = 0, channel: int = 0) -> None:
        self._messages.append((build, traceparent, rev, channel))

    def take(self) -> list[tuple[Callable[[], AnyMessage], str, int, int]]:
        """What was put since."""
        messages, self._messages = self._messages, []
        return messages
