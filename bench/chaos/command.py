"""The command line. In: seeds or a scenario. Out: a table, and the same as figures."""

import argparse
import asyncio
from collections import Counter
from collections.abc import Iterable

from bench.chaos import scenarios
from bench.chaos.plan import BROKER_FAULTS, DAEMON_FAULTS, SPEED, Kind, Model, Plan, covering, from_seed
from bench.chaos.run import Outcome, play
from bench.chaos.world import may_fill_a_disk
from bench.lib.report import Results, note, quantiles

SEEDS = range(20)
_SHOWN_ERRORS = 12


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of ``python -m bench.chaos``."""
    parser.add_argument("--seeds", type=_seeds, help="such as 17, or 0-199; default 0-19")
    parser.add_argument(
        "--model", choices=tuple(SPEED), default="fake", help="other than fake: real speech, as in an undisturbed run"
    )
    parser.add_argument("--daemons", type=int, default=1, help="more than one: 40 streams in so many partitions")
    parser.add_argument("--scenario", choices=sorted(scenarios.ALL), help="one long run instead of seeds")
    parser.add_argument("--at-once", type=int, default=3, help="runs at the same time: most of the time they wait")


def measure(
    quick: bool,
    seeds: range | None = None,
    model: Model = "fake",
    daemons: int = 1,
    scenario: str | None = None,
    at_once: int = 3,
) -> Results:
    disk = may_fill_a_disk()
    plans: Iterable[Plan]
    if scenario:
        plans = [scenarios.ALL[scenario](quick=quick)]
    elif quick and seeds is None and (model, daemons) == ("fake", 1):
        plans = covering(disk=disk)
    else:
        plans = (from_seed(seed, model, quick=quick, daemons=daemons, disk=disk) for seed in seeds or SEEDS)
    results = figures(asyncio.run(play_all(plans, at_once)))
    results |= {"model": model, "daemons": daemons, "disk_full": "among the faults" if disk else "skipped: needs root"}
    note(table(results))
    return results


def table(results: Results) -> str:
    """What was done to the daemons, and what came of it."""
    rows = [f"{count:6}  {kind}" for kind, count in results["faults"].items()]
    figures = {name: results[name] for name in _SUMS} | {"restarts": results["restarts"], "runs": results["runs"]}
    rows += [f"{figure:6}  {name.replace('_', ' ')}" for name, figure in figures.items()]
    return "\n".join([*rows, f"{len(results['failed']):6}  runs with errors {results['failed'] or ''}"])


_SUMS = ("sessions", "windows", "frames", "lost_frames", "duplicated_frames", "reordered", "wrong_texts")


async def play_all(plans: Iterable[Plan], at_once: int) -> list[Outcome]:
    """Play all, ``at_once`` of them at the same time; each is made when its turn comes."""
    waiting, outcomes = iter(plans), list[Outcome]()

    async def play_on() -> None:
        for plan in waiting:
            outcome = await _compared(plan) if plan.model != "fake" else await play(plan)
            _tell(outcome)
            outcomes.append(outcome)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(at_once):
            tasks.create_task(play_on())
    return outcomes


async def _compared(plan: Plan) -> Outcome:
    """Of real speech the right text is unknown: it must be what an undisturbed run transcribes."""
    calm = await play(plan.undisturbed())
    outcome = await play(plan)
    outcome.errors.extend(calm.errors)
    outcome.errors.extend(outcome.verdict.differs_from(calm.verdict))
    return outcome


def _tell(outcome: Outcome) -> None:
    faults = ", ".join(f"{kind} x{count}" if count > 1 else str(kind) for kind, count in outcome.faults.items())
    state = "FAILED" if outcome.errors else "good"
    note(f"chaos: {outcome.name} {state}, {outcome.verdict.windows} windows, {outcome.wall_s:.0f} s: {faults}")
    if outcome.errors:
        for error in outcome.errors[:_SHOWN_ERRORS]:
            note(f"    {error}")
        more = len(outcome.errors) - _SHOWN_ERRORS
        note(f"    {f'and {more} more; ' if more > 0 else ''}logs in {outcome.folder}; alone: {outcome.command}")


def figures(outcomes: list[Outcome]) -> Results:
    """Sums over all runs."""
    faults: Counter[Kind] = sum((outcome.faults for outcome in outcomes), Counter())
    return {
        "runs": len(outcomes),
        "failed": [outcome.name for outcome in outcomes if outcome.errors],
        "faults": {str(kind): faults[kind] for kind in DAEMON_FAULTS | BROKER_FAULTS},
        **{name: sum(getattr(outcome.verdict, name) for outcome in outcomes) for name in _SUMS},
        "audio_s": round(sum(outcome.audio_s for outcome in outcomes)),
        "restarts": sum(outcome.restarts for outcome in outcomes),
        "wall_s": quantiles([outcome.wall_s for outcome in outcomes], median=0.5, most=1.0),
        "lag_s_most": max((lag_s for outcome in outcomes for _, lag_s in outcome.lags_s), default=None),
    }


def _seeds(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)
