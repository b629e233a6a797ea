"""Progress of downloads and conversions. In: a text and how much is done. Out: drawn, or not."""

from typing import Protocol


class Draw(Protocol):
    """May be called at any rate; ``total`` None: not known."""

    def __call__(self, text: str, done: float, total: float | None) -> None: ...


def draw_nothing(text: str, done: float, total: float | None) -> None:
    """For a process without a terminal."""
