"""The command line: flags and environment to settings, a command, an exit status.

Status 0: a clean stop. 1: a crash. 2: usage or configuration. 3: could not start.
"""

import argparse
import asyncio
import errno
import json
import logging
import math
import os
import shutil
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from transcriber.build_info import version_line
from transcriber.cli_arguments import CLIENT_SETTINGS, Commands, Run, add_settings, command
from transcriber.clients import cli as parsers
from transcriber.config import Settings, load_settings, mask, settings_fields
from transcriber.engine.worker import THREAD_NAME
from transcriber.errors import BadInputError, StartError
from transcriber.logs import configure as configure_logging
from transcriber.models import command as model_commands
from transcriber.models.store import remove_unfinished
from transcriber.pipeline import DECODING_THREAD
from transcriber.tasks import interrupt_on_sigterm
from transcriber.terminal.output_files import forget_stdout, reader_may_leave

log = logging.getLogger(__name__)

_LAST_S = 0.2

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""On a disk: nothing that a traceback would explain."""

PROVISION_SETTINGS = (
    *CLIENT_SETTINGS, "durable", "backfill", "audio_", "transcript_", "stream_replicas", "partitions",
    "files", "file_max_age_secs", "result_max_age_secs",
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    # Where whoever called us has closed them there are none, and what is opened first would be written to.
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115 - as long as we live
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115
    status = _run(argv)
    for thread in threading.enumerate():
        if thread.name.startswith(DECODING_THREAD):
            thread.join(_LAST_S)  # most are only just told to end
    if any(thread.name.startswith((THREAD_NAME, DECODING_THREAD)) for thread in threading.enumerate()):
        # A worker that was abandoned is still inside whisper.cpp: the interpreter would take itself down around it,
        # which ends in a segmentation fault now and then. For a decoder that hangs it would wait.
        remove_unfinished()
        logging.shutdown()
        sys.stdout.flush()
        os._exit(status)
    return status


def _run(argv: Sequence[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    flags = {name: value for name, value in vars(arguments).items() if name in settings_fields()}
    try:
        settings = load_settings(**flags)
        configure_logging(settings.log_level, settings.log_format)
        run: Run = arguments.run
        status = run(settings, arguments)
        with reader_may_leave():
            sys.stdout.flush()  # whether there is room for what was said shows here
        return status  # noqa: TRY300 - what it says is a part of it
    except (StartError, BadInputError) as error:
        sys.stderr.write(f"transcriber: {_printable(mask(str(error)))}\n")
        return getattr(error, "exit_status", 2)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            sys.stderr.write(f"transcriber: {_no_room(error)}\n")
            forget_stdout()
        else:
            log.exception("crashed")
        return 1


def _no_room(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return _printable(f"{where}cannot be written: {error.strerror}")


def _printable(text: str) -> str:
    """Names in files and answers of servers may hold what moves a terminal's cursor, or is a second line."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="transcriber", description="Speech-to-text on a message bus.")
    parser.add_argument("--version", action="version", version=f"transcriber {version_line()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    serve = command(commands, "serve", _serve, "the daemon")
    serve.add_argument("--embedded", action="store_true", help="with its own nats-server, for one machine")
    add_settings(serve)

    demo = command(commands, "demo", _demo, "everything on one machine, with speech that is bundled")
    demo.add_argument(
        "--model",
        metavar="NAME",
        help="such as base.en; demo is the bundled one, which needs no network; default: tiny.en if it can be had",
    )

    parsers.add(commands)

    provision = command(
        commands, "provision", _provision, "make or check what durable mode and files need of JetStream"
    )
    provision.add_argument(
        "stream", nargs="*", metavar="STREAM", help="streams to make a consumer for; default: those of AUDIO_SUBJECT"
    )
    provision.add_argument(
        "--check", action="store_true", help="change nothing; status 1 if anything is missing or differs"
    )
    add_settings(provision, PROVISION_SETTINGS)

    _add_calibrate(commands)

    model_commands.add(commands)

    schema = command(commands, "schema", _schema, "print the AsyncAPI document of all subjects and messages")
    add_settings(schema, ("transcript_subject_prefix", "audio_subject"))
    return parser


def _add_calibrate(commands: Commands) -> None:
    calibrate = command(commands, "calibrate", _calibrate, "how fast this machine is, and how many streams it holds")
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


# Each command imports what it needs: whisper.cpp, NATS and the screen take time and memory to load.


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

    with model_commands.shown() as draw:
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
    with model_commands.shown() as draw:
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
