"""An event loop in a thread of its own, for tests that drive a browser: in their own thread another loop is running."""

import asyncio
import threading
from contextlib import AsyncExitStack

from tests.support.waiting import PATIENCE_S


class LoopThread:
    """Runs coroutines, as long as the ``with`` block; what was entered is left at its end, the last first."""

    def __enter__(self):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._entered = AsyncExitStack()
        return self

    def __exit__(self, *_):
        self.run(self._entered.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()

    def run(self, coroutine):
        """What the coroutine returns."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE_S)

    def enter(self, context):
        """What an asynchronous context manager gives."""
        return self.run(self._entered.enter_async_context(context))
