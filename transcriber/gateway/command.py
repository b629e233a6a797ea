"""The command ``gateway``. In: a parser, settings. Out: a server, until SIGTERM."""

import argparse

from transcriber.cli_arguments import CLIENT_SETTINGS, add_settings
from transcriber.config import Settings
from transcriber.errors import StartError


def add_gateway(gateway: argparse.ArgumentParser) -> None:
    gateway.set_defaults(run=_gateway)
    add_settings(gateway, (*CLIENT_SETTINGS, "gateway_", "file_max_bytes", "audio_stream", "transcript_stream"))


def _gateway(settings: Settings, _: argparse.Namespace) -> int:
    try:
        from transcriber.gateway.server import run  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise StartError(f"{error.name} is missing: pip install 'nats-transcriber[gateway]'") from None
    return run(settings)
