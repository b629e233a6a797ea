"""How tasks are ended."""

import asyncio
import signal
from collections.abc import Collection, Coroutine
from typing import Any

AGAIN_S = 0.1

_detached: set["asyncio.Task[None]"] = set()


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


async def to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Do ``work``, and wait for it; if whoever waits is cancelled, as ``cancel`` does again and again, it goes on behind him."""
    task = asyncio.create_task(work)
    _detached.add(task)
    task.add_done_callback(_detached.discard)
    await asyncio.shield(task)


def interrupt_on_sigterm() -> None:
    """A command that is asked to stop takes its leave as with Ctrl-C: ``publish`` still sends its end, ``pull`` tidies up."""
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
