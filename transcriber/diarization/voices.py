"""The voices of a session, and which of them somebody has.

In: what the voices of some groups of pieces are like. Out: the voices known after them, and the number of each group's.
"""

from collections.abc import Container, Iterable, Sequence
from string import ascii_uppercase
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]


class KnownVoice(NamedTuple):
    """One voice of a session.

    Attributes:
        vector: its direction, (192,) float16, little-endian. As bytes, since it is stored with the session, and is to be the same afterwards.
        weight_s: seconds of speech that it was taken from.
    """

    vector: bytes
    weight_s: float

    @classmethod
    def of(cls, voice: Samples, weight_s: float) -> "KnownVoice":
        return cls(unit(voice).astype("<f2").tobytes(), weight_s)

    @property
    def direction(self) -> Samples:
        """(192,) float32."""
        return np.frombuffer(self.vector, "<f2").astype(np.float32)

    def with_more(self, voice: Samples, weight_s: float) -> "KnownVoice":
        """Taken from ``weight_s`` more seconds, in which it is like ``voice``."""
        both = self.direction * np.float32(self.weight_s) + voice * np.float32(weight_s)
        return KnownVoice.of(both, self.weight_s + weight_s)


KnownVoices = tuple[KnownVoice, ...]
"""Of one session, in the order of their labels."""


class VoiceTurn(NamedTuple):
    """One stretch of one speaker.

    Attributes:
        voice: its number among the known ones; ``label`` makes a label of it.
        start_s, end_s: from the first sample.
    """

    voice: int
    start_s: float
    end_s: float


def joined(turns: Iterable[VoiceTurn]) -> tuple[VoiceTurn, ...]:
    """By start; those of one voice that touch are one."""
    found: list[VoiceTurn] = []
    for turn in sorted(turns):
        if found and found[-1].voice == turn.voice and turn.start_s <= found[-1].end_s:
            found[-1] = found[-1]._replace(end_s=max(turn.end_s, found[-1].end_s))
        else:
            found.append(turn)
    return tuple(sorted(found, key=lambda turn: (turn.start_s, turn.voice)))


def likeness(known: Sequence[KnownVoice], voice: Samples) -> Samples:
    """The cosine of each known voice with ``voice``, (192,) float32 of length 1: (n,) float32."""
    # No BLAS: its threads would take whisper's cores.
    directions = np.array([one.direction for one in known], np.float32).reshape(len(known), len(voice))
    cosines: Samples = np.einsum("ij,j->i", directions, voice)
    return cosines


def most_like(known: Sequence[KnownVoice], voice: Samples, taken: Container[int | None]) -> int | None:
    """The number of the known voice that ``voice`` is most like, without those ``taken``; None: there is no other."""
    alike = likeness(known, voice)
    free = (number for number in range(len(known)) if number not in taken)
    return max(free, key=lambda number: alike[number], default=None)


def unit(vectors: Samples) -> Samples:
    """Vectors, in the last axis, of length 1; those of length 0 stay."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: Samples = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return scaled


def label(number: int) -> str:
    """``A`` to ``Z``, then ``AA``, ``AB`` and so on."""
    more, letter = divmod(number, len(ascii_uppercase))
    return (label(more - 1) if more else "") + ascii_uppercase[letter]
