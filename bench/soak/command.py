"""The command line. In: minutes, hours of audio. Out: what every rest held, what rose, what was wrong."""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from random import Random
from shutil import rmtree

from bench.chaos.faults import Fault, Kind
from bench.chaos.plan import Model
from bench.lib.report import Results, note
from bench.soak import live, stored
from bench.soak.holdings import Counts, bound, risen
from bench.soak.site import Action, Site

LEAST_ROUNDS = 3
"""The first one, in which pools and caches fill, and one with each fault."""

ACTIONS: tuple[Action, ...] = (
    *[live.play] * 4,
    stored.submit,
    stored.submit,
    stored.submit_in_vain,
    stored.ask,
    stored.upload,
    stored.swap,
)
"""What is done in each round, all at the same time, beside the durable sessions and a fault."""

SHOWN_ERRORS, SHOWN_TYPES = 50, 20

FAULTS = Kind.CONNECTION_CUT, Kind.BROKER_KILLED


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of ``python -m bench.soak``."""
    parser.add_argument("--minutes", type=float, default=60.0, help="to run at least")
    parser.add_argument("--hours-of-audio", type=float, default=24.0, help="to go through at least")
    parser.add_argument(
        "--model", choices=("fake", "demo"), default="fake", help="demo: whisper.cpp with the bundled model"
    )


def measure(quick: bool, minutes: float = 60.0, hours_of_audio: float = 24.0, model: Model = "fake") -> Results:
    """``quick``: the fewest rounds, of sessions that are short."""
    if quick:
        minutes = hours_of_audio = 0.0
    return asyncio.run(soak(minutes=minutes, hours_of_audio=hours_of_audio, model=model, quick=quick))


async def soak(*, minutes: float, hours_of_audio: float, model: Model, quick: bool) -> Results:
    """Round after round until both are reached; the logs are kept if anything was wrong."""
    began_s, number, noted = time.monotonic(), 0, 0
    rests: list[Counts] = []
    rows: list[Results] = []
    types: list[dict[str, Counts]] = []
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    async with Site(folder, model) as site:
        tally = site.tally
        while (
            number < LEAST_ROUNDS or time.monotonic() < began_s + 60 * minutes or tally.audio_s < 3600 * hours_of_audio
        ):
            await _play(site, number, quick=quick)
            number += 1
            rests.append(await site.rest())
            types = [*types[:1], {name: process.watched.types for name, process in site.processes.items()}]
            so_far = {"at_s": round(time.monotonic() - began_s, 1), "audio_h": round(tally.audio_s / 3600, 2)}
            rows.append(so_far | rests[-1])
            note(f"soak: {number} rounds, {so_far['audio_h']} h of audio, {tally.errors[noted:]}, {rests[-1]}")
            noted = len(tally.errors)
        rose, reconnects = risen(rests), site.reconnects
        await site.end()
    if not tally.errors:
        rmtree(folder)
    return {
        "good": not tally.errors and not rose,
        "model": model,
        "rounds": number,
        "faults": site.faults,
        "reconnects": reconnects,
        "minutes": round((time.monotonic() - began_s) / 60, 1),
        "hours_of_audio": round(tally.audio_s / 3600, 2),
        "done": tally.done,
        "errors": tally.errors[:SHOWN_ERRORS],
        "logs": str(folder) if tally.errors else None,
        "rose": {name: {"by": by, "bound": bound(name)} for name, by in rose.items()},
        "types": {name: _grown(types[0][name], types[-1][name]) for name in types[0]} if rose else {},
        "rests": rows,
    }


async def _play(site: Site, number: int, *, quick: bool) -> None:
    """Do all ``ACTIONS``, with a fault unless it is the first round; then check, and purge what is stored."""
    rng = Random(number)
    recordings = stored.recordings_of(number, site, quick=quick)
    length_s = max(recording.payloads[-1].due_s for recording in recordings)
    acts = [
        action(site, Random(1000 * number + place), f"r{number}-{place}", length_s)
        for place, action in enumerate(ACTIONS)
    ]
    if number:
        fault = Fault(FAULTS[number % len(FAULTS)], 0.0, rng.uniform(0.0, 1.0))
        acts.append(_disturb(site, fault, rng.uniform(0.2, 0.6) * length_s))
    for error in await asyncio.gather(stored.store(site, recordings), *acts, return_exceptions=True):
        if error is not None:
            site.tally.errors.append(f"round {number}: {error!r}")
    await stored.check(site)
    await stored.clear(site, number)


async def _disturb(site: Site, fault: Fault, after_s: float) -> None:
    await asyncio.sleep(after_s)
    await site.disturb(fault)


def _grown(before: Counts, after: Counts) -> Counts:
    """The types of which there are most more."""
    more = {kind: count - before.get(kind, 0) for kind, count in after.items()}
    return dict(sorted(more.items(), key=lambda item: -item[1])[:SHOWN_TYPES])
