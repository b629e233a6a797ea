"""Lines of captions. In: text. Out: the same in lines that are not too wide, cut where a reader expects it; no I/O.

Width is counted in columns: a wide character takes two, a combining mark none. Words stay whole, but a word longer than a line, or a
script without spaces, is cut between grapheme clusters: what readers take for one character.
"""

import unicodedata
from collections.abc import Iterator
from functools import lru_cache

from wcwidth import iter_graphemes, width

LINE_COLUMNS = 42
"""Width of a caption's line: what broadcasters allow."""

MOST_MARKS = 3
"""So many punctuation marks stay with the character before them."""

_CLOSING = frozenset({"Pe", "Pf", "Po", "Pd"})
"""Categories of punctuation with which no line begins."""

_OPENING = "¿¡"


BASE = "\u00a0"
"""Precedes a combining mark that has no base character: Unicode's way to show one alone."""


def columns(text: str) -> int:
    """The width of ``text``, counted by characters or by clusters, whichever is more.

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
    """Whether a character is a combining mark."""
    return unicodedata.category(char).startswith("M")


def clusters(text: str) -> Iterator[str]:
    """The grapheme clusters of ``text``, each with the punctuation that follows.

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


def wrapped(text: str, room: int = LINE_COLUMNS) -> list[str]:
    """The lines of a text, each of at most ``room`` columns; of a caption, unless that is given."""
    lines: list[str] = []
    line, used = "", 0
    for space, piece in _pieces(text, room):
        more = columns(space + piece)
        if line and used + more > room:
            lines.append(line)
            line, used = piece, columns(piece)
        else:
            line, used = line + space + piece, used + more
    return [*lines, line] if line else lines


def _pieces(text: str, room: int) -> Iterator[tuple[str, str]]:
    """The pieces that stay on one line, each with the space before it: words, or the clusters of a word that is too long."""
    space = ""
    for word in text.split():
        based = BASE + word if is_mark(word[0]) else word
        for piece in (based,) if columns(based) <= room else clusters(based):
            yield space, piece
            space = ""
        space = " "
