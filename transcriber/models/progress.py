"""How far fetching and converting are. In: a text and a share of it. Out: drawn, or not."""

from typing import Protocol


class Draw(Protocol):
    """Called as often as you like with what is fetched; ``total`` None: not known."""

    def __call__(self, text: str, done: float, total: float | None) -> None: ...


def draw_nothing(text: str, done: float, total: float | None) -> None:
    """For whoever looks at the log only."""
