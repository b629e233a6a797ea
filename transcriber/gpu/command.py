"""The command ``gpu``. In: a command line. Out: the plug-in built, installed or described."""

import argparse
import json
import logging
import re
import sys
from pathlib import Path

from transcriber.cli_arguments import Commands, add_settings, command
from transcriber.config import Settings
from transcriber.errors import PlugInError
from transcriber.gpu.build import BuildError, add_options, run as build_plug_in
from transcriber.gpu.plug_in import NAME, Origin, base_library, check_plug_in, find_plug_in
from transcriber.gpu.probe import Probe, probe
from transcriber.models.command import shown
from transcriber.tasks import interrupt_on_sigterm

SHA256_DIGITS = re.compile("[0-9a-fA-F]{64}")
MIB = 2**20

NO_PLUG_IN = f"no {NAME}: transcriber gpu install FILE|URL"
NO_DRIVER = "none; version 580 or newer is needed"
BUILT_FROM = "pywhispercpp {pywhispercpp}, CUDA {cuda}, for {architectures}"
EXTRA = "pip install 'nats-transcriber[cuda]' brings NVIDIA's libraries"


def add_gpu(gpu: argparse.ArgumentParser) -> None:
    parts: Commands = gpu.add_subparsers(title="commands", metavar="COMMAND", required=True)

    status = command(parts, "status", _status, "what there is of a GPU, and whether it would be used")
    status.add_argument("--json", action="store_true", help="an object, not lines")
    add_settings(status, ("whisper_device", "whisper_kernels", "log_"))

    put = command(parts, "install", _install, "put a built plug-in beside whisper.cpp, over one that is there")
    put.add_argument("source", metavar="FILE|URL", help=f"{NAME} as `transcriber gpu build` made it")
    put.add_argument("--sha256", type=_sum, metavar="HEX", help="of the file; anything else is refused")
    add_settings(put, ("log_",))

    build = command(parts, "build", _build, "compile the plug-in; the compiler comes from the package index (3 GB)")
    add_options(build)
    add_settings(build, ("log_",))


def _sum(text: str) -> str:
    if not SHA256_DIGITS.fullmatch(text):
        raise argparse.ArgumentTypeError("must be 64 hexadecimal digits")
    return text.lower()


def _build(_: Settings, arguments: argparse.Namespace) -> int:
    interrupt_on_sigterm()
    try:
        build_plug_in(arguments)
    except BuildError as error:
        raise PlugInError(str(error)) from error
    sys.stdout.write(f"{arguments.out}\n")
    return 0


def _install(_: Settings, arguments: argparse.Namespace) -> int:
    from transcriber.gpu.install import install  # noqa: PLC0415 - it loads NumPy

    interrupt_on_sigterm()
    with shown() as draw:
        path, found = install(arguments.source, arguments.sha256, draw)
    sys.stdout.write(f"{path}\n")
    if found.error:
        sys.stderr.write(f"transcriber: it is installed, and of no use yet: {found.error}\n")
    if found.lacks_libraries:
        sys.stderr.write(f"transcriber: {EXTRA}\n")
    return 0


def _status(settings: Settings, arguments: argparse.Namespace) -> int:
    from transcriber.engine.whisper.device import chosen_device  # noqa: PLC0415 - it loads whisper.cpp, for nothing else

    path, origin, found = _look()
    logging.getLogger("transcriber.engine").setLevel(logging.CRITICAL)  # what it would say stands in the last row
    chosen = chosen_device(settings)
    reason = chosen.reason or (found.error if chosen.kind == "cpu" and settings.whisper_device != "cpu" else None)
    if arguments.json:
        said = {"plug_in": str(path) if path else None, "built_from": origin._asdict() if origin else None}
        last = {"devices": [device._asdict() for device in found.devices], "runs_on": chosen.name, "reason": reason}
        sys.stdout.write(json.dumps(said | found._asdict() | last) + "\n")
        return 0
    rows: dict[str, list[str]] = {
        "plug-in": [str(path or "none")],
        "built from": [BUILT_FROM.format(**origin._asdict()) if origin else "-"],
        "libraries": list(found.libraries) or ["none"],
        "driver": [f"for CUDA {found.driver}" if found.driver else NO_DRIVER],
        "devices": [
            f"{each.name}, {each.description}, {each.total_bytes // MIB} MiB, {each.free_bytes // MIB} of them free"
            for each in found.devices
        ]
        or ["none"],
        f"WHISPER_DEVICE={settings.whisper_device}": [
            ": ".join(filter(None, (chosen.name, chosen.description, reason)))
        ],
    }
    width = max(map(len, rows))
    for name, lines in rows.items():
        for number, line in enumerate(lines):
            sys.stdout.write(f"{'' if number else name:{width}}  {line}\n")
    return 0


def _look() -> tuple[Path | None, Origin | None, Probe]:
    """The plug-in, what it was built from, and what it finds."""
    path, origin, found = find_plug_in(), None, Probe(loaded=False, error=NO_PLUG_IN)
    try:
        if path:
            origin = check_plug_in(path)
            found = probe(path)
        else:
            base_library()
    except PlugInError as error:
        found = Probe(loaded=False, error=str(error))
    return path, origin, found
