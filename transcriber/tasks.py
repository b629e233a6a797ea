"""Ending tasks, and commands. Event loop only, except ``interrupt_on_sigterm``."""

import asyncio
import signal
from collections.abc import Collection, Coroutine
from typing import Any

AGAIN_S = 0.1

_detached: set["asyncio.Task[None]"] = set()


async def cancel(tasks: Collection["asyncio.Task[Any]"]) -> None:
    """Cancel ``tasks`` and wait until they have ended, whatever they raise.

    Cancels repeatedly: on Python 3.11 ``asyncio.wait_for``, in which nats-py waits for every reply, loses a cancellation that
    arrives together with the reply (CPython issue 86296).
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=AGAIN_S)
    await asyncio.gather(*tasks, return_exceptions=True)


async def to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Do ``work``, and wait for it; if the caller is cancelled, as ``cancel`` does repeatedly, the work continues without it."""
    task = asyncio.create_task(work)
    _detached.add(task)
    task.add_done_callback(_detached.discard)
    await asyncio.shield(task)


def interrupt_on_sigterm() -> None:
    """Have SIGTERM end a command as Ctrl-C does: ``publish`` still sends its end, ``pull`` cleans up."""
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
