"""How tasks are ended."""

import asyncio
from collections.abc import Collection
from typing import Any

AGAIN_S = 0.1


async def cancel(tasks: Collection["asyncio.Task[Any]"]) -> None:
    """Cancel ``tasks`` and wait until they are over, whatever they raise.

    More than once, if need be: on Python 3.11 ``asyncio.wait_for``, in which nats-py waits for every answer, loses a
    cancellation that comes together with the answer (CPython issue 86296).
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=AGAIN_S)
    await asyncio.gather(*tasks, return_exceptions=True)
