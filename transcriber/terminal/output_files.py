"""Writing results. In: the names of files, ``--output``, results in pieces. Out: files, or stdout."""

import os
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from transcriber.errors import ConfigError
from transcriber.text.phrases import clean
from transcriber.text.results import Form

SUFFIXES: dict[Form, str] = {"text": "txt", "json": "json", "verbose_json": "json", "srt": "srt", "vtt": "vtt"}
"""Suffixes of a result's file, here and in the bucket of results."""


def output_paths(files: list[Path | None], output: Path | None, form: Form) -> list[Path | None]:
    """The path of each file's result; None is stdout.

    Several results go to the directory ``output``, which is created if missing, each under its file's name; so does a single
    one if the directory exists.

    Raises:
        ConfigError: two results would have the same name, or the directory cannot be created.
    """
    if output is None:
        if len(files) > 1 and form in {"srt", "vtt"}:
            raise ConfigError(f"--format={form}: subtitles are of one recording; name a directory with --output")
        return [None] * len(files)
    if len(files) == 1 and not output.is_dir():
        if not output.parent.is_dir():
            raise ConfigError(f"--output={output}: there is no directory {output.parent}")
        return [output]
    try:
        output.mkdir(exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--output={output}: {error.strerror}") from None
    taken: dict[Path, Path | None] = {}
    for file in files:
        place = output / f"{file.stem if file else 'stdin'}.{SUFFIXES[form]}"
        if place in taken:
            raise ConfigError(f"{display_name(taken[place])} and {display_name(file)} would both be written to {place}")
        taken[place] = file
    return list(taken)


def display_name(path: Path | None) -> str:
    """A file's name for messages and for the object store: any text, no control characters."""
    return clean(os.fsencode(path).decode(errors="replace")) if path else "stdin"


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """End quietly where the reader of stdout has closed it."""
    try:
        yield
    except BrokenPipeError:
        forget_stdout()


def forget_stdout() -> None:
    """Discard what is still buffered for stdout; Python would complain when it flushes that at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


async def write(pieces: AsyncIterator[bytes], place: Path | None, *, head: str = "") -> None:
    """Write a result: to stdout after ``head``, ending in a newline; or to a file, which appears when it is whole.

    Raises:
        ConfigError: the file cannot be written.
        BrokenPipeError: the reader of stdout has closed it.
    """
    if place is None:
        await _to_stdout(pieces, head)
        return
    target = _target(place)
    try:
        try:
            with target.open("wb") as file:
                async for piece in pieces:
                    file.write(piece)
                file.flush()
                if target != place:
                    os.fsync(file.fileno())  # some file systems report a full disk only here
            if target != place:
                target.replace(place)
        except BaseException:
            if target != place:
                with suppress(OSError):
                    target.unlink()
            raise
    except OSError as error:
        if isinstance(error, ConnectionError) and not isinstance(error, BrokenPipeError):
            raise  # the result could not be read
        raise ConfigError(f"{place}: cannot be written: {error.strerror}") from None


async def single_piece(data: bytes) -> AsyncIterator[bytes]:
    """A result in one piece."""
    yield data


async def chain_pieces(first: Iterable[bytes], rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """``first``, then ``rest``."""
    for piece in first:
        yield piece
    async for piece in rest:
        yield piece


def _target(place: Path) -> Path:
    """The file to write, which is then renamed to ``place``; devices and pipes are written to directly."""
    return place if place.exists() and not place.is_file() else place.with_name(f".{place.name}.part")


async def _to_stdout(pieces: AsyncIterator[bytes], head: str) -> None:
    out: BinaryIO = sys.stdout.buffer
    last = b""
    async for piece in pieces:
        out.write(head.encode() + piece)
        head, last = "", piece[-1:] or last
    if last not in {b"", b"\n"}:
        out.write(b"\n")
    out.flush()
