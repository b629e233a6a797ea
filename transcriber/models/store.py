"""Files that are whole or not there. In: a path, and a function that writes. Out: the file, or nothing.

What is written goes to a part file beside it, which is named after it once everything is on the disk and was checked.
Processes that write the same file at once have a part each; the last one to be renamed stays.
"""

import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from transcriber.errors import StorageError

ABANDONED_S = 120.0
"""A part file that nothing was written to for so long belongs to nobody: a download gives up sooner."""

ABANDONED_FOLDER_S = 3600.0
"""The time of a folder does not show that a file in it grows, so that pip may take long."""


@contextmanager
def whole_file(path: Path, check: Callable[[Path], object] = lambda _: None) -> Iterator[BinaryIO]:
    """A file to write to; ``path`` is it, if ``check`` takes it. Otherwise nothing is left.

    Raises:
        StorageError: there is no place to store it.
    """
    part = _part_of(path)
    try:
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


@contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """A folder for what ``path`` is made of, gone afterwards. There, since /tmp may be small or read-only.

    Raises:
        StorageError: there is no place for it.
    """
    folder = _part_of(path)
    try:
        _sweep(path)
        folder.mkdir()
        yield folder
    except OSError as error:
        raise StorageError(f"{path}: cannot be stored: {error.strerror or error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def make_folder(folder: Path) -> None:
    """The model folder, where models are fetched to.

    Raises:
        StorageError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder}: cannot be made: {error.strerror or error}") from error


def _part_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")


def _sweep(path: Path) -> None:
    """Remove what earlier processes left that were killed."""
    for part in path.parent.glob(f"{path.name}.*.part"):
        with suppress(OSError):  # another process may sweep too
            age_s = time.time() - part.stat().st_mtime
            if part.is_dir():
                if age_s > ABANDONED_FOLDER_S:
                    shutil.rmtree(part, ignore_errors=True)
            elif age_s > ABANDONED_S:
                part.unlink()
