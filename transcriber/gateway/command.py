"""The command ``gateway``. In: a parser, settings. Out: a server, until SIGTERM; or a new key, or the OpenAPI document."""

import argparse
import json
import sys

from transcriber.cli_arguments import CLIENT_SETTINGS, add_settings
from transcriber.config import Settings
from transcriber.errors import StartError


def add_gateway(gateway: argparse.ArgumentParser) -> None:
    gateway.set_defaults(run=_gateway)
    gateway.add_argument(
        "--new-key",
        metavar="NAME",
        help="print an entry for GATEWAY_KEYS_FILE, and on stderr its new key, and serve nothing",
    )
    gateway.add_argument(
        "--openapi", action="store_true", help="print the OpenAPI document of what it serves, and serve nothing"
    )
    add_settings(
        gateway, (*CLIENT_SETTINGS, "gateway_", "file_max_bytes", "audio_stream", "transcript_stream", "audit")
    )


def _gateway(settings: Settings, arguments: argparse.Namespace) -> int:
    try:
        from transcriber.gateway.keys import new_key  # noqa: PLC0415 - an extra
        from transcriber.gateway.openapi.document import openapi_document  # noqa: PLC0415
        from transcriber.gateway.server import routes, run  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise StartError(f"{error.name} is missing: pip install 'nats-transcriber[gateway]'") from None
    if arguments.openapi:
        sys.stdout.write(json.dumps(openapi_document(routes()), indent=2, ensure_ascii=False) + "\n")
        return 0
    if arguments.new_key is None:
        return run(settings)
    key, entry = new_key(arguments.new_key)
    sys.stderr.write(f"the key, which is in no file: {key}\n")
    sys.stdout.write(entry)
    return 0
