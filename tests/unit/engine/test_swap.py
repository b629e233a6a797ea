"""Another model for workers at work: when each takes it, what is freed, and what a failure leaves."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.support.waiting import PATIENCE_S, until
from tests.unit.engine.test_worker import ScriptedModel, new_job, said
from transcriber.config import Settings
from transcriber.engine.capacity import RECENT_JOBS, Capacity
from transcriber.engine.job import CPU, Device
from transcriber.engine.pool import ModelInUse, WorkerPool
from transcriber.engine.swap import swap_models
from transcriber.errors import ModelError


class Held(ScriptedModel):
    """Holds each call until ``go`` is set."""

    def __init__(self, name, took_s=0.5):
        super().__init__()
        self.name, self.took_s = name, took_s
        self.go, self.running = threading.Event(), threading.Event()
        self.go.set()
        self.closed = False
        self.device: Device

    def close(self):
        self.closed = True

    def transcribe(self, samples, language, should_abort, **options):
        assert not self.closed
        self.running.set()
        assert self.go.wait(PATIENCE_S)
        return replace(said(self.name), processing_s=self.took_s)


@pytest.fixture
async def pool():
    """Two workers with a model each, ``old``."""
    made = iter([Held("old"), Held("old")])
    running = await WorkerPool.start(Settings(whisper_workers=2), lambda: next(made))
    yield running
    await running.stop(grace_s=PATIENCE_S)


async def end(pool):
    """End the threads of workers that count as ended; a command that another test runs in this process would see them."""
    await pool.stop(grace_s=0)
    await until(lambda: not any(worker.alive for worker in pool.workers))


async def text_of(worker):
    settled = asyncio.get_running_loop().create_future()
    job = new_job(lambda *ended: settled.set_result(ended))
    assert worker.queue.try_put(job) is None
    return settled


async def test_each_worker_takes_its_model_between_two_windows_and_the_old_one_is_freed_then(pool):
    first, old = pool.workers[0], [worker.model for worker in pool.workers]
    new = [Held("new", took_s=2.5), Held("new", took_s=2.5)]
    old[0].go.clear()
    old[0].running.clear()
    in_hand = await text_of(first)
    await until(old[0].running.is_set)
    waiting = await text_of(first)

    swapping = asyncio.create_task(swap_models(pool.workers, iter(new).__next__))
    await until(new[1].running.is_set)  # both are loaded and tried while the worker works
    assert not old[0].closed
    old[0].go.set()
    await swapping

    for settled, name in ((in_hand, "old"), (waiting, "new")):
        job, outcome = await settled
        assert (outcome.text, job.model) == (name, name)
    assert [worker.model for worker in pool.workers] == new
    assert all(model.closed for model in old)
    assert ModelInUse(pool).name == "new"
    assert (pool.rtf, pool.capacity, pool.capacity_changes) == (0.5, 2 * 8, 2)  # before: 0.1, and 2 * 40


@pytest.mark.parametrize(("meanwhile", "rtf"), [(0.2, 0.25), (0.05, 0.5)])
async def test_what_the_measurement_was_slowed_by_the_present_model_does_not_shorten_the_queue(pool, meanwhile, rtf):
    async def work():
        for worker in pool.workers:
            for _ in range(RECENT_JOBS):
                worker.capacity.update(meanwhile)  # before: 0.1

    def load():
        asyncio.run_coroutine_threadsafe(work(), loop).result(PATIENCE_S)
        return Held("new", took_s=2.5)

    loop = asyncio.get_running_loop()
    await swap_models(pool.workers, load)

    assert pool.rtf == pytest.approx(rtf)
    assert pool.capacity == 2 * int(4 / rtf)


async def test_a_model_that_cannot_be_loaded_for_all_changes_nothing_and_leaves_nothing_behind(pool):
    old, made = [worker.model for worker in pool.workers], [Held("new")]

    def load():
        if made[0].running.is_set():
            raise ModelError("no memory")
        return made[0]

    with pytest.raises(ModelError, match="no memory"):
        await swap_models(pool.workers, load)

    assert [worker.model for worker in pool.workers] == old
    assert (made[0].closed, any(model.closed for model in old)) == (True, False)
    _, outcome = await (await text_of(pool.workers[0]))
    assert outcome.text == "old"


@pytest.mark.parametrize("fails", [False, True])
async def test_unloaded_first_the_old_ones_are_freed_before_and_windows_wait(pool, fails):
    old = [worker.model for worker in pool.workers]
    waiting: list[Any] = []

    def load():
        assert all(model.closed for model in old)
        asyncio.run_coroutine_threadsafe(text_of(pool.workers[1]), loop).add_done_callback(waiting.append)
        if fails:
            raise ModelError("it is broken")
        return Held("new")

    loop = asyncio.get_running_loop()
    swapping = swap_models(pool.workers, load, lambda: Held("again"))
    if fails:
        with pytest.raises(ModelError, match="it is broken"):
            await swapping
    else:
        await swapping

    _, outcome = await waiting[0].result()
    assert outcome.text == ("again" if fails else "new")


async def test_where_neither_can_be_loaded_the_workers_end_as_of_a_crash():
    pool = await WorkerPool.start(Settings(), lambda: Held("old"))

    def load():
        raise ModelError("the disk is gone")

    with pytest.raises(ModelError):
        await swap_models(pool.workers, load, load)
    with pytest.raises(RuntimeError, match="neither model can be loaded: the disk is gone"):
        await pool.crashed()
    await end(pool)


async def test_no_model_moves_from_a_card_to_the_cpu():
    def placed(device):
        model = Held("m")
        model.device = device
        return model

    card = Device("cuda:0", "a card")
    pool = await WorkerPool.start(Settings(), lambda: placed(card))
    with pytest.raises(ModelError, match="m would run on the CPU, and not on cuda:0: 200 MB are free"):
        await swap_models(pool.workers, lambda: placed(Device(reason="200 MB are free")))
    await swap_models(pool.workers, lambda: placed(card))
    assert (pool.device, CPU.kind) == (card, "cpu")
    await pool.stop(grace_s=PATIENCE_S)


async def test_an_old_model_is_freed_while_another_worker_is_still_in_its_window(pool):
    old = [worker.model for worker in pool.workers]
    old[0].go.clear()
    old[0].running.clear()
    in_hand = await text_of(pool.workers[0])
    await until(old[0].running.is_set)

    swapping = asyncio.create_task(swap_models(pool.workers, lambda: Held("new")))
    await until(lambda: old[1].closed)

    assert (old[0].closed, swapping.done()) == (False, False)
    old[0].go.set()
    await swapping
    assert (await in_hand)[1].text == "old"
    assert old[0].closed


class Restarting(Held):
    """In a process of its own."""

    late, restarts = False, 0

    def __init__(self, name):
        super().__init__(name)
        self.on_failure: Callable[[BaseException], None] = lambda _: None

    def wait(self, _):
        """It is there."""


async def test_the_end_of_a_model_that_is_not_used_any_more_ends_no_worker():
    old, new = Restarting("old"), Restarting("new")
    pool = await WorkerPool.start(Settings(), lambda: old)
    await swap_models(pool.workers, lambda: new)

    old.on_failure(RuntimeError("it died while it was closed"))
    _, outcome = await (await text_of(pool.workers[0]))
    assert (outcome.text, pool.workers[0].crashed) == ("new", False)
    new.on_failure(RuntimeError("it cannot be started again"))
    with pytest.raises(RuntimeError, match="it cannot be started again"):
        await pool.crashed()
    await end(pool)


async def test_the_capacity_of_a_queue_is_written_on_the_event_loop_alone(pool, monkeypatch):
    threads: set[int] = set()

    def noted(original):
        def call(capacity, rtf):
            threads.add(threading.get_ident())
            return original(capacity, rtf)

        return call

    for name in ("start_again", "update"):
        monkeypatch.setattr(Capacity, name, noted(getattr(Capacity, name)))

    await swap_models(pool.workers, lambda: Held("new", took_s=2.5))
    await (await text_of(pool.workers[0]))

    assert threads == {threading.get_ident()}
    assert pool.capacity == 2 * 8


async def test_an_offer_to_a_worker_that_has_ended_comes_back(pool):
    await pool.stop(grace_s=PATIENCE_S)
    model = Held("new")

    assert await pool.workers[0].replace_model(model, 0.1) is model
