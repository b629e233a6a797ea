"""The command line. In: seeds or a scenario. Out: a table, and the same as figures."""

import argparse
import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from bench.chaos import scenarios
from bench.chaos.cluster import BROKERS, Cluster
from bench.chaos.daemons import faketime
from bench.chaos.faults import BROKER_FAULTS, CLOCK_FAULTS, CLUSTER_FAULTS, DAEMON_FAULTS
from bench.chaos.file_run import FilePlan, files_from_seed, play_files
from bench.chaos.one_broker import may_fill_a_disk
from bench.chaos.outcome import Outcome, summary
from bench.chaos.plan import SPEED, Model, Plan, covering, from_seed
from bench.chaos.run import play
from bench.lib.report import Results, header, note, quantiles

SEEDS = range(20)
_SHOWN_ERRORS = 12


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of ``python -m bench.chaos``."""
    parser.add_argument("--seeds", type=_seeds, help="such as 17, or 0-199; default 0-19")
    parser.add_argument(
        "--model", choices=tuple(SPEED), default="fake", help="other than fake: real speech, as in an undisturbed run"
    )
    parser.add_argument("--daemons", type=int, default=1, help="more than one: 40 streams in so many partitions")
    parser.add_argument(
        "--brokers", type=int, choices=(1, BROKERS), default=1, help="3: a cluster, which keeps three copies"
    )
    parser.add_argument("--files", action="store_true", help="files by job instead of streams")
    parser.add_argument("--nats-server", default="", help="path of another one than is installed, for three brokers")
    parser.add_argument("--log", type=Path, help="file that gets a line a run; the good runs in it are not repeated")
    parser.add_argument("--scenario", choices=sorted(scenarios.ALL), help="one long run instead of seeds")
    parser.add_argument("--at-once", type=int, default=3, help="runs at the same time: most of the time they wait")


def measure(
    quick: bool,
    seeds: range | None = None,
    model: Model = "fake",
    daemons: int = 1,
    scenario: str | None = None,
    at_once: int = 3,
    brokers: int = 1,
    files: bool = False,
    nats_server: str = "",
    log: Path | None = None,
) -> Results:
    disk, clock = may_fill_a_disk(), bool(faketime()) and brokers > 1
    Cluster.binary = nats_server
    plans: Iterable[Plan | FilePlan]
    if scenario:
        plans = [scenarios.ALL[scenario](quick=quick)]
    elif files:
        plans = (files_from_seed(seed, brokers=brokers, disk=disk, clock=clock) for seed in seeds or SEEDS)
    elif quick and seeds is None and (model, daemons, brokers) == ("fake", 1, 1):
        plans = covering(disk=disk)
    else:
        plans = (
            from_seed(seed, model, quick=quick, daemons=daemons, brokers=brokers, disk=disk, clock=clock)
            for seed in seeds or SEEDS
        )
    lines = _logged(log)
    done = {line["command"] for line in lines}
    about = header("chaos")

    def take(outcome: Outcome) -> None:
        lines.append(summary(outcome))
        if log:
            with log.open("a") as file:
                file.write(json.dumps({"nats_server": nats_server, **lines[-1], "commit": about["commit"]}) + "\n")

    asyncio.run(play_all((plan for plan in plans if plan.command not in done), at_once, take))
    results = figures(lines)
    results |= {"model": model, "daemons": daemons, "brokers": brokers}
    results |= {"disk_full": "among the faults" if disk else "skipped: needs root"} if brokers == 1 else {}
    results |= {"clock": "among the faults" if clock else "skipped: no libfaketime"} if brokers > 1 else {}
    note(table(results))
    return results


def table(results: Results) -> str:
    """What was done to the daemons, and what came of it."""
    rows = [f"{count:6}  {kind}" for kind, count in results["faults"].items()]
    figures = {name: results[name] for name in _SUMS} | {"restarts": results["restarts"], "runs": results["runs"]}
    rows += [f"{figure:6}  {name.replace('_', ' ')}" for name, figure in figures.items()]
    return "\n".join([*rows, f"{len(results['failed']):6}  runs with errors {results['failed'] or ''}"])


_SUMS = (
    "sessions", "windows", "frames", "files", "lost_frames", "duplicated_frames", "reordered", "wrong_texts", "wrong_results",
)  # fmt: skip


async def play_all(
    plans: Iterable[Plan | FilePlan], at_once: int, take: Callable[[Outcome], object] = lambda _: None
) -> list[Outcome]:
    """Play all, ``at_once`` of them at the same time; each is made when its turn comes, and ``take`` gets what came of it."""
    waiting, outcomes = iter(plans), list[Outcome]()

    async def play_on() -> None:
        for plan in waiting:
            if isinstance(plan, FilePlan):
                outcome = await play_files(plan)
            else:
                outcome = await _compared(plan) if plan.model != "fake" else await play(plan)
            _report(outcome)
            take(outcome)
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


def _report(outcome: Outcome) -> None:
    faults = ", ".join(f"{kind} x{count}" if count > 1 else str(kind) for kind, count in outcome.faults.items())
    state = "FAILED" if outcome.errors else "good"
    note(f"chaos: {outcome.name} {state}, {outcome.verdict.windows} windows, {outcome.wall_s:.0f} s: {faults}")
    if outcome.errors:
        for error in outcome.errors[:_SHOWN_ERRORS]:
            note(f"    {error}")
        more = len(outcome.errors) - _SHOWN_ERRORS
        note(f"    {f'and {more} more; ' if more > 0 else ''}logs in {outcome.folder}; alone: {outcome.command}")


def figures(lines: Sequence[Results]) -> Results:
    """Sums over all runs, of which there is a ``summary`` each."""
    faults: Counter[str] = sum((Counter(line["faults"]) for line in lines), Counter())
    plain = [str(kind) for kind in DAEMON_FAULTS | BROKER_FAULTS]
    others = [str(kind) for kind in CLUSTER_FAULTS | CLOCK_FAULTS if faults[kind] and str(kind) not in plain]
    lags_s = [line["lag_s_most"] for line in lines if line["lag_s_most"] is not None]
    return {
        "runs": len(lines),
        "failed": [line["name"] for line in lines if line["errors"]],
        "faults": {kind: faults[kind] for kind in [*plain, *others]},
        **{name: sum(line[name] for line in lines) for name in _SUMS},
        "audio_s": round(sum(line["audio_s"] for line in lines)),
        "restarts": sum(line["restarts"] for line in lines),
        "wall_s": quantiles([line["wall_s"] for line in lines], median=0.5, most=1.0),
        "lag_s_most": max(lags_s, default=None),
    }


def _logged(log: Path | None) -> list[Results]:
    """The good runs of earlier calls; those that failed are repeated."""
    if log is None or not log.exists():
        return []
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [line for line in lines if not line["errors"]]


def _seeds(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)
