"""The pool in which clips are decoded. Event loop side."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Value = TypeVar("Value")

THREADS = 2


class Decoding:
    """A small pool of threads for clips."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS, "decode")

    async def run(
        self, function: Callable[Arguments, Value], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Value:
        """Run it in the pool."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: function(*args, **kwargs))
