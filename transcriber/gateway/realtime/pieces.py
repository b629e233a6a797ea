"""The text of a session in order. In: messages as they come. Out: pieces that tile the session. Pure; no I/O.

Gaps and silences may come before an earlier final, so a piece waits until what is before it is there.
"""

import heapq
import itertools
from typing import NamedTuple

from transcriber.schema.messages import BRIDGED_S, Final, Gap, Silence

MAX_WAITING = 256
"""Pieces that wait for an earlier one; then it counts as missing."""


class Piece(NamedTuple):
    """What became of the frames from ``start`` to ``end``, counted over the whole connection.

    Attributes:
        text: of a ``final``; empty: nobody speaks.
        ends_speech: speech is over.
        reason: why it was not transcribed; None: it was.
        flushed: the window was closed because that was asked for.
    """

    start: int
    end: int
    text: str = ""
    ends_speech: bool = True
    language: str | None = None
    reason: str | None = None
    flushed: bool = False


def piece_of(message: Final | Silence | Gap, base: int) -> Piece:
    """The piece of a message whose session began at frame ``base``."""
    start = base + message.start_frame
    end, flushed = start + message.frames, bool(getattr(message, "flushed", False))
    match message:
        case Final():
            text = " ".join(message.text.split())
            return Piece(start, end, text, message.speech_final, message.language, flushed=flushed)
        case Gap() if 0 < message.frames <= BRIDGED_S * message.rate:  # the window goes on
            return Piece(start, end, ends_speech=False, flushed=flushed)
        case Gap():
            return Piece(start, end, reason=message.reason, flushed=flushed)
        case _:
            return Piece(start, end, flushed=flushed)


class Tiling:
    """Event loop only.

    Attributes:
        position: frame before which all is known.
    """

    def __init__(self) -> None:
        self.position = 0
        self._waiting: list[tuple[int, int, Piece]] = []
        self._number = itertools.count()

    def add(self, piece: Piece) -> list[Piece]:
        """Take one more; returns those that are next, in order."""
        heapq.heappush(self._waiting, (piece.start, next(self._number), piece))
        ready = []
        while self._waiting and (self._waiting[0][0] <= self.position or len(self._waiting) > MAX_WAITING):
            ready.append(self._pop())
        return ready

    def rest(self) -> list[Piece]:
        """All that wait, in order: nothing earlier comes any more."""
        return [self._pop() for _ in range(len(self._waiting))]

    def _pop(self) -> Piece:
        piece = heapq.heappop(self._waiting)[2]
        self.position = max(self.position, piece.end)
        return piece
