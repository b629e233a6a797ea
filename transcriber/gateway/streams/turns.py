"""One socket a session. In: sockets that publish sessions. Out: their turns, each of which ends with the next one of its session.

A client that comes again may be ahead of its own connection that broke: what that still brings must neither follow what the new one
publishes, nor count for where it goes on.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from starlette.requests import HTTPConnection


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """A socket's turn.

    Attributes:
        taken: set when another socket goes on with the session.
        over: set once nothing more is published.
    """

    taken: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Turns:
    """The sockets of one gateway. Event loop only."""

    def __init__(self) -> None:
        self._latest: dict[tuple[str, str], Turn] = {}

    def held(self, stream: str, session: str) -> bool:
        """Whether a socket has the turn, or waits for it."""
        return (stream, session) in self._latest

    @asynccontextmanager
    async def take(self, stream: str, session: str) -> AsyncIterator[Turn]:
        """The turn of a socket, as long as the context; it begins when the turn before it is over."""
        earlier, mine = self._latest.get((stream, session)), Turn()
        self._latest[stream, session] = mine
        try:
            if earlier:
                earlier.taken.set()
                await earlier.over.wait()
            yield mine
        finally:
            mine.over.set()
            if self._latest.get((stream, session)) is mine:
                del self._latest[stream, session]


def turns_of(connection: HTTPConnection) -> Turns:
    """The turns of a request's application."""
    state = connection.app.state
    if not hasattr(state, "turns"):
        state.turns = Turns()
    turns: Turns = state.turns
    return turns
