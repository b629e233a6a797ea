"""One run. In: a plan. Out: a verdict on what the broker has stored when all is over.

Audio is published, faults happen; when both are over all is repaired, and the rest has time to come. Then the daemons are
stopped, and both JetStream streams are read back.
"""

import asyncio
import contextlib
import json
import tempfile
import time
from pathlib import Path
from shutil import rmtree

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error

from bench.chaos.cluster import Cluster
from bench.chaos.faults import Fault, Kind
from bench.chaos.one_broker import Brokers, OneBroker
from bench.chaos.outcome import Outcome
from bench.chaos.plan import Plan, Recording, fake_text
from bench.chaos.proof import StoredText, consumer_errors, judge
from bench.chaos.readers import consumers, read_audio, read_back
from bench.chaos.world import TEXT, World

PATIENCE_S = 90.0
"""For all ends to come once everything is repaired."""

FAKETIME_COST = 3.0
"""Under libfaketime a daemon takes so many times as long."""

PUBLISH_TIMEOUT_S = 1.0
RETRY_S = 0.1


async def play(plan: Plan) -> Outcome:
    """Carry out ``plan``."""
    folder = Path(tempfile.mkdtemp(prefix=f"chaos-{plan.name}-"))
    began_s = time.monotonic()
    lags_s: list[tuple[float, float]] = []
    clock = Kind.CLOCK_SET_BACK in plan.kinds
    async with World(
        folder, plan.model, plan.settings, brokers(plan.brokers, plan.kinds, folder), daemons=plan.daemons, clock=clock
    ) as world:
        client = await connect(world.urls)
        await _follow_lag(client, lags_s)
        supervisor = asyncio.create_task(world.supervise())
        try:
            await _publish_through(plan, world, client)
            errors = await _all_ends(client, plan)
            errors += await _all_acknowledged(client)
        finally:
            supervisor.cancel()
        await world.end()
        audio, texts = await read_back(client)
        await client.close()
    verdict = judge(plan.recordings, audio, texts, fake_text if plan.model == "fake" else None)
    verdict.errors[:0] = world.errors + errors
    outcome = Outcome(
        name=plan.name,
        command=plan.command,
        audio_s=plan.audio_s,
        verdict=verdict,
        faults=world.faults,
        restarts=world.restarts,
        wall_s=time.monotonic() - began_s,
        lags_s=lags_s,
        folder=folder,
    )
    if outcome.errors:
        _keep(plan, outcome, world, texts)
    else:
        rmtree(folder)
    return outcome


def brokers(number: int, kinds: set[Kind], folder: Path) -> Brokers:
    """So many, which are ready for faults of these kinds."""
    parted = Kind.BROKER_PARTED in kinds
    return Cluster(folder, parted=parted) if number > 1 else OneBroker(folder, disk=Kind.DISK_FULL in kinds)


async def connect(urls: list[str]) -> Client:
    """A client that outlives any broker, and notices within seconds that one is frozen."""

    async def say_nothing(_: Exception) -> None:
        """What went wrong is asked again."""

    return await nats.connect(
        urls,
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.1,
        ping_interval=1,
        max_outstanding_pings=2,
        error_cb=say_nothing,
    )


async def _follow_lag(client: Client, lags_s: list[tuple[float, float]]) -> None:
    began_s = time.monotonic()

    async def note(message: Msg) -> None:
        lag_s = json.loads(message.data)["metrics"].get("transcriber.lag_s")
        if lag_s is not None:
            lags_s.append((time.monotonic() - began_s, lag_s))

    await client.subscribe("transcriber.metrics.>", cb=note)


async def _publish_through(plan: Plan, world: World, client: Client) -> None:
    """Publish everything while the faults happen; returns when both are over."""
    start_s = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for recordings in plan.publishers.values():
            tasks.create_task(publish(client, recordings, start_s))
        for hand in plan.hands:
            tasks.create_task(let_happen(world, hand))


async def let_happen(world: World, hand: tuple[Fault, ...]) -> None:
    """Do the faults of one hand, one after the other."""
    for fault in hand:
        await asyncio.sleep(fault.after_s)
        await world.do(fault)


async def publish(client: Client, recordings: list[Recording], start_s: float) -> None:
    """One publisher's payloads, each at its time or when it can, one under way at a time: their order is that of storage."""
    for recording in recordings:
        for payload in recording.payloads:
            await asyncio.sleep(start_s + payload.due_s - time.monotonic())
            headers = payload.headers | {"Nats-Msg-Id": payload.id}
            await _store(client, f"audio.{recording.stream}", payload.data, headers)


async def _store(client: Client, subject: str, data: bytes, headers: dict[str, str]) -> None:
    """Try until the broker says that it has it; what it had all the same it knows again by its id."""
    while True:
        try:
            await client.jetstream().publish(subject, data, timeout=PUBLISH_TIMEOUT_S, headers=headers)
        except (Error, OSError):
            await asyncio.sleep(RETRY_S)
        else:
            return


async def _all_ends(client: Client, plan: Plan) -> list[str]:
    """Wait until as many sessions have ended as there were recordings."""
    patience_s = PATIENCE_S * (FAKETIME_COST if Kind.CLOCK_SET_BACK in plan.kinds else 1.0)
    deadline_s, ends = time.monotonic() + patience_s, 0
    while time.monotonic() < deadline_s:
        with contextlib.suppress(Error, OSError):
            info = await client.jetstream().stream_info(TEXT, subjects_filter="transcripts.*.end")
            ends = sum((info.state.subjects or {}).values())
            if ends >= len(plan.recordings):
                return []
        await asyncio.sleep(RETRY_S)
    return [f"waited {patience_s:.0f} s in vain: {ends} of {len(plan.recordings)} sessions have ended"]


async def _all_acknowledged(client: Client) -> list[str]:
    """The last acknowledgement follows the last text; give it a moment."""
    errors: list[str] = []
    for _ in range(50):
        with contextlib.suppress(Error, OSError):
            errors = consumer_errors(await read_audio(client), await consumers(client))
            if not errors:
                break
        await asyncio.sleep(RETRY_S)
    return errors


def _keep(plan: Plan, outcome: Outcome, world: World, texts: list[StoredText]) -> None:
    """Leave beside the logs what else shows why it failed."""
    recordings = [
        f"{r.stream} {r.session}: {r.frames} frames, {len(r.payloads)} payloads, gaps {r.gaps}" for r in plan.recordings
    ]
    story = ["errors:", *outcome.errors, "", "faults:", *world.history, "", "recordings:", *recordings]
    (outcome.folder / "story.txt").write_text("\n".join(story) + "\n")
    lines = [f"{text.id} {text.message.model_dump_json(by_alias=True)}\n" for text in texts]
    (outcome.folder / "transcripts.jsonl").write_text("".join(lines))
