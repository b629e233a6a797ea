"""Lines of captions. In: text. Out: the same in lines that are not too wide, cut where a reader expects it; no I/O.

A line is counted in columns: a wide character takes two, a mark that is written onto another one none. A word goes whole onto a line, but one
that is longer than a line, and a script without spaces, is cut between clusters: what readers take for one character.
"""

import unicodedata
from collections.abc import Iterator
from functools import lru_cache

from wcwidth import iter_graphemes, width

LINE_COLUMNS = 42
"""Of a caption's line: what broadcasters allow."""

MOST_MARKS = 3
"""So much punctuation stays with the character before it."""

_CLOSING = frozenset({"Pe", "Pf", "Po", "Pd"})
"""Categories of punctuation with which no line begins."""

_OPENING = "¿¡"


BASE = "\u00a0"
"""What a mark stands on that has no character before it: Unicode's way to show one alone."""


def columns(text: str) -> int:
    """How wide it is; counted by characters or by clusters, whichever is more.

    >>> columns("harbour"), columns("港湾"), columns("กำลัง")
    (7, 4, 4)
    """
    return len(text) if text.isascii() else sum(map(_cluster_columns, iter_graphemes(text)))


@lru_cache(4096)
def _cluster_columns(cluster: str) -> int:
    return max(width(cluster), sum(map(_columns, cluster)))


def _columns(char: str) -> int:
    if unicodedata.category(char) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def is_mark(char: str) -> bool:
    """Whether a character is written onto, under or around the one before it."""
    return unicodedata.category(char).startswith("M")


def clusters(text: str) -> Iterator[str]:
    """The least pieces of it that may stand alone, each with the punctuation that follows.

    >>> list(clusters("กำ, 人。」"))
    ['กำ,', ' ', '人。」']
    """
    piece, marks = "", 0
    for one in iter_graphemes(text):
        closing = unicodedata.category(one[0]) in _CLOSING and one not in _OPENING and not piece.isspace()
        if piece and (is_mark(one[0]) or (closing and marks < MOST_MARKS)):
            piece, marks = piece + one, marks + closing
            continue
        if piece:
            yield piece
        piece, marks = one, 0
    if piece:
        yield piece


def wrapped(text: str) -> list[str]:
    """The lines of a caption."""
    lines: list[str] = []
    line, used = "", 0
    for space, piece in _pieces(text):
        more = columns(space + piece)
        if line and used + more > LINE_COLUMNS:
            lines.append(line)
            line, used = piece, columns(piece)
        else:
            line, used = line + space + piece, used + more
    return [*lines, line] if line else lines


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    """What goes onto one line, and what stands between it and the piece before: a word, or of one that is too long its clusters."""
    space = ""
    for word in text.split():
        based = BASE + word if is_mark(word[0]) else word
        for piece in (based,) if columns(based) <= LINE_COLUMNS else clusters(based):
            yield space, piece
            space = ""
        space = " "
