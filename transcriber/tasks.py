"""Ending tasks, commands and the daemon. Event loop only, except ``interrupt_on_sigterm``."""

import asyncio
import os
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


def stop_signal() -> asyncio.Future[None]:
    """Resolves at the first SIGTERM or SIGINT; from then on a second one kills. Where stdin is a terminal SIGHUP, at its end, is a first one."""
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[None] = loop.create_future()
    # The kernel's default is the surest, but it does not apply to process 1 of a container.
    kill = (lambda number, _: os._exit(128 + number)) if os.getpid() == 1 else signal.SIG_DFL

    def stop_once() -> None:
        if stop.done():  # two signals at once
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
            signal.signal(number, kill)
        stop.set_result(None)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop_once)
    if os.isatty(0):
        loop.add_signal_handler(signal.SIGHUP, stop_once)  # it may come twice, of the kernel and of a shell
    return stop


def hangup_signal() -> asyncio.Event:
    """Set at each SIGHUP, unless stdin is a terminal."""
    hangup = asyncio.Event()
    if not os.isatty(0):
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hangup.set)
    return hangup
