"""Long files through a daemon and a broker with JetStream: ``python -m bench.files``.

Out, of ten hours of FLAC and of MP3, engine stubbed: how fast, at what cost, in how much memory, whether every frame is accounted
for; and the same file once more, with three ``kill -9`` on the way: whether its results are those of the undisturbed run, and how
long it takes to resume. Of an hour of FLAC, with the bundled model: memory and speed. And how much later the text of a live
stream comes beside a running file, and beside that and 16 requests that are kept going.

``--mp3-hours 87``: 5 GB of MP3, undisturbed, engine stubbed, and nothing else.
"""

import argparse
import asyncio
import random
import tempfile
from pathlib import Path

from bench.files.beside import beside
from bench.files.long import FILES, undisturbed_and_killed, whole
from bench.files.make import KINDS, make
from bench.lib.daemon import MeasuredDaemon, StubbedDaemon, storing_broker
from bench.lib.report import Results, note
from transcriber.models.catalog import DEMO

__all__ = ["add_options", "measure"]

LONG_S, HOUR_S, QUICK_S = 36_000.0, 3600.0, 600.0


def measure(quick: bool, mp3_hours: float | None) -> Results:
    if mp3_hours:
        with tempfile.TemporaryDirectory(prefix="transcriber-bench-") as folder, storing_broker() as broker:
            file = make("mp3", mp3_hours * HOUR_S, Path(folder))
            with StubbedDaemon(broker.url, None, **FILES, WHISPER_MODEL=DEMO) as daemon:
                return {"mp3, engine stubbed": asyncio.run(whole(broker.url, daemon, file))}
    long_s, hour_s = (QUICK_S, 60.0) if quick else (LONG_S, HOUR_S)
    # Whoever is killed has its job for another 15 s.
    parts = {"flac": (0.5,), "mp3": ()} if quick else {kind: _anywhere() for kind in KINDS}
    results: Results = {}
    with tempfile.TemporaryDirectory(prefix="transcriber-bench-") as folder:
        for kind in KINDS:
            file = make(kind, long_s, Path(folder))
            with storing_broker() as broker:
                stubbed = StubbedDaemon(broker.url, None, **FILES, WHISPER_MODEL=DEMO)
                results[f"{kind}, engine stubbed"] = asyncio.run(
                    undisturbed_and_killed(broker.url, stubbed, file, parts[kind])
                )
            note(f"files: {kind}: {results[f'{kind}, engine stubbed']}")
            file.path.unlink()
        file = make("flac", hour_s, Path(folder))
        with storing_broker() as broker, MeasuredDaemon(broker.url, None, **FILES, WHISPER_MODEL=DEMO) as daemon:
            results["flac, bundled model"] = asyncio.run(whole(broker.url, daemon, file))
            note(f"files: with the bundled model: {results['flac, bundled model']}")
        with storing_broker() as broker, MeasuredDaemon(broker.url, None, **FILES, WHISPER_MODEL=DEMO) as daemon:
            results["beside a live stream"] = asyncio.run(
                beside(broker.url, daemon, file, *((1, 5.2) if quick else (4, 45.0)))
            )
    return results


def add_options(parser: argparse.ArgumentParser) -> None:
    """For the command line."""
    parser.add_argument("--mp3-hours", type=float, help="hours of MP3, and nothing else")


def _anywhere() -> tuple[float, ...]:
    """Three parts of a file, the last one late: a daemon that resumes there has the most to skip."""
    return (*sorted(random.uniform(0.05, 0.8) for _ in range(2)), 0.9)
