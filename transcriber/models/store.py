"""Files that are whole or not there. In: a path, and a function that writes. Out: the file, or nothing.

What is written goes to a part file beside it, which is named after it once everything is on the disk and was checked.
Processes that write the same file at once have a part each; the last one to be renamed stays.
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
"""A part file that nothing was written to for so long belongs to nobody: a download gives up sooner."""

_unfinished: set[Path] = set()
"""Parts of this process."""

ABANDONED_FOLDER_S = 3600.0
"""The time of a folder does not show that a file in it grows, so that pip may take long."""


@contextmanager
def whole_file(path: Path, check: Callable[[Path], object] = lambda _: None) -> Iterator[BinaryIO]:
    """A file to write to; ``path`` is it, if ``check`` takes it. Otherwise nothing is left.

    Raises:
        StorageError: there is no place to store it.
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
    """A folder for what ``path`` is made of, gone afterwards. There, since /tmp may be small or read-only.

    Raises:
        StorageError: there is no place for it.
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
    """For a process that ends while a thread of it still writes."""
    for part in list(_unfinished):
        shutil.rmtree(part, ignore_errors=True)
        with suppress(OSError):
            part.unlink()


def make_folder(folder: Path) -> None:
    """The model folder, where models are fetched to.

    Raises:
        StorageError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder}: cannot be made: {error.strerror or error}") from error


def _check_replaceable(path: Path) -> None:
    """A device, a pipe or a folder of that name is nothing to put a file in the place of, /dev/null least of all."""
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(path.stat().st_mode):
            raise StorageError(f"{path}: cannot be stored: is no regular file")


def _part_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")


def _sweep(path: Path) -> None:
    """Remove what earlier processes left that were killed."""
    ours = re.compile(re.escape(path.name) + r"\.[0-9a-f]{32}\.part")
    here: list[str] = []
    with suppress(OSError):  # whoever writes next is told
        here = os.listdir(path.parent)  # noqa: PTH208 - names are all that is needed
    for part in (path.with_name(name) for name in here if ours.fullmatch(name)):
        with suppress(OSError):  # another process may sweep too
            age_s = time.time() - part.stat().st_mtime
            if part.is_dir():
                if age_s > ABANDONED_FOLDER_S:
                    shutil.rmtree(part, ignore_errors=True)
            elif age_s > ABANDONED_S:
                part.unlink()
