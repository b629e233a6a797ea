"""What is set up in several steps for an ``async with`` block: whatever of it was there is taken down, also where a step fails."""

from contextlib import AsyncExitStack
from typing import Self


class Staged:
    """Event loop only. Heirs put what they set up on ``_stack`` in ``_enter``."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with self._stack:
            await self._enter()
            self._stack = self._stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _enter(self) -> None:
        raise NotImplementedError
