"""Who speaks, by voice, in a whole recording.

In: its audio, once, in order. Out: turns, by voices that are told apart when all of it is heard.

Voices are learnt as they are live; then those that turn out to be one are merged, and all that was said is given to the voice it is most
like, twice over. It takes 20 MB for ten hours (``bench.voices``).
"""

from array import array
from collections.abc import Iterator
from itertools import combinations

import numpy as np

from transcriber.audio.resampler import TARGET_SAMPLE_RATE
from transcriber.diarization.live_labeller import HEARD_S, learnt
from transcriber.diarization.pieces import Networks, groups_of, owners_of, pieces_of
from transcriber.diarization.voices import KnownVoice, KnownVoices, Samples, VoiceTurn, joined, likeness, most_like

SAME = 0.75
"""Cosine from which on two voices of a recording are one."""

LEAST_S = 2.0
"""A voice that says less is none of its own."""

ROUNDS = 2
"""How often all that was said is given to the voices, which then are those of what they got."""

MOST = 64
"""Voices of a recording."""

_SIZE = round(HEARD_S * TARGET_SAMPLE_RATE)
_STEP = _SIZE // 2


class FileLabeller:
    """One recording. One thread at a time."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks
        self._known: KnownVoices = ()
        self._samples: list[Samples] = []  # not labelled yet, and what is heard with them
        self._length = 0  # of all these
        self._at = self._begin = 0  # sample of the recording at which these begin, and the labelled ones end
        # By group: its voice as float16, how much is said alone, and the groups before it that speak at the same time.
        self._voices = bytearray()
        self._weights_s = array("d")
        self._at_once: dict[int, list[int]] = {}
        # By piece: its group, the first sample and the one after the last.
        self._owners, self._starts, self._ends = array("i"), array("q"), array("q")

    def push(self, samples: Samples, at: int) -> None:
        """Add the next piece, of any length: (n,) float32 in [-1, 1] at 16 kHz; ``at`` is the number of its first sample. Some may be missing."""
        if at != self._at + self._length:
            self._label(self._joined(), self._length)
            self._keep(np.zeros(0, np.float32), at)
            self._begin = at
        self._samples.append(samples)
        self._length += len(samples)
        if self._length > _SIZE:
            kept = self._joined()
            while len(kept) > _SIZE:
                self._label(kept, _SIZE * 3 // 4)
                kept = kept[_STEP:]
                self._at += _STEP
            self._keep(kept.copy(), self._at)

    def _joined(self) -> Samples:
        return np.concatenate([np.zeros(0, np.float32), *self._samples])

    def _keep(self, samples: Samples, at: int) -> None:
        self._samples, self._length, self._at = [samples], len(samples), at

    def turns(self) -> tuple[VoiceTurn, ...]:
        """The recording has ended: its turns, by start, in seconds; voices are numbered as they first speak."""
        self._label(self._joined(), self._length)
        known = _merged(self._known)
        for _ in range(ROUNDS):
            known = _merged(self._as_given(self._nearest(known), len(known))) or known
        voices = self._nearest(known)
        pieces = zip(self._owners, self._starts, self._ends, strict=True)
        turns = joined(
            VoiceTurn(voice, start / TARGET_SAMPLE_RATE, end / TARGET_SAMPLE_RATE)
            for owner, start, end in pieces
            if (voice := voices[owner]) is not None
        )
        numbers: dict[int, int] = {}
        return tuple(turn._replace(voice=numbers.setdefault(turn.voice, len(numbers))) for turn in turns)

    def _label(self, samples: Samples, end: int) -> None:
        """Take what is said from where the labelled ones end up to number ``end`` of ``samples``, the first of which is at ``self._at``."""
        if self._begin - self._at >= end:
            return
        pieces = pieces_of(self._networks, samples[:_SIZE], self._begin - self._at, end)
        groups = groups_of(pieces)
        _, self._known = learnt(groups, self._known, MOST)
        first = len(self._weights_s)
        for owner, piece in zip(owners_of(pieces, groups), pieces, strict=True):
            if owner is not None:
                self._owners.append(first + owner)
                self._starts.append(self._at + piece.start)
                self._ends.append(self._at + piece.end)
        for group in groups:
            self._voices += group.voice.astype("<f2").tobytes()
            self._weights_s.append(group.weight_s)
        for (one, group), (other, later) in combinations(enumerate(groups, first), 2):
            if group.overlaps(later):
                self._at_once.setdefault(other, []).append(one)
        self._begin = self._at + end

    def _groups(self) -> Iterator[tuple[Samples, float]]:
        """The voice of each group, and how much it says alone."""
        size = len(self._voices) // max(1, len(self._weights_s))
        for number, weight_s in enumerate(self._weights_s):
            yield np.frombuffer(self._voices, "<f2", size // 2, number * size).astype(np.float32), weight_s

    def _nearest(self, known: KnownVoices) -> list[int | None]:
        """The voice of each group; those of two that speak at the same time are not the same, unless there is but one."""
        chosen: list[int | None] = []
        for number, (voice, _) in enumerate(self._groups()):
            taken = {chosen[other] for other in self._at_once.get(number, ())}
            free = most_like(known, voice, taken)
            chosen.append(most_like(known, voice, ()) if free is None else free)
        return chosen

    def _as_given(self, chosen: list[int | None], count: int) -> KnownVoices:
        """The voices as they are in what was given to them, without those that say too little."""
        sums: dict[int, Samples] = {}
        weights_s = [0.0] * count
        for (voice, weight_s), number in zip(self._groups(), chosen, strict=True):
            if number is not None:
                sums[number] = sums.get(number, 0) + voice * np.float32(weight_s)
                weights_s[number] += weight_s
        return tuple(
            KnownVoice.of(sums[number], said_s) for number, said_s in enumerate(weights_s) if said_s >= LEAST_S
        )


def _merged(known: KnownVoices) -> KnownVoices:
    """The same voices, those that are one merged, the two most alike first."""
    voices = list(known)
    while len(voices) > 1:
        alike = np.array([likeness(voices, one.direction) for one in voices])
        np.fill_diagonal(alike, -1)
        one, other = sorted(divmod(int(alike.argmax()), len(voices)))
        if alike[one, other] < SAME:
            break
        second = voices.pop(other)
        voices[one] = voices[one].with_more(second.direction, second.weight_s)
    return tuple(voices)
