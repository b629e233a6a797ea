"""The list of models. In: the model folder, and the models known by name. Out: a table, tab-separated columns, or JSON."""

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from transcriber.config import Settings
from transcriber.errors import ModelError
from transcriber.models.catalog import DEMO, DEMO_MODEL, NAME, PACKAGES, SHA1, model_name, model_path
from transcriber.models.conversion.layout import published_bytes
from transcriber.terminal.output_files import reader_may_leave

COLUMNS = ("model", "size", "here", "from")
BUNDLED, HUB, INDEX, OWN = "bundled", "hub", "index", "own"


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model.

    Attributes:
        name: for ``WHISPER_MODEL``.
        bytes: of its file; of the published one, if it is not on this machine.
        path: of its file, if it is on this machine.
        sources: where it can be downloaded, in the order in which they are tried.
    """

    name: str
    bytes: int
    path: str | None
    sources: tuple[str, ...]


def print_models(settings: Settings, *, as_json: bool) -> None:
    """Print the models on this machine, and those that can be downloaded.

    Raises:
        ModelError: the model folder cannot be read.
    """
    models = list(list_models(settings.whisper_model_dir))
    with reader_may_leave():
        _print(models, as_json=as_json)
        sys.stdout.flush()


def _print(models: Iterable[ModelEntry], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.writelines(json.dumps(asdict(model)) + "\n" for model in models)
        return
    # Not Console.is_terminal: FORCE_COLOR in the environment makes a pipe one.
    if not sys.stdout.isatty():
        sys.stdout.writelines("\t".join(_row(model)) + "\n" for model in models)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in COLUMNS:
        table.add_column(
            column, no_wrap=column != "here", overflow="fold", justify="right" if column == "size" else "left"
        )
    for model in models:
        table.add_row(*_row(model), style=None if model.path else "dim")
    Console(highlight=False, markup=False).print(table)


def list_models(folder: Path) -> Iterable[ModelEntry]:
    """The bundled one, the user's own, then all known by name."""
    yield ModelEntry(DEMO, DEMO_MODEL.stat().st_size, str(DEMO_MODEL), (BUNDLED,))
    here = _files(folder)
    for name in sorted(here.keys() - SHA1.keys() - {DEMO}):
        yield ModelEntry(name, here[name], str(model_path(folder, name)), (OWN,))
    for name in SHA1:
        path = str(model_path(folder, name)) if name in here else None
        yield ModelEntry(
            name,
            here[name] if name in here else published_bytes(name),
            path,
            (HUB, INDEX) if name in PACKAGES else (HUB,),
        )


def _files(folder: Path) -> dict[str, int]:
    """Name to bytes; a file whose name is not a model's cannot be selected by it."""
    try:
        found = {model_name(path): path for path in folder.glob("ggml-*.bin") if path.is_file()}
        return {name: path.stat().st_size for name, path in found.items() if NAME.fullmatch(name)}
    except OSError as error:
        raise ModelError(f"{folder}: cannot be read: {error.strerror or error}") from error


def _row(model: ModelEntry) -> tuple[str, ...]:
    return model.name, f"{model.bytes / 1e6:.1f} MB", model.path or "-", ", ".join(model.sources)
