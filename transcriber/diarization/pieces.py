"""Speech in pieces of about two seconds, each of one voice, and which of them belong together.

In: up to 10 s of samples. Out: pieces with what their voice is like, and groups of pieces of one speaker.

The network that says who speaks when tells at most three apart, and takes one for another more often than the one that hears what a voice
is like: so its stretches are cut, and the pieces compared. It counts for a little that it took two pieces for one speaker, or for two.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from transcriber.audio.resampler import TARGET_SAMPLE_RATE
from transcriber.diarization.voices import Samples, unit

LOCALS = 3
"""Speakers that the first network tells apart in one answer; they have no names, and others in the next one."""

STEP, FIRST = 270, 495.5
"""Samples from one frame of its answer to the next, and to the middle of the first."""

PIECE_S = 2.0
"""A longer stretch of one speaker is cut into pieces of about so much."""

HEARD_S = 1.5
"""So much speech around a shorter piece is heard with it, of the same speaker alone."""

LEAST_S = 0.5
"""Of less speech the voice is not looked at."""

ALIKE = 0.55
"""Cosine from which on two pieces within 10 s are of one voice; for ``SAME`` and ``OTHER``, ``HEARD_S`` and ``PIECE_S``, too: of a few values
those with the least errors on the material of ``bench.voices``."""

SAME, OTHER = 0.1, 0.2
"""How much more, or less, alike two pieces count that the first network took for one speaker, or for two."""

_NEVER = -9.0
"""Of two that speak at once."""


class Networks(Protocol):
    """``VoiceNetworks`` is one."""

    def activity(self, samples: Samples) -> NDArray[np.bool_]: ...

    def voice(self, samples: Samples) -> Samples: ...


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Speech of one speaker.

    Attributes:
        local: number of the speaker in the network's answer; not the same in other audio.
        start, end: first sample, and the one after the last.
        voice: (192,) float32 of length 1; None: too little is said.
        weight_s: how much new is said alone in it.
    """

    local: int
    start: int
    end: int
    voice: Samples | None
    weight_s: float

    def overlaps(self, other: "Piece") -> bool:
        return self.start < other.end and other.start < self.end


class Group(NamedTuple):
    """Pieces of one speaker, by start.

    Attributes:
        voice: their mean, (192,) float32 of length 1.
        weight_s: how much new is said alone in all of them.
    """

    pieces: tuple[Piece, ...]
    voice: Samples
    weight_s: float

    def overlaps(self, other: "Group") -> bool:
        """Whether both speak at once, so that they are two."""
        return any(one.overlaps(two) for one in self.pieces for two in other.pieces)


def pieces_of(networks: Networks, samples: Samples, begin: int, end: int, new_from: int = 0) -> list[Piece]:
    """What is said from sample ``begin`` to ``end`` of ``samples``, (n,) float32 in [-1, 1] at 16 kHz; new from ``new_from`` on."""
    active = networks.activity(samples)
    alone = active & (active.sum(axis=1, keepdims=True) == 1)
    found: list[Piece] = []
    for local in range(active.shape[1]):
        own = _stretches(alone[:, local], len(samples))
        for start, stop in _stretches(active[:, local], len(samples)):
            for first, last in _cut(max(start, begin), min(stop, end)):
                weight = sum(last_ - first_ for first_, last_ in _within(own, max(first, new_from), last))
                voice = _voice(networks, samples, own, first, last)
                found.append(Piece(local, first, last, voice, weight / TARGET_SAMPLE_RATE))
    return found


def owners_of(pieces: Sequence[Piece], groups: Sequence[Group]) -> list[int | None]:
    """The number of each piece's group; of one whose voice is not known that of the nearest, best of the same local. None: no voice is."""
    known = {piece: number for number, group in enumerate(groups) for piece in group.pieces}
    owners: list[int | None] = []
    for piece in pieces:
        near = min(known, key=lambda other: (other.local != piece.local, _apart(piece, other)), default=None)
        owners.append(known.get(piece, None if near is None else known[near]))
    return owners


def groups_of(pieces: Sequence[Piece]) -> list[Group]:
    """Pieces of one answer of the network, those of one speaker together; without those whose voice is not known. The weightiest first."""
    known = [piece for piece in pieces if piece.voice is not None]
    groups = [[number] for number in range(len(known))]
    weights = np.array([max(piece.weight_s, 1 / TARGET_SAMPLE_RATE) for piece in known])
    alike = _alikeness(known) * weights[:, np.newaxis] * weights
    while len(groups) > 1:
        sums = np.array([[alike[np.ix_(one, other)].sum() for other in groups] for one in groups])
        sizes = np.array([weights[one].sum() for one in groups])
        mean = sums / np.outer(sizes, sizes)
        np.fill_diagonal(mean, _NEVER)
        one, other = sorted(divmod(int(mean.argmax()), len(groups)))
        if mean[one, other] < ALIKE:
            break
        groups[one] += groups.pop(other)
    return sorted(
        (_group([known[number] for number in group], weights[group]) for group in groups), key=lambda one: -one.weight_s
    )


def _stretches(active: NDArray[np.bool_], samples: int) -> list[tuple[int, int]]:
    """Where frames of activity, (n,), are true: in samples, of which there are so many."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], active.astype(np.int8), [0]]))).tolist()
    places = [min(max(round(FIRST + STEP * (edge - 0.5)), 0), samples) for edge in edges]
    return list(zip(places[::2], places[1::2], strict=True))


def _cut(start: int, end: int) -> Iterator[tuple[int, int]]:
    """A stretch in equal pieces."""
    if end > start:
        count = max(1, round((end - start) / TARGET_SAMPLE_RATE / PIECE_S))
        for number in range(count):
            yield start + (end - start) * number // count, start + (end - start) * (number + 1) // count


def _voice(
    networks: Networks, samples: Samples, own: Sequence[tuple[int, int]], start: int, end: int
) -> Samples | None:
    """The voice of a piece, of what ``own`` says alone there; of a short one with some of what is around it."""
    said = _within(own, start, end)
    missing = round(HEARD_S * TARGET_SAMPLE_RATE) - sum(b - a for a, b in said)
    if said and missing > 0:
        said = _within(own, start - missing // 2, end + missing // 2)
    if sum(b - a for a, b in said) < LEAST_S * TARGET_SAMPLE_RATE:
        return None
    voice = networks.voice(np.concatenate([samples[a:b] for a, b in said]))
    return voice if voice.any() else None


def _within(stretches: Sequence[tuple[int, int]], start: int, end: int) -> list[tuple[int, int]]:
    return [(first, last) for a, b in stretches if (first := max(a, start)) < (last := min(b, end))]


def _alikeness(pieces: Sequence[Piece]) -> NDArray[np.float64]:
    """Of each two, with what the first network took them for."""
    if not pieces:
        return np.zeros((0, 0))
    voices = np.array([piece.voice for piece in pieces], np.float64)
    # No BLAS: its threads would take whisper's cores.
    alike: NDArray[np.float64] = np.einsum("ik,jk->ij", voices, voices)
    for row, one in zip(alike, pieces, strict=True):
        for number, other in enumerate(pieces):
            if one.local == other.local:
                row[number] += SAME
            else:
                row[number] = _NEVER if one.overlaps(other) else row[number] - OTHER
    return alike


def _group(pieces: Sequence[Piece], weights: NDArray[np.float64]) -> Group:
    total = sum(weight * piece.voice for piece, weight in zip(pieces, weights, strict=True) if piece.voice is not None)
    return Group(
        tuple(sorted(pieces, key=lambda piece: piece.start)),
        unit(np.asarray(total, np.float32)),
        sum(piece.weight_s for piece in pieces),
    )


def _apart(one: Piece, other: Piece) -> int:
    return max(other.start - one.end, one.start - other.end, 0)
