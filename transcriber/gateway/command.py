"""The command ``gateway``. In: a parser, settings. Out: a server, until SIGTERM; or a new key."""

import argparse
import sys

from transcriber.cli_arguments import CLIENT_SETTINGS, add_settings
from transcriber.config import Settings
from transcriber.errors import StartError


def add_gateway(gateway: argparse.ArgumentParser) -> None:
    gateway.set_defaults(run=_gateway)
    gateway.add_argument(
        "--new-key", metavar="NAME", help="print a new key, and its entry for GATEWAY_KEYS_FILE, and serve nothing"
    )
    add_settings(gateway, (*CLIENT_SETTINGS, "gateway_", "file_max_bytes", "audio_stream", "transcript_stream"))


def _gateway(settings: Settings, arguments: argparse.Namespace) -> int:
    try:
        from transcriber.gateway.keys import new_key  # noqa: PLC0415 - an extra
        from transcriber.gateway.server import run  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise StartError(f"{error.name} is missing: pip install 'nats-transcriber[gateway]'") from None
    if arguments.new_key is None:
        return run(settings)
    key, entry = new_key(arguments.new_key)
    sys.stdout.write(f"# The key, which is in no file, for whoever is to use it: {key}\n{entry}")
    return 0
