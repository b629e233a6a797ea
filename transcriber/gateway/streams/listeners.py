"""Listeners. In: items, as they come. Out: each listener's own, in order; one that does not keep up is dropped."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from transcriber.telemetry.gateway_figures import GatewayFigures

MOST_ITEMS, MOST_BYTES = 2_000, 2**20
"""That wait for one listener."""

STOPPING = "the gateway stops"


class Item(NamedTuple):
    """One event.

    Attributes:
        event: its type.
        data: one line.
        seq: stream sequence of a stored message.
    """

    event: str
    data: str
    seq: int | None


class Listener:
    """A bounded queue. Event loop only.

    Attributes:
        dropped: why the listener was dropped; empty if it was not.
        slow: whether it was for being slow.
    """

    def __init__(self, most_items: int = MOST_ITEMS, most_bytes: int = MOST_BYTES) -> None:
        self.dropped, self.slow = "", False
        self._most_items, self._most_bytes = most_items, most_bytes
        self._items: deque[Item] = deque()
        self._bytes = 0
        self._closed = False
        self._more, self._gone = asyncio.Event(), asyncio.Event()

    def put(self, event: str, data: str, seq: int | None) -> None:
        """Add an item; the listener is dropped if it does not fit."""
        if self._closed:
            return
        self._items.append(Item(event, data, seq))
        self._bytes += len(data)
        if len(self._items) > self._most_items or self._bytes > self._most_bytes:
            self.slow = True
            self.close(f"slow reader: {len(self._items)} messages, {self._bytes} characters wait")
        self._more.set()

    def close(self, why: str) -> None:
        """Drop the listener, and what waits for it."""
        self.dropped = self.dropped or why
        self._closed = True
        self._items.clear()
        self._bytes = 0
        self._more.set()
        self._gone.set()

    async def batches(self) -> AsyncIterator[list[Item]]:
        """What has come, as often as something has, until the listener is dropped."""
        while not self._closed:
            if not self._items:
                self._more.clear()
                await self._more.wait()
            batch = list(self._items)
            self._items.clear()
            self._bytes = 0
            if batch:
                yield batch

    async def closed(self) -> None:
        """Wait until the listener is dropped."""
        await self._gone.wait()


class Audience:
    """Listeners that hear the same; all end when the gateway stops. Event loop only."""

    def __init__(self, stopping: asyncio.Event, figures: GatewayFigures) -> None:
        self._stopping, self._figures = stopping, figures
        self._listeners: set[Listener] = set()
        self._watching: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._listeners)

    @contextmanager
    def listener(self) -> Iterator[Listener]:
        """A listener, as long as the context."""
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch())
        one = Listener()
        self._listeners.add(one)
        try:
            yield one
        finally:
            self._listeners.discard(one)
            self._figures.readers_dropped["queue"] += one.slow
            if not self._listeners and self._watching is not None:
                self._watching.cancel()
                self._watching = None

    def put(self, event: str, data: str, seq: int | None = None) -> None:
        """An item for all."""
        for one in self._listeners:
            one.put(event, data, seq)

    def close(self, why: str) -> None:
        """Drop all."""
        for one in self._listeners:
            one.close(why)

    async def _watch(self) -> None:
        await self._stopping.wait()
        self.close(STOPPING)
