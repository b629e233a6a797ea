"""The command line: flags and environment to settings, a command, an exit status.

Status 0: a clean stop. 1: a crash. 2: usage or configuration. 3: could not start.

``--help`` and ``--version`` answer at once: nothing is imported here that does not come with Python, and a command's own module
when its flags are read.
"""

import argparse
import errno
import logging
import os
import sys
import threading
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from transcriber.build_info import version_line
from transcriber.engine import WORKER_THREAD
from transcriber.errors import BadInputError, StartError
from transcriber.pipeline import DECODING_THREAD

log = logging.getLogger(__name__)

_LAST_S = 0.2

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""On a disk: nothing that a traceback would explain."""

COMMANDS = {
    "daemon": {
        "serve": ("transcriber.commands:add_serve", "the daemon"),
        "gateway": ("transcriber.gateway.command:add_gateway", "HTTP and WebSocket for browsers and OpenAI's clients"),
        "demo": ("transcriber.commands:add_demo", "everything on one machine, with speech that is bundled"),
    },
    "audio in, text out": {
        "publish": ("transcriber.clients.cli:add_publish", "send an audio file to a stream"),
        "listen": ("transcriber.clients.cli:add_listen", "captions as they come"),
        "transcribe": (
            "transcriber.clients.cli:add_transcribe",
            "the text of audio files: by request, or as jobs if large",
        ),
        "jobs": ("transcriber.clients.cli:add_jobs", "what became of the files that were submitted"),
    },
    "set up": {
        "provision": (
            "transcriber.commands:add_provision",
            "make or check what durable mode and files need of JetStream",
        ),
        "purge": (
            "transcriber.purge.cli:add_purge",
            "remove what is stored of a stream, a session or a job, for good",
        ),
        "admin": ("transcriber.clients.admin_cli:add_admin", "change running daemons: swap their model"),
        "models": ("transcriber.models.command:add_models", "which models are here, and which can be had"),
        "quantize": (
            "transcriber.models.command:add_quantize",
            "models convert, to q8_0: half the size of f16, and faster",
        ),
        "gpu": ("transcriber.gpu.command:add_gpu", "the plug-in for NVIDIA's GPUs: whether it is used, install, build"),
        "calibrate": (
            "transcriber.commands:add_calibrate",
            "how fast this machine is, and how many streams it holds",
        ),
        "plan": ("transcriber.plan.cli:add_plan", "what so many streams need: daemons, memory, storage, network"),
        "schema": ("transcriber.commands:add_schema", "print the AsyncAPI document of all subjects and messages"),
    },
}
"""Group to command to who adds its flags, as ``module:function``, and its line in ``--help``."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    # Where the caller has closed them there are none, and what is opened first would be written to.
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115 - as long as we live
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115
    status = _run(argv)
    for thread in threading.enumerate():
        if thread.name.startswith(DECODING_THREAD):
            thread.join(_LAST_S)  # most were only just asked to end
    if any(thread.name.startswith((WORKER_THREAD, DECODING_THREAD)) for thread in threading.enumerate()):
        # A worker that was abandoned is still inside whisper.cpp: the interpreter would take itself down around it,
        # which ends in a segmentation fault now and then. For a decoder that hangs it would wait.
        from transcriber.models.store import remove_unfinished  # noqa: PLC0415 - as below

        remove_unfinished()
        logging.shutdown()
        sys.stdout.flush()
        os._exit(status)
    return status


def _run(argv: Sequence[str] | None) -> int:
    arguments = command_line().parse_args(argv)
    from transcriber.config import load_settings, mask, settings_fields  # noqa: PLC0415
    from transcriber.logs import configure as configure_logging  # noqa: PLC0415
    from transcriber.terminal.output_files import reader_may_leave  # noqa: PLC0415 - no sooner: see above

    flags = {name: value for name, value in vars(arguments).items() if name in settings_fields()}
    try:
        settings = load_settings(**flags)
        configure_logging(settings.log_level, settings.log_format)
        status: int = arguments.run(settings, arguments)
        with reader_may_leave():
            sys.stdout.flush()  # whether there is room for what was said shows here
        return status  # noqa: TRY300 - what it says is a part of it
    except (StartError, BadInputError) as error:
        sys.stderr.write(f"transcriber: {_printable(mask(str(error)))}\n")
        _flush_log()
        return getattr(error, "exit_status", 2)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            _say_no_room(error)
        else:
            log.exception("crashed")
            _flush_log()
        return 1


def _flush_log() -> None:
    for handler in logging.getLogger().handlers:
        handler.flush()  # one may send it, and begins nothing any more while the interpreter ends


def _say_no_room(error: OSError) -> None:
    from transcriber.terminal.output_files import forget_stdout  # noqa: PLC0415 - as above

    where = f"{error.filename}: " if error.filename else ""
    sys.stderr.write(f"transcriber: {_printable(f'{where}cannot be written: {error.strerror}')}\n")
    forget_stdout()


def _printable(text: str) -> str:
    """Names in files and answers of servers may hold what moves a terminal's cursor, or is a second line."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


class CommandParser(argparse.ArgumentParser):
    """Of one command: it knows its flags only when they are needed, since that imports what their types come from."""

    def __init__(self, *arguments: Any, flags: str = "", **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._flags = flags

    def add_flags(self) -> None:
        """Import the module that knows them; once."""
        if self._flags:
            module, _, function = self._flags.partition(":")
            self._flags = ""
            getattr(import_module(module), function)(self)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self.add_flags()
        return super().parse_known_args(args, namespace)


def command_line() -> argparse.ArgumentParser:
    """The parser of ``transcriber``, with a ``CommandParser`` for each command."""
    parser = argparse.ArgumentParser(
        prog="transcriber",
        usage="transcriber [-h] [--version] COMMAND ...",
        description=_overview(),
        epilog="transcriber COMMAND --help says what a command takes.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version, and the commit if it is known")
    commands = parser.add_subparsers(
        metavar="COMMAND", required=True, prog="transcriber", parser_class=CommandParser, help=argparse.SUPPRESS
    )
    for group in COMMANDS.values():
        for name, (flags, summary) in group.items():
            commands.add_parser(name, description=f"{summary[0].upper()}{summary[1:]}.", flags=flags)
    return parser


def _overview() -> str:
    """Every command by its group, in one line."""
    width = max(len(name) for group in COMMANDS.values() for name in group)
    groups = (
        "\n".join([f"{title}:", *(f"  {name:{width}}  {summary}" for name, (_, summary) in group.items())])
        for title, group in COMMANDS.items()
    )
    return "\n\n".join(["Speech-to-text on a message bus.", *groups])


class _Version(argparse.Action):
    """Asks git only if it is asked."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        sys.stdout.write(f"transcriber {version_line()}\n")
        parser.exit()
