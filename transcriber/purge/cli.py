"""The parser of ``transcriber purge``. In: a command line. Out: a call of the command, which imports what it needs then."""

import argparse
import asyncio
from datetime import UTC, datetime, timedelta

from transcriber.cli_arguments import CLIENT_SETTINGS, add_settings
from transcriber.config import Settings
from transcriber.purge.target import parse_age, parse_target
from transcriber.tasks import interrupt_on_sigterm

PURGE_SETTINGS = (*CLIENT_SETTINGS, "audio_stream", "transcript_stream", "audit")


def add_purge(purge: argparse.ArgumentParser) -> None:
    purge.set_defaults(run=_purge)
    purge.add_argument("target", metavar="TARGET", help="a stream, STREAM/SESSION for one session of it, or job=ID")
    purge.add_argument("--dry-run", action="store_true", help="remove nothing, only say what would be")
    purge.add_argument("--yes", action="store_true", help="do not ask")
    purge.add_argument("--json", action="store_true", help="one JSON object, not lines")
    purge.add_argument("--end", action="store_true", help="end an open session first, as its publisher would")
    purge.add_argument("--every", action="store_true", help="all recordings, where several have the session's id")
    purge.add_argument(
        "--older-than",
        type=_age,
        metavar="AGE",
        help="of a stream: only what was stored before that, such as 36h or 7d",
    )
    purge.add_argument("--as", dest="by", metavar="NAME", help="who does it, for the audit; default: user@host")
    add_settings(purge, PURGE_SETTINGS)


def _age(text: str) -> float:
    try:
        return parse_age(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _purge(settings: Settings, arguments: argparse.Namespace) -> int:
    from transcriber.clients.transcribe import submitter  # noqa: PLC0415
    from transcriber.purge.command import Options, purge  # noqa: PLC0415

    interrupt_on_sigterm()
    age_s: float | None = arguments.older_than
    options = Options(
        yes=arguments.yes,
        dry_run=arguments.dry_run,
        as_json=arguments.json,
        end=arguments.end,
        every=arguments.every,
        before=None if age_s is None else datetime.now(UTC) - timedelta(seconds=age_s),
        by=submitter() if arguments.by is None else arguments.by,
    )  # fmt: skip
    return asyncio.run(purge(settings, parse_target(arguments.target), options))
