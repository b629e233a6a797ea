"""Thousands of attacks at once with patient ones. In: how many. Out: what came of each kind, and what is left of them."""

import asyncio
import itertools
import time
from collections import Counter, defaultdict

import httpx

from bench.gateway.attacker import attack_with
from bench.gateway.attacks import attacks
from bench.gateway.patient import PATIENT, patiently
from bench.gateway.process import MeasuredGateway
from bench.lib.daemon import StubbedDaemon
from bench.lib.report import Results, note, quantiles
from transcriber.testing.broker import EmbeddedBroker

AT_ONCE = 32
SEED = 18
PROBE_S = 0.1
SETTLE_S = 40.0
WARM = 0.2
"""Share of the attacks after which the gateway has all that it keeps."""


def measure(count: int) -> Results:
    with EmbeddedBroker() as broker, StubbedDaemon(broker.url) as daemon, MeasuredGateway(broker.url) as gateway:
        return asyncio.run(_measure(daemon, gateway, count))


async def _measure(daemon: StubbedDaemon, gateway: MeasuredGateway, count: int) -> Results:
    for process in (daemon, gateway):
        if not await process.ready():
            raise SystemExit(process.log())
    outcomes: defaultdict[str, Counter[int]] = defaultdict(Counter)
    wrong: list[str] = []
    waits_ms: list[float] = []
    probing = asyncio.create_task(_probe(gateway, waits_ms))
    several, states = attacks(SEED), []
    for part in (int(WARM * count), count - int(WARM * count)):
        patient = [asyncio.create_task(patiently(gateway.port, kind)) for kind in PATIENT]
        async for one, outcome in attack_with(gateway.port, itertools.islice(several, part), AT_ONCE):
            outcomes[one.name][outcome.code] += 1
            if outcome.wrong:
                wrong.append(f"{one.name}: {outcome.wrong}: {one.path} {one.data[:60]!r}")
        for kind, (code, why) in zip(PATIENT, await asyncio.gather(*patient), strict=True):
            outcomes[kind.name][code] += kind.count
            wrong += [f"{kind.name}: {why}"] if why else []
        states.append(await _settled(gateway))
        note(f"gateway: hostile: {part} attacks: {states[-1]}; wrong: {wrong[:10]}")
    probing.cancel()
    return {
        "attacks": count + len(states) * sum(kind.count for kind in PATIENT),
        "wrong": len(wrong),
        "wrong_examples": wrong[:20],
        "after_warm_up": states[0],
        "at_the_end": states[1],
        "probe_ms": quantiles(waits_ms, p50=0.5, p99=0.99, max=1.0),
        "unusual_log_lines": gateway.unusual()[:20],
        "outcomes": {name: dict(sorted(codes.items())) for name, codes in sorted(outcomes.items())},
    }


async def _probe(gateway: MeasuredGateway, waits_ms: list[float]) -> None:
    """Somebody else, meanwhile."""
    async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:
        while True:
            began_s = time.perf_counter()
            answer = await client.get("/livez")
            if answer.json() != {"ok": True}:
                raise SystemExit(f"the gateway answers {answer.text}")
            waits_ms.append(1000 * (time.perf_counter() - began_s))
            await asyncio.sleep(PROBE_S)


async def _settled(gateway: MeasuredGateway) -> Results:
    """Its state, once descriptors and tasks are as few as when it idles, or after a while."""
    until_s = time.monotonic() + SETTLE_S
    while True:
        state = await asyncio.to_thread(gateway.state)
        if state["descriptors"] <= 20 and state["tasks"] <= 16:
            return state
        if time.monotonic() > until_s:
            note(f"gateway: hostile: left over: {gateway.tasks}")
            return state
        await asyncio.sleep(0.5)
