"""A real gateway under what means it no good: no crash, nothing left over, and one clear error each."""

import asyncio
import itertools

import httpx
import pytest

from bench.gateway.attacker import attack_with
from bench.gateway.attacks import MAKERS, attacks
from bench.gateway.process import MeasuredGateway
from bench.lib.daemon import StubbedDaemon
from tests.support.waiting import PATIENCE_S
from transcriber.testing.broker import EmbeddedBroker

ROUNDS = 6
SEED = 7


@pytest.fixture(scope="module")
def gateway():
    with EmbeddedBroker() as broker, StubbedDaemon(broker.url) as daemon, MeasuredGateway(broker.url) as gateway:
        for process in (daemon, gateway):
            assert asyncio.run(process.ready()), process.log()
        yield gateway


SERVING = {"_Socket._read", "_Socket._report", "Channel._read_on", "WebSocketsSansIOProtocol.run_asgi"}


async def idle(gateway, descriptors):
    """Its tasks, once it has as many descriptors as before, and no request is served."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            tasks = await asyncio.to_thread(lambda: gateway.tasks)
            if gateway.descriptors <= descriptors and tasks.keys().isdisjoint(SERVING):
                return tasks
            await asyncio.sleep(0.05)


async def test_every_attack_has_its_one_error_and_leaves_nothing(gateway):
    async with httpx.AsyncClient(base_url=gateway.url) as client:
        assert (await client.get("/v1/models")).status_code == 200
    before = gateway.descriptors
    outcomes = [
        outcome
        async for outcome in attack_with(gateway.port, itertools.islice(attacks(SEED), ROUNDS * len(MAKERS)), 16)
    ]
    tasks = await idle(gateway, before + 1)  # uvloop keeps one for its signals

    assert len(outcomes) == ROUNDS * len(MAKERS)
    assert [(attack.name, outcome.wrong) for attack, outcome in outcomes if outcome.wrong] == []
    assert gateway.unusual() == []
    assert "Audience._watch" not in tasks
    assert sum(tasks.values()) < 20
