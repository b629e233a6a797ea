"""The daemon and what belongs to it: ``serve``, ``demo``, ``provision``, ``calibrate`` and ``schema``.

In: a parser for one of them. Out: its flags, and a call of what it means. Each imports what it needs when it runs: whisper.cpp,
NATS and the screen take time and memory to load.
"""

import argparse
import asyncio
import json
import logging
import math
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from transcriber.cli_arguments import CLIENT_SETTINGS, add_settings
from transcriber.config import Settings, access_to, load_settings
from transcriber.errors import ConfigError
from transcriber.models.command import shown
from transcriber.tasks import interrupt_on_sigterm

if TYPE_CHECKING:
    from transcriber.engine.calibrate import Measurement
    from transcriber.engine.job import SpeechModel

log = logging.getLogger(__name__)

ENGINE = "transcriber.engine.whisper.model:load_checked_model"
"""What the process of a model calls."""

PROVISION_SETTINGS = (
    *CLIENT_SETTINGS, "durable", "backfill", "audio_", "transcript_", "stream_replicas", "partitions",
    "files", "file_max_age_secs", "result_max_age_secs", "audit", "config_bucket",
)  # fmt: skip

CALIBRATED_SETTINGS = (
    "buffer_duration_secs", "left_context_secs", "max_latency_secs", "transcription_queue_capacity", "speakers", "input_",
    "files", "file_window_secs", "whisper_", "log_",
)  # fmt: skip


def add_serve(serve: argparse.ArgumentParser) -> None:
    serve.set_defaults(run=_serve)
    serve.add_argument("--embedded", action="store_true", help="with its own nats-server, for this machine")
    serve.add_argument(
        "--web", action="store_true", help="with --embedded: the gateway too, and its page; prints a key"
    )
    serve.add_argument(
        "--websocket",
        type=_port,
        metavar="PORT",
        help="with --embedded: the broker takes WebSockets of pages at GATEWAY_PORT of this machine and of those that"
        " GATEWAY_ORIGINS names; 0: any free port",
    )
    add_settings(serve)


def add_demo(demo: argparse.ArgumentParser) -> None:
    demo.set_defaults(run=_demo)
    demo.add_argument(
        "--model",
        metavar="NAME",
        help="such as base.en; demo is the bundled one, which needs no network; default: tiny.en if it can be had",
    )
    demo.add_argument("--web", action="store_true", help="with the gateway, and its page; prints a key")


def add_provision(provision: argparse.ArgumentParser) -> None:
    provision.set_defaults(run=_provision)
    provision.add_argument(
        "stream", nargs="*", metavar="STREAM", help="streams to make a consumer for; default: those of AUDIO_SUBJECT"
    )
    provision.add_argument(
        "--check", action="store_true", help="change nothing; status 1 if anything is missing or differs"
    )
    add_settings(provision, PROVISION_SETTINGS)


def add_schema(schema: argparse.ArgumentParser) -> None:
    schema.set_defaults(run=_schema)
    add_settings(schema, ("transcript_subject_prefix", "audio_subject"))


def add_calibrate(calibrate: argparse.ArgumentParser) -> None:
    calibrate.set_defaults(run=_calibrate)
    calibrate.add_argument(
        "--model",
        action="append",
        metavar="NAME",
        help="a model's name or file, again for more; default: as set, or demo",
    )
    calibrate.add_argument(
        "--threads", type=_numbers, metavar="N,N", help="of one worker; default: what fills the machine"
    )
    calibrate.add_argument(
        "--contexts", type=_numbers, metavar="N,N", help="encoder contexts, 0 is the full one; default: as set, full"
    )
    calibrate.add_argument(
        "--loss",
        type=share_of,
        default=0.0,
        metavar="SHARE",
        help="of the windows that may be dropped, such as 0.01 (0)",
    )
    calibrate.add_argument("--seconds", type=seconds_of, default=2.0, metavar="SECS", help="of each measurement (2)")
    calibrate.add_argument("--json", action="store_true", help="JSON, not a table, such as plan takes")
    add_settings(calibrate, CALIBRATED_SETTINGS)


def seconds_of(text: str) -> float:
    """A time, for ``argparse``."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError("must be a number of seconds, more than 0")
    return seconds


def _numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError("must be numbers, separated by commas") from None


def _port(text: str) -> int:
    if not (text.isdecimal() and int(text) < 2**16):
        raise argparse.ArgumentTypeError("must be a port, 0 to 65535")
    return int(text)


def share_of(text: str) -> float:
    """A share that is less than the whole, for ``argparse``."""
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 <= share < 1:
        raise argparse.ArgumentTypeError("must be at least 0 and less than 1")
    return share


def _serve(settings: Settings, arguments: argparse.Namespace) -> int:
    if not arguments.embedded and (arguments.web or arguments.websocket is not None):
        raise ConfigError(
            "--web and --websocket need --embedded; for another broker there is `transcriber gateway`,"
            " and nats-server listens for WebSocket as it is configured"
        )
    from transcriber.engine.swap import ModelSource  # noqa: PLC0415
    from transcriber.engine.whisper.memory import lack_of_room  # noqa: PLC0415
    from transcriber.service import serve  # noqa: PLC0415

    settings, load = placed(settings)
    with ExitStack() as stack:
        shown_at_last: list[str] = []
        if arguments.embedded:
            settings, shown_at_last = _embed(stack, settings, arguments)
        serve(
            settings,
            ModelSource(_find_shown, load, lack_of_room),
            lambda: sys.stderr.writelines(f"{line}\n" for line in shown_at_last),
        )
    return 0


def placed(settings: Settings) -> "tuple[Settings, Callable[[Path, Settings], SpeechModel]]":
    """The settings for the device on which whisper will run, and what loads a model: here, or with ``WHISPER_PROCESSES`` in a process of its own."""
    device = None
    if settings.whisper_processes != 0 and settings.whisper_device != "cpu":
        from transcriber.engine.whisper.device import chosen_device  # noqa: PLC0415

        device = chosen_device(settings)
    settings = settings.on_device(device.kind if device else "cpu")
    if settings.whisper_processes:
        from transcriber.engine.remote.model import RemoteModel  # noqa: PLC0415

        return settings, partial(RemoteModel, ENGINE, device=device)
    from transcriber.engine.whisper.model import load_checked_model  # noqa: PLC0415

    return settings, load_checked_model


def _embed(stack: ExitStack, settings: Settings, arguments: argparse.Namespace) -> tuple[Settings, list[str]]:
    """Start a broker, and what else is asked for; returns the daemon's settings, and lines that say where all of it is."""
    from transcriber.bus.jetstream.provision import fitted_to_disk  # noqa: PLC0415
    from transcriber.gateway.embedded import EmbeddedGateway, page_origins  # noqa: PLC0415
    from transcriber.testing.broker import EmbeddedBroker, websocket_config  # noqa: PLC0415

    interrupt_on_sigterm()  # until the daemon takes it: what was started is to be stopped
    store, config = None, ""
    if settings.jetstream or settings.files:
        store = Path(stack.enter_context(TemporaryDirectory(prefix="transcriber-store-")))
        settings = fitted_to_disk(settings, shutil.disk_usage(store).free)
    if arguments.websocket is not None:
        config = websocket_config(arguments.websocket, page_origins(settings))
    broker = stack.enter_context(EmbeddedBroker(store=store, config=config))
    log.info("broker embedded", extra={"url": broker.url})
    lines = []
    if broker.websocket_url:
        lines.append(f"WebSocket: {broker.websocket_url}  for pages from {', '.join(page_origins(settings))}")
    if arguments.web:
        lines.append(stack.enter_context(EmbeddedGateway(broker.url, settings)).line)
    if lines:
        lines.insert(0, f"broker: {broker.url}")
    return settings.model_copy(update=access_to(broker.url) | {"provision": True}), lines


def _find_shown(settings: Settings, requested: str) -> Path:
    """The model of the settings, or that of a requested name, with a bar while it is fetched or converted, if anybody looks."""
    from transcriber.models.find import find_model, find_requested_model  # noqa: PLC0415

    with shown() as draw:
        return find_requested_model(settings, requested, draw) if requested else find_model(settings, draw)


def _demo(settings: Settings, arguments: argparse.Namespace) -> int:
    from transcriber.demo.run import demo  # noqa: PLC0415

    interrupt_on_sigterm()
    return demo(settings, model=arguments.model, web=arguments.web)


def _provision(settings: Settings, arguments: argparse.Namespace) -> int:
    from transcriber.bus.jetstream.provision import provision  # noqa: PLC0415

    return 0 if asyncio.run(provision(settings, arguments.stream, check=arguments.check)) else 1


def _calibrate(settings: Settings, arguments: argparse.Namespace) -> int:
    from rich.console import Console  # noqa: PLC0415

    from transcriber.engine.calibrate import as_table, best  # noqa: PLC0415

    for audio_ctx in arguments.contexts or ():
        load_settings(whisper_audio_ctx=str(audio_ctx), buffer_duration_secs=settings.buffer_duration_secs)
    for threads in arguments.threads or ():
        load_settings(whisper_threads=threads)
    rows = measure(
        settings,
        arguments.model or (),
        threads=arguments.threads or (),
        contexts=arguments.contexts or (),
        loss=arguments.loss,
        seconds=arguments.seconds,
    )
    if arguments.json:
        sys.stdout.write(json.dumps([row.as_dict() for row in rows]) + "\n")
        return 0
    Console().print(as_table(rows, arguments.loss))
    for model in dict.fromkeys(row.model for row in rows):
        sys.stdout.write(f"{model}: most streams with {best(rows, model).as_settings}\n")
    return 0


def measure(settings: Settings, models: Sequence[str], **varied: Any) -> "list[Measurement]":
    """Calibrate the models of these names, or that of the settings, as ``varied`` says; progress goes to stderr."""
    from rich.console import Console  # noqa: PLC0415

    from transcriber.diarization.job_speakers import label_once, load_labeller  # noqa: PLC0415
    from transcriber.engine.calibrate import calibrate  # noqa: PLC0415
    from transcriber.models.catalog import DEMO  # noqa: PLC0415
    from transcriber.models.find import find_model, find_named_model  # noqa: PLC0415

    interrupt_on_sigterm()
    settings, load = placed(settings)
    as_set = settings.model_copy(update={"whisper_model": settings.whisper_model or DEMO})
    with shown() as draw:
        paths = [find_named_model(settings, name, draw) for name in models] or [find_model(as_set, draw)]
    label = partial(label_once, load_labeller(settings.most_held_back_s)) if settings.speakers == "voices" else None
    rows = []
    progress = Console(stderr=True)
    for row in calibrate(settings, paths, load, label=label, **varied):
        rows.append(row)
        progress.print(f"{row.model}: {row.as_settings}: {row.median_ms:.0f} ms", highlight=False)
    return rows


def _schema(settings: Settings, _: argparse.Namespace) -> int:
    from transcriber.asyncapi import asyncapi_document  # noqa: PLC0415

    sys.stdout.write(json.dumps(asyncapi_document(settings), indent=2, ensure_ascii=False) + "\n")
    return 0
