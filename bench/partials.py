"""What partials cost those who wait for finals, and what they bring.

In: a model; the demo model transcribes the bundled speech, and so do shapes with made-up weights, for what is said to them does not
matter; any other transcribes readings and people of ``bench.lib.speech.corpora``.

Two daemons, one with ``PARTIAL_INTERVAL_SECS=1`` and one with 0, are fed in turn, and only one of them at a time.

Loaded: ``PLAIN`` windows, so that both daemons transcribe the very same ones, of many streams that speak in step, some at a time.
Their windows come at once; the queue has a place for each, so it is half full as long as it is worked off, which is most of the
time until the next ones come. In the rest partials are made, and one is in hand when the next windows come: nothing delays
finals more. Out: the mean depth of the queue, p50 and p95 of the finals' ``end_to_end_ms``, and what partials add to them. That should
be at most ``one_encode_ms``, the time of a window inside whisper, of which the encoder, which cannot be interrupted, is a part.

A machine that is not always as fast shows more than that, now and then, and a queue that overflows less: see ``gaps``. So also
``first_waited_ms``: how long the first of the windows that come at once waits, though all before them are done. That is how
long a partial is in their way, and it needs no comparison.

Unloaded: two streams, and the defaults. Out: how many partials come, how long after their audio, and their processor time.
"""

import asyncio
import statistics
import time
from argparse import ArgumentParser
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from bench.lib.account import Account, account, after_audio_ms
from bench.lib.daemon import PLAIN, MeasuredDaemon
from bench.lib.paced import PAYLOAD_S, Plan, publish, publisher_process
from bench.lib.report import Results, note, quantiles, run
from bench.lib.speech.material import model_and_speech
from transcriber.bus.client_session import connected, subscribe
from transcriber.bus.connection import NatsMessage
from transcriber.config import load_settings
from transcriber.schema.messages import Final, Metrics
from transcriber.testing.broker import EmbeddedBroker

WINDOW_S = 5.0
LOAD = 0.6
"""Share of whisper's time that finals take, as far as an unloaded machine shows; under load it is a third more."""

IN_STEP = 8
"""Streams, and places in the queue: so few that one encode more would be seen."""

UNLOADED_STREAMS = 2
KINDS = {"with": "1", "without": "0"}
"""Daemons, and their ``PARTIAL_INTERVAL_SECS``."""

PATIENCE_S = 60.0


def add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--model", default="demo", help="a ggml file, or a name such as base.en, or made:base.en-q8_0")
    parser.add_argument("--threads", type=int, help="WHISPER_THREADS, instead of the default")
    parser.add_argument("--rounds", type=int, default=6, help="of each daemon")


def measure(quick: bool, model: str, threads: int | None, rounds: int) -> Results:
    rounds, windows = (1, 2) if quick else (rounds, 3)
    skipped: list[str] = []
    path, pcm = model_and_speech(model, skipped)
    settings = {"WHISPER_MODEL_PATH": str(path), "WHISPER_THREADS": str(threads or "")}
    with publisher_process() as publisher:
        with _daemons(settings) as daemons:
            turns = asyncio.run(_turns(daemons, publisher, pcm, Shape(UNLOADED_STREAMS, windows), rounds))
        unloaded = _unloaded(turns)
        streams = IN_STEP * max(1, round(LOAD * WINDOW_S * 1000 / unloaded["processing_ms"] / IN_STEP))
        loaded = settings | PLAIN | {"TRANSCRIPTION_QUEUE_CAPACITY": str(IN_STEP), "MAX_STREAMS": "4096"}
        with _daemons(loaded) as daemons:
            turns = asyncio.run(_turns(daemons, publisher, pcm, Shape(streams, windows, IN_STEP), rounds))
    return {"model": model, "loaded": _loaded(turns, streams), "unloaded": unloaded, "skipped": skipped}


@dataclass(frozen=True, slots=True)
class Shape:
    """What is played in one turn: so many streams, of so many windows each."""

    streams: int
    windows: int
    in_step: int = 0


@dataclass(frozen=True, slots=True)
class Turn:
    """What one daemon made of it; ``depths`` are those of its queue, ``cpu`` its processor time over time."""

    plan: Plan
    came: Account
    depths: list[int]
    cpu: float

    def final_ms(self, share: float) -> float:
        """That quantile of the finals' latency."""
        return quantiles([final.timing.end_to_end_ms for final in self.came.finals], at=share)["at"] or 0.0

    def first_waited_ms(self) -> list[float]:
        """Of the windows that came at once, and when all before them were done: the shortest time in the queue."""
        groups = {name: number // IN_STEP for number, name in enumerate(self.plan.names)}
        together: defaultdict[tuple[int, int], list[Final]] = defaultdict(list)
        for final in self.came.finals:
            together[groups[final.stream], final.segment].append(final)
        waited_ms, done_at = [], datetime.min.replace(tzinfo=UTC)
        for finals in sorted(together.values(), key=_came_at):
            if _came_at(finals) > done_at:
                waited_ms.append(min(final.timing.queue_ms for final in finals))
            done_at = max(
                done_at, *(one.received_at + timedelta(milliseconds=one.timing.end_to_end_ms) for one in finals)
            )
        return waited_ms


Turns = dict[str, list[Turn]]
"""By kind of daemon."""


def _came_at(finals: list[Final]) -> datetime:
    """When the first of them was complete."""
    return min(final.received_at for final in finals)


@contextmanager
def _daemons(settings: dict[str, str]) -> Iterator[dict[str, tuple[str, MeasuredDaemon]]]:
    """Each with a broker of its own, since all streams are of one subject."""
    with ExitStack() as stack:
        daemons = {}
        for kind, interval_s in KINDS.items():
            url = stack.enter_context(EmbeddedBroker()).url
            ours = {"PARTIAL_INTERVAL_SECS": interval_s, "METRICS_NATS_SECS": "0.1"}
            daemons[kind] = url, stack.enter_context(MeasuredDaemon(url, **(settings | ours)))
        yield daemons


async def _turns(
    daemons: dict[str, tuple[str, MeasuredDaemon]],
    publisher: ProcessPoolExecutor,
    pcm: bytes,
    shape: Shape,
    rounds: int,
) -> Turns:
    """Play to both, round after round, and let each begin as often."""
    turns = {kind: list[Turn]() for kind in KINDS}
    for _, daemon in daemons.values():
        if not await daemon.ready():
            raise SystemExit(daemon.log())
    for number in range(rounds):
        for kind in list(KINDS)[:: -1 if number % 2 else 1]:
            url, daemon = daemons[kind]
            plan = Plan(
                url=url,
                names=tuple(f"round-{number}-{stream}" for stream in range(shape.streams)),
                payloads=int(shape.windows * WINDOW_S / PAYLOAD_S),
                ramp_s=WINDOW_S,
                start_s=time.monotonic() + 0.5,
                headers="offset",
                pcm=pcm,
                in_step=shape.in_step,
            )
            turns[kind].append(await _turn(plan, daemon, publisher))
            note(f"partials: {kind}, {shape.streams} streams: finals' p95 {turns[kind][-1].final_ms(0.95):.0f} ms")
    return turns


async def _turn(plan: Plan, daemon: MeasuredDaemon, publisher: ProcessPoolExecutor) -> Turn:
    async with connected(load_settings(nats_url=plan.url), "bench partials") as connection:
        listening = asyncio.create_task(account(await subscribe(connection, "transcripts.*.*"), plan))
        depths: list[int] = []
        watching = asyncio.create_task(_watch(await subscribe(connection, "transcriber.metrics.*"), plan, depths))
        began_s, cpu_s = time.monotonic(), daemon.cpu_s
        await asyncio.get_running_loop().run_in_executor(publisher, publish, plan)
        came = await asyncio.wait_for(listening, PATIENCE_S)
        cpu = (daemon.cpu_s - cpu_s) / (time.monotonic() - began_s)
        watching.cancel()
    return Turn(plan, came, depths, cpu)


async def _watch(messages: AsyncIterator[NatsMessage], plan: Plan, depths: list[int]) -> None:
    """How many windows wait, while all streams have windows."""
    async for message in messages:
        depth = Metrics.model_validate_json(message.data).metrics["transcriber.queue.depth"]
        if isinstance(depth, int) and plan.start_s + plan.ramp_s < time.monotonic() < plan.stop_s:
            depths.append(depth)


def _loaded(turns: Turns, streams: int) -> Results:
    """What partials add to the finals' latency."""
    added_ms = {
        name: [a.final_ms(share) - b.final_ms(share) for a, b in zip(turns["with"], turns["without"], strict=True)]
        for name, share in (("p50", 0.5), ("p95", 0.95))
    }
    encode_ms = _processing_ms(turns["without"])
    return {
        "streams": streams,
        "queue_capacity": IN_STEP,
        "queue_depth_mean": _each(turns, lambda some: statistics.mean(depth for one in some for depth in one.depths)),
        "finals": _each(turns, lambda some: sum(len(one.came.finals) for one in some)),
        "gaps": _each(turns, lambda some: sum(len(one.came.gaps) for one in some)),
        "partials": _each(turns, lambda some: sum(len(one.came.partials) for one in some)),
        "end_to_end_p50_ms": _each(turns, lambda some: statistics.median(one.final_ms(0.5) for one in some)),
        "end_to_end_p95_ms": _each(turns, lambda some: statistics.median(one.final_ms(0.95) for one in some)),
        "first_waited_ms": {
            kind: quantiles([ms for one in some for ms in one.first_waited_ms()], p50=0.5, p95=0.95, worst=1.0)
            for kind, some in turns.items()
        },
        "added_to_p50_ms": round(statistics.median(added_ms["p50"]), 1),
        "added_to_p95_ms": round(statistics.median(added_ms["p95"]), 1),
        "added_to_p95_ms_by_rounds": [round(ms, 1) for ms in added_ms["p95"]],
        "one_encode_ms": encode_ms,
        "at_most_one_encode": statistics.median(added_ms["p95"]) <= encode_ms,
    }


def _unloaded(turns: Turns) -> Results:
    """What partials bring, and cost."""
    waited_ms = [ms for one in turns["with"] for ms in after_audio_ms(one.plan, one.came.partials, one.came.partials_s)]
    audio_s = sum(len(one.plan.names) * one.plan.payloads * PAYLOAD_S for one in turns["with"])
    cpu = _each(turns, lambda some: statistics.median(one.cpu for one in some))
    return {
        "streams": UNLOADED_STREAMS,
        "partials": len(waited_ms),
        "partials_per_second_of_audio": round(len(waited_ms) / audio_s, 3),
        "after_audio_ms": quantiles(waited_ms, p50=0.5, p95=0.95),
        "daemon_cpu": cpu,
        "partials_cpu_per_stream": round((cpu["with"] - cpu["without"]) / UNLOADED_STREAMS, 4),
        "end_to_end_p95_ms": _each(turns, lambda some: statistics.median(one.final_ms(0.95) for one in some)),
        "processing_ms": _processing_ms(turns["without"]),
    }


def _processing_ms(turns: list[Turn]) -> float:
    """Median time inside whisper of one window."""
    return round(statistics.median(final.timing.processing_ms for one in turns for final in one.came.finals), 1)


def _each(turns: Turns, figure: Callable[[list[Turn]], float]) -> dict[str, float]:
    return {kind: round(figure(some), 3) for kind, some in turns.items()}


if __name__ == "__main__":
    run("partials", measure, add_options)
