"""The chain of stored messages of one stream, on a real JetStream: each follows upon the last one, or is not stored."""

import asyncio
from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.support.waiting import PATIENCE_S
from transcriber.engine.job import Job, Lane
from transcriber.engine.job_queue import JobQueue
from transcriber.engine.queue_slots import QueueSlots


async def test_a_promised_slot_is_not_lost_to_a_faster_task():
    """Between the promise and its keeping another task takes the slot: the first task keeps waiting, ahead of all others."""
    queue = JobQueue(1)
    worker: Any = SimpleNamespace(queue=queue, on_room=[])
    places = QueueSlots(worker)
    taken = []

    async def take(name):
        await places.free()
        refused = queue.try_put(
            Job(stream=name, samples=np.zeros(0, np.float32), language=None, settle=lambda *_: None, lane=Lane.FINAL)
        )
        assert refused is None, f"{name} was promised a place"
        taken.append(name)

    await take("a")
    waiting = asyncio.create_task(take("b"))
    await asyncio.sleep(0)
    queue.get()
    worker.on_room[0]()
    await take("c")  # does not wait, as nobody else seems to
    await asyncio.sleep(0)
    assert not waiting.done()
    queue.get()
    worker.on_room[0]()
    await waiting

    assert taken == ["a", "c", "b"]


async def test_a_slot_is_not_promised_to_a_cancelled_task():
    queue = JobQueue(1)
    worker: Any = SimpleNamespace(queue=queue, on_room=[])
    places = QueueSlots(worker)
    job = Job(stream="a", samples=np.zeros(0, np.float32), language=None, settle=lambda *_: None, lane=Lane.FINAL)
    assert queue.try_put(job) is None
    cancelled, waiting = asyncio.create_task(places.free()), asyncio.create_task(places.free())
    await asyncio.sleep(0)
    queue.get()
    cancelled.cancel()  # and does not know it yet
    worker.on_room[0]()
    async with asyncio.timeout(PATIENCE_S):
        await waiting
    assert cancelled.cancelled()
