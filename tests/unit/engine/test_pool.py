import threading

import pytest

from tests.unit.engine.test_worker import ScriptedModel
from transcriber.config import Settings
from transcriber.engine.job import CPU, Device
from transcriber.engine.pool import WorkerPool
from transcriber.errors import ModelError

SETTINGS = Settings(whisper_workers=3)


class Divisible(ScriptedModel):
    def __init__(self, made):
        super().__init__()
        self.made = made
        made.append(threading.get_ident())

    def sibling(self):
        return Divisible(self.made)


class Placed(ScriptedModel):
    def __init__(self, device):
        super().__init__()
        self.device = device


async def started(load):
    pool = await WorkerPool.start(SETTINGS, load)
    models = {worker.model for worker in pool.workers}
    await pool.stop(grace_s=1.0)
    return models


async def test_a_divisible_model_is_loaded_once_and_each_worker_makes_its_own_on_its_thread():
    loaded, made = [], list[int]()

    def load():
        loaded.append(threading.get_ident())
        return Divisible(made)

    models = await started(load)

    assert len(models) == len(set(made)) == 3
    assert loaded == made[:1]


async def test_another_model_is_loaded_by_each_worker():
    loaded = []

    def load():
        loaded.append(threading.get_ident())
        return ScriptedModel()

    assert len(await started(load)) == len(set(loaded)) == 3


async def test_where_models_run_is_the_worst_of_all_and_follows_them():
    card, lost = Device("cuda:0", "a card"), Device(reason="200 MB are free")
    models = [Placed(place) for place in (card, lost, CPU)]
    left = iter(models)

    pool = await WorkerPool.start(SETTINGS, lambda: next(left))
    assert pool.device is lost
    models[1].device = models[2].device = card
    assert pool.device is card
    models[0].device = CPU
    assert pool.device is CPU
    await pool.stop(grace_s=1.0)


async def test_a_model_that_cannot_be_loaded_is_the_error_of_the_start():
    def load():
        raise ModelError("no such model")

    with pytest.raises(ModelError, match="no such model"):
        await WorkerPool.start(SETTINGS, load)
