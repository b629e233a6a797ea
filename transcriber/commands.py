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
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from transcriber.cli_arguments import CLIENT_SETTINGS, add_settings
from transcriber.config import Settings, load_settings
from transcriber.models.command import shown
from transcriber.tasks import interrupt_on_sigterm

log = logging.getLogger(__name__)

PROVISION_SETTINGS = (
    *CLIENT_SETTINGS, "durable", "backfill", "audio_", "transcript_", "stream_replicas", "partitions",
    "files", "file_max_age_secs", "result_max_age_secs",
)  # fmt: skip


def add_serve(serve: argparse.ArgumentParser) -> None:
    serve.set_defaults(run=_serve)
    serve.add_argument("--embedded", action="store_true", help="with its own nats-server, for one machine")
    add_settings(serve)


def add_demo(demo: argparse.ArgumentParser) -> None:
    demo.set_defaults(run=_demo)
    demo.add_argument(
        "--model",
        metavar="NAME",
        help="such as base.en; demo is the bundled one, which needs no network; default: tiny.en if it can be had",
    )


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
        "--loss", type=_share, default=0.0, metavar="SHARE", help="of the windows that may be dropped, such as 0.01 (0)"
    )
    calibrate.add_argument("--json", action="store_true", help="JSON, not a table")
    add_settings(
        calibrate, ("buffer_duration_secs", "max_latency_secs", "transcription_queue_capacity", "whisper_", "log_")
    )


def _numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError("must be numbers, separated by commas") from None


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 <= share < 1:
        raise argparse.ArgumentTypeError("must be at least 0 and less than 1")
    return share


def _serve(settings: Settings, arguments: argparse.Namespace) -> int:
    from transcriber.engine.whisper.model import load_checked_model  # noqa: PLC0415
    from transcriber.service import serve  # noqa: PLC0415

    with ExitStack() as stack:
        if arguments.embedded:
            from transcriber.bus.jetstream.provision import fitted_to_disk  # noqa: PLC0415
            from transcriber.testing.broker import EmbeddedBroker  # noqa: PLC0415

            store = None
            if settings.jetstream or settings.files:
                store = Path(stack.enter_context(TemporaryDirectory(prefix="transcriber-store-")))
                settings = fitted_to_disk(settings, shutil.disk_usage(store).free)
            broker = stack.enter_context(EmbeddedBroker(store=store))
            log.info("broker embedded", extra={"url": broker.url})
            settings = settings.model_copy(update={"nats_url": broker.url, "provision": True})
        serve(settings, lambda: load_checked_model(_find_shown(settings), settings))
    return 0


def _find_shown(settings: Settings) -> Path:
    """The model, with a bar while it is fetched or converted, if anybody looks."""
    from transcriber.models.find import find_model  # noqa: PLC0415

    with shown() as draw:
        return find_model(settings, draw)


def _demo(settings: Settings, arguments: argparse.Namespace) -> int:
    from transcriber.demo.run import demo  # noqa: PLC0415

    interrupt_on_sigterm()
    return demo(settings, model=arguments.model)


def _provision(settings: Settings, arguments: argparse.Namespace) -> int:
    from transcriber.bus.jetstream.provision import provision  # noqa: PLC0415

    return 0 if asyncio.run(provision(settings, arguments.stream, check=arguments.check)) else 1


def _calibrate(settings: Settings, arguments: argparse.Namespace) -> int:
    from rich.console import Console  # noqa: PLC0415

    from transcriber.engine.calibrate import as_table, best, calibrate  # noqa: PLC0415
    from transcriber.engine.whisper.model import load_checked_model  # noqa: PLC0415
    from transcriber.models.catalog import DEMO  # noqa: PLC0415
    from transcriber.models.find import find_model, find_named_model  # noqa: PLC0415

    interrupt_on_sigterm()
    as_set = settings.model_copy(update={"whisper_model": settings.whisper_model or DEMO})
    with shown() as draw:
        paths = [find_named_model(settings, name, draw) for name in arguments.model or ()] or [find_model(as_set, draw)]
    for audio_ctx in arguments.contexts or ():
        load_settings(whisper_audio_ctx=str(audio_ctx), buffer_duration_secs=settings.buffer_duration_secs)
    for threads in arguments.threads or ():
        load_settings(whisper_threads=threads)
    rows = []
    progress = Console(stderr=True)
    for row in calibrate(
        settings,
        paths,
        load_checked_model,
        threads=arguments.threads or (),
        contexts=arguments.contexts or (),
        loss=arguments.loss,
    ):
        rows.append(row)
        progress.print(f"{row.model}: {row.as_settings}: {row.median_ms:.0f} ms", highlight=False)
    if arguments.json:
        sys.stdout.write(json.dumps([row.as_dict() for row in rows]) + "\n")
        return 0
    Console().print(as_table(rows, arguments.loss))
    for model in dict.fromkeys(row.model for row in rows):
        sys.stdout.write(f"{model}: most streams with {best(rows, model).as_settings}\n")
    return 0


def _schema(settings: Settings, _: argparse.Namespace) -> int:
    from transcriber.asyncapi import asyncapi_document  # noqa: PLC0415

    sys.stdout.write(json.dumps(asyncapi_document(settings), indent=2, ensure_ascii=False) + "\n")
    return 0
