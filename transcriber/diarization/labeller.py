"""Who speaks, by voice.

In: turns, each the audio of one stretch of speech. Out: a label for each, ``A`` for the first speaker, then ``B``. A labeller
needs all turns before it gives labels, so it is for recordings, not for live streams. Where each speaker has a channel
no labeller is needed.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator
from string import ascii_uppercase
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from transcriber.audio.resampler import TARGET_SAMPLE_RATE
from transcriber.diarization.clustering import Clustering

SHORTEST_S = 0.6
"""A shorter turn is too short for an embedding; it gets the label of its neighbour."""

SURE_S = 1.2
"""A shorter turn joins the most similar voice, and makes no new one."""

ALIKE = 0.73
"""Mean cosine above which turns are of one voice. Of conversations of synthetic voices, clean or at 15 dB SNR, from 0.70 to 0.76
at most 3 % of the time get a wrong speaker; at 0.65 up to 20 %, since voices are merged, and at 0.80 up to 10 %, since they are
split. It is the middle: real voices vary more from turn to turn, and could not be measured.
"""

Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""The voice in some speech, (n,) float32 at 16 kHz, as a vector of length 1; all 0 for digital silence. ``VoiceNetwork`` is one."""


class Labeller(Protocol):
    """Labels the turns of one recording, given in order."""

    def add_turn(self, samples: NDArray[np.float32], start_s: float, end_s: float) -> None:
        """Add the next turn: (n,) float32 in [-1, 1] at 16 kHz, and its times."""

    def labels(self) -> list[str]:
        """The label of each turn so far."""


class VoiceLabeller:
    """Labels turns by voice embeddings. 24 bytes a turn, and at most 2 MB."""

    def __init__(self, network: Network, most: int | None = None) -> None:
        """``most`` is the greatest number of speakers, if that is known."""
        self._network = network
        self._voices = Clustering(ALIKE, most)
        self._times_s = array("d")  # start and end of each turn
        self._embedded = array("i")  # numbers of the turns that were long enough

    def add_turn(self, samples: NDArray[np.float32], start_s: float, end_s: float) -> None:
        """Add the next turn."""
        if len(samples) >= SHORTEST_S * TARGET_SAMPLE_RATE:
            voice = self._network(samples)
            if voice.any():
                self._embedded.append(len(self._times_s) // 2)
                self._voices.add(voice, sure=len(samples) >= SURE_S * TARGET_SAMPLE_RATE)
        self._times_s.extend((start_s, end_s))

    def labels(self) -> list[str]:
        """The label of each turn so far; where no turn was long enough, all are ``A``."""
        voices = dict(zip(self._embedded, self._voices.groups(), strict=True))
        names: dict[int, str] = {}
        return [names.setdefault(voice, label(len(names))) for voice in self._filled(voices)]

    def _filled(self, voices: dict[int, int]) -> Iterator[int]:
        """The voice of each turn; of one without an embedding, that of the turn nearest in time."""
        before = after = -1  # numbers of turns with an embedding
        embedded = iter(self._embedded)
        count = len(self._times_s) // 2
        for number in range(count):
            if number in voices:
                before = number
                yield voices[number]
                continue
            while after < number and after < count:
                after = next(embedded, count)
            pause_before_s = self._times_s[2 * number] - self._times_s[2 * before + 1] if before >= 0 else np.inf
            pause_after_s = self._times_s[2 * after] - self._times_s[2 * number + 1] if after < count else np.inf
            yield voices.get(before if pause_before_s <= pause_after_s else after, 0)


class TurnFeeder:
    """Cuts turns from audio that is read once, and gives them to a labeller."""

    def __init__(self, turns_s: Iterable[tuple[float, float]], labeller: Labeller) -> None:
        """``turns_s`` is start and end of each turn, in order; where two overlap, the first gets the audio."""
        self._labeller = labeller
        self._turns_s = iter(turns_s)
        self._turn_s = next(self._turns_s, None)
        self._pieces: list[NDArray[np.float32]] = []  # of this turn
        self._past = 0  # sample at which the previous turn ended

    def push(self, samples: NDArray[np.float32], at: int) -> None:
        """Add the next piece, of any length: (n,) float32 at 16 kHz, and the number of its first sample. Samples may be missing between pieces."""
        while self._turn_s is not None:
            first, last = (round(time_s * TARGET_SAMPLE_RATE) for time_s in self._turn_s)
            piece = samples[max(0, first - at, self._past - at) : max(0, last - at)]
            if len(piece):
                self._pieces.append(piece.copy())
            if last > at + len(samples):
                return
            self._past = max(self._past, last)
            self._add_turn(*self._turn_s)

    def flush(self) -> None:
        """The audio has ended: add the rest of the turns, as far as there is audio."""
        while self._turn_s is not None:
            self._add_turn(*self._turn_s)

    def _add_turn(self, start_s: float, end_s: float) -> None:
        samples = np.concatenate(self._pieces) if self._pieces else np.empty(0, np.float32)
        self._labeller.add_turn(samples, start_s, end_s)
        self._pieces = []
        self._turn_s = next(self._turns_s, None)


def label(number: int) -> str:
    """``A`` to ``Z``, then ``AA``, ``AB`` and so on."""
    more, letter = divmod(number, len(ascii_uppercase))
    return (label(more - 1) if more else "") + ascii_uppercase[letter]
