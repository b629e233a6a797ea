"""Files that are complete or absent. In: a path, and a function that writes. Out: the file, or nothing.

Data goes to a part file beside it, which is renamed once all of it is on the disk and checked.
Processes that write the same file at once have a part each; the last rename wins.
"""

import os
import re
import shutil
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from transcriber.errors import StorageError

ABANDONED_S = 120.0
"""A part file not written to for so long is abandoned: a download gives up sooner."""

_unfinished: set[Path] = set()
"""Part files of this process."""

ABANDONED_FOLDER_S = 3600.0
"""A folder's time does not show that a file in it grows, and pip may take long."""


@contextmanager
def whole_file(path: Path, check: Callable[[Path], object] = lambda _: None) -> Iterator[BinaryIO]:
    """A file to write to; it becomes ``path`` if ``check`` passes. Otherwise nothing is left.

    Raises:
        StorageError: it cannot be stored.
    """
    part = _part_of(path)
    _unfinished.add(part)
    try:
        _check_replaceable(path)
        _sweep(path)
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        check(part)
        part.replace(path)
    except OSError as error:
        raise StorageError(f"{path}: cannot be stored: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            part.unlink()
        _unfinished.discard(part)


@contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """A temporary folder beside ``path``, since /tmp may be small or read-only.

    Raises:
        StorageError: it cannot be created.
    """
    folder = _part_of(path)
    _unfinished.add(folder)
    try:
        _sweep(path)
        folder.mkdir()
        yield folder
    except OSError as error:
        raise StorageError(f"{path}: cannot be stored: {error.strerror or error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _unfinished.discard(folder)


def remove_unfinished() -> None:
    """Remove part files when the process ends while one of its threads still writes."""
    for part in list(_unfinished):
        shutil.rmtree(part, ignore_errors=True)
        with suppress(OSError):
            part.unlink()


def make_folder(folder: Path) -> None:
    """Create the model folder.

    Raises:
        StorageError: it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder}: cannot be made: {error.strerror or error}") from error


def _check_replaceable(path: Path) -> None:
    """Never replace a device, a pipe or a folder, such as /dev/null, by a file."""
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(path.stat().st_mode):
            raise StorageError(f"{path}: cannot be stored: is no regular file")


def _part_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")


def _sweep(path: Path) -> None:
    """Remove part files of processes that were killed."""
    ours = re.compile(re.escape(path.name) + r"\.[0-9a-f]{32}\.part")
    here: list[str] = []
    with suppress(OSError):  # writing raises it
        here = os.listdir(path.parent)  # noqa: PTH208 - names are all that is needed
    for part in (path.with_name(name) for name in here if ours.fullmatch(name)):
        with suppress(OSError):  # another process may sweep too
            age_s = time.time() - part.stat().st_mtime
            if part.is_dir():
                if age_s > ABANDONED_FOLDER_S:
                    shutil.rmtree(part, ignore_errors=True)
            elif age_s > ABANDONED_S:
                part.unlink()
