"""A progress bar. In: text and numbers. Out: a bar on a terminal; elsewhere nothing."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

_REFRESH_S = 0.1


class Draw(Protocol):
    """May be called at any rate; ``total`` None: not known."""

    def __call__(self, text: str, done: float, total: float | None) -> None: ...


def stderr_console() -> Console:
    """stderr, for everything that is not a result."""
    return Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def progress_bar(console: Console) -> Iterator[Draw]:
    """A bar after a text; removed at the end."""
    drawn_s = 0.0
    columns = TextColumn("{task.description}", markup=False), BarColumn()
    # No auto-refresh: that would be a thread.
    with Progress(
        *columns, console=console, auto_refresh=False, transient=True, disable=not console.file.isatty()
    ) as shown:
        task = shown.add_task("", total=None)

        def draw(text: str, done: float, total: float | None) -> None:
            nonlocal drawn_s
            if time.monotonic() - drawn_s >= _REFRESH_S:
                drawn_s = time.monotonic()
                shown.update(task, description=text, completed=done, total=total, refresh=True)

        yield draw
