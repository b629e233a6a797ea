"""A built plug-in to its place beside whisper.cpp's libraries. In: a file or a URL. Out: the plug-in, checked and loadable."""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from transcriber.errors import ConfigError, PlugInError, StorageError
from transcriber.gpu.plug_in import BASE_NAME, NAME, base_library, check_plug_in
from transcriber.gpu.probe import Probe, probe
from transcriber.models.download import download
from transcriber.models.progress import Draw, draw_nothing
from transcriber.models.store import whole_file


def install(source: str, sha256: str | None = None, draw: Draw = draw_nothing) -> tuple[Path, Probe]:
    """Put a plug-in into place, over one that is there; returns its path and what it finds here.

    Nothing is left, and what was there stays, unless it is whole, has the checksum, is for this whisper.cpp, and loads, for which
    NVIDIA's libraries may still be missing.

    Args:
        source: a path, or an ``https`` URL; an ``http`` one with a checksum.
        sha256: of the file, hexadecimal; None: not compared.
        draw: progress of a download.

    Raises:
        ConfigError: a URL of another kind.
        ModelError: it cannot be downloaded, or has another checksum.
        PlugInError: as above.
        StorageError: the place cannot be written to.
    """
    base = base_library()
    target = base.with_name(NAME)
    found = Probe(loaded=False, error=None)

    def check(part: Path) -> None:
        nonlocal found
        try:
            check_plug_in(part)
        except PlugInError as error:
            raise PlugInError(str(error).replace(str(part), source)) from error
        found = probe(part)
        if not found.loaded and not found.lacks_libraries:
            raise PlugInError(f"{source}: does not load: {found.error}")

    if "://" in source:
        _check_url(source, sha256)
        with _link(base):
            download(source, target, {"sha256": sha256.lower()} if sha256 else {}, draw, check)
    else:
        _copy(Path(source), target, sha256, check)
    return target, found


def _copy(source: Path, target: Path, sha256: str | None, check: Callable[[Path], object]) -> None:
    try:
        with source.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            if sha256 and digest != sha256.lower():
                raise PlugInError(f"{source}: SHA-256 is {digest}, not {sha256}")
            file.seek(0)
            with _link(base_library()), whole_file(target, check) as copy:
                shutil.copyfileobj(file, copy)
    except OSError as error:
        raise PlugInError(f"{source}: cannot be read: {error.strerror or error}") from error


@contextmanager
def _link(base: Path) -> Iterator[None]:
    """The name under which a plug-in needs ``base``, where that has another one; as it was before if the plug-in is not installed."""
    link = base.with_name(BASE_NAME)
    before = link.readlink() if link.is_symlink() else None  # it leads to what another version had
    if base == link or before == Path(base.name):
        yield
        return
    try:
        link.unlink(missing_ok=True)
        link.symlink_to(base.name)
    except OSError as error:
        raise StorageError(f"{link}: cannot be stored: {error.strerror or error}") from error
    try:
        yield
    except BaseException:
        with suppress(OSError):
            link.unlink()
            if before:
                link.symlink_to(before)
        raise


def _check_url(url: str, sha256: str | None) -> None:
    try:
        parts = urlsplit(url)
        scheme = parts.scheme if parts.hostname and parts.port != 0 else ""
    except ValueError:
        scheme = ""
    if scheme not in {"http", "https"}:
        raise ConfigError(f"{url!r}: must be a file, or an http or https URL")
    if scheme == "http" and not sha256:
        raise ConfigError(f"{url}: is not encrypted, so it needs --sha256")
