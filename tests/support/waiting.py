"""Waiting for what must come, however busy the machine is."""

import asyncio
import time

PATIENCE_S = 120.0
"""Longer than anything takes on the busiest machine: it ends a test that hangs, and proves nothing."""


async def until(condition, what="the condition"):
    """Wait for ``condition()``, which may be slow to come but must come; returns what it returned."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline_s, f"waited {PATIENCE_S:.0f} s in vain for {what}"
        await asyncio.sleep(0.01)
    return found


async def settled(client):
    """Wait until the broker has all, and its answers are here. Twice: nats-py's first PING overtakes what it has queued."""
    await client.flush()
    await client.flush()
