"""The parser of ``transcriber plan``. In: a command line. Out: a plan, printed; what takes time to load is imported then."""

import argparse
import json
import sys
from pathlib import Path

from transcriber.cli_arguments import add_settings
from transcriber.commands import measure, seconds_of, share_of
from transcriber.config import Settings
from transcriber.plan.given import PLANNED_SETTINGS

MOST = 100_000
"""Of anything that is counted on the command line."""

SHORTEST_UTTERANCE_S = 0.1
"""Whoever talks in shorter ones is no stream: the simulation would take as much longer as they are shorter."""


def add_plan(plan: argparse.ArgumentParser) -> None:
    plan.set_defaults(run=_plan)
    plan.add_argument("--streams", type=_count, required=True, metavar="N", help="streams, all at once")
    plan.add_argument("--model", metavar="NAME", help="a model's name or file; default: as set, or demo")
    plan.add_argument(
        "--latency",
        dest="max_latency_secs",
        type=float,
        metavar="SECS",
        help="within which 95 of 100 texts come, and MAX_LATENCY_SECS",
    )
    plan.add_argument(
        "--calibration",
        type=Path,
        metavar="FILE",
        help="what `transcriber calibrate --json` wrote on the machine that is planned with; default: this one, now",
    )
    plan.add_argument(
        "--loss", type=share_of, default=0.001, metavar="SHARE", help="of the windows that may be dropped (0.001)"
    )
    plan.add_argument(
        "--spare", type=share_of, default=0.2, metavar="SHARE", help="of a daemon's streams, left free (0.2)"
    )
    plan.add_argument(
        "--speech",
        type=_positive_share,
        default=0.8,
        metavar="SHARE",
        help="of the time in which somebody speaks (0.8)",
    )
    plan.add_argument(
        "--utterance", type=_utterance, default=3.0, metavar="SECS", help="of speech between two pauses, on average (3)"
    )
    plan.add_argument("--listeners", type=_count, default=1, metavar="N", help="that get each text (1)")
    plan.add_argument("--seeds", type=_count, default=5, metavar="N", help="simulations of a daemon as planned (5)")
    output = plan.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="JSON, not a table")
    output.add_argument("--values", action="store_true", help="values of the chart, as YAML")
    output.add_argument("--kustomization", action="store_true", help="an overlay, as YAML")
    add_settings(plan, PLANNED_SETTINGS)


def _count(text: str) -> int:
    if not (text.isdecimal() and 0 < int(text) <= MOST):
        raise argparse.ArgumentTypeError(f"must be a number, 1 to {MOST}")
    return int(text)


def _utterance(text: str) -> float:
    if (seconds := seconds_of(text)) < SHORTEST_UTTERANCE_S:
        raise argparse.ArgumentTypeError(f"must be a number of seconds, at least {SHORTEST_UTTERANCE_S:g}")
    return seconds


def _positive_share(text: str) -> float:
    share = seconds_of(text)
    if share > 1:
        raise argparse.ArgumentTypeError("must be more than 0 and at most 1")
    return share


def _plan(settings: Settings, arguments: argparse.Namespace) -> int:
    from rich.console import Console  # noqa: PLC0415

    from transcriber.plan.report import as_kustomization, as_table, as_values  # noqa: PLC0415
    from transcriber.plan.sizing import Wishes, arrangement, plan, read_calibration  # noqa: PLC0415
    from transcriber.plan.talk import Talk  # noqa: PLC0415

    wishes = Wishes(
        streams=arguments.streams,
        loss=arguments.loss,
        spare=arguments.spare,
        talk=Talk(arguments.speech, arguments.utterance),
        listeners=arguments.listeners,
        seeds=arguments.seeds,
    )
    if arguments.calibration:
        rows = read_calibration(arguments.calibration)
        model = arguments.model or settings.whisper_model
    else:
        models, model = [arguments.model] if arguments.model else [], None
        threads = [settings.whisper_threads] if settings.whisper_threads and settings.whisper_workers == 1 else ()
        rows = measure(settings, models, threads=threads, contexts=[settings.audio_ctx])
    planned = plan(arrangement(rows, settings, model), settings, wishes)
    if arguments.json:
        sys.stdout.write(json.dumps(planned.as_dict()) + "\n")
    elif arguments.values:
        sys.stdout.write(as_values(planned, settings))
    elif arguments.kustomization:
        sys.stdout.write(as_kustomization(planned, settings))
    else:
        Console().print(as_table(planned, settings, wishes))
    return 0
