"""Who speaks, by voice, while it is said.

In: windows with the audio before them, and the voices that their session has shown so far. Out: turns, and the voices known after it.

What is said is cut into pieces and grouped (``pieces.py``). Each group has the known voice that it is most like; one that is like none is a
new voice (arXiv 2109.06483 describes such a clustering). All that is remembered is ``KnownVoices``, a value: whoever has it and the audio
finds the same labels.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from transcriber.audio.resampler import TARGET_SAMPLE_RATE
from transcriber.diarization.pieces import Group, Networks, Piece, groups_of, owners_of, pieces_of
from transcriber.diarization.voices import KnownVoice, KnownVoices, Samples, VoiceTurn, joined, likeness, most_like

HEARD_S = 10.0
"""What the first network was trained on."""

ALIKE = 0.4
"""Cosine from which on a group has a known voice."""

NEW_S = 1.0
"""Speech of one alone that makes a new voice; who says less has the most similar one."""

LEARNT_S = 0.8
"""Speech of one alone from which on a known voice follows it."""

MOST = 16
"""Voices of a session; who comes after them has the most similar label."""

MARGIN_S = 0.5
"""How much more before a window is labelled with it than words were held back: their times are imprecise."""


class Labelled(NamedTuple):
    """Turns of some audio, by start; those of two voices overlap where both speak. And the voices known after it."""

    turns: tuple[VoiceTurn, ...]
    known: KnownVoices


class LiveLabeller:
    """Any thread, several at a time: it remembers nothing."""

    def __init__(self, networks: Networks, hold_back_s: float = 0.5) -> None:
        """Words within ``hold_back_s`` before the end of a window are left to the next one."""
        self._networks, self._before_s = networks, hold_back_s + MARGIN_S

    def follow(self, samples: Samples, lead_s: float, tail_s: float, known: KnownVoices) -> Labelled:
        """Label a window, of which ``samples``, (n,) float32 in [-1, 1] at 16 kHz, have so much before and after it."""
        end = len(samples) - round(tail_s * TARGET_SAMPLE_RATE)
        first = max(0, end - round(HEARD_S * TARGET_SAMPLE_RATE))
        window = max(0, round(lead_s * TARGET_SAMPLE_RATE) - first)
        begin = max(0, window - round(self._before_s * TARGET_SAMPLE_RATE))
        pieces = pieces_of(self._networks, samples[first:], begin, end - first, window)
        groups = groups_of(pieces)
        chosen, known = learnt(groups, known)
        return Labelled(joined(_turns(pieces, groups, chosen, first)), known)

    def look_back(
        self, samples: Samples, known: KnownVoices, proceed: Callable[[], None] = lambda: None
    ) -> tuple[VoiceTurn, ...]:
        """Label audio of any length again, by the voices that are known by now; none is added, and a voice unlike all has no turn.

        ``proceed`` is called every 5 s of the audio, and may raise.
        """
        turns: list[VoiceTurn] = []
        for start, begin, end in parts_of(len(samples)):
            proceed()
            heard = samples[start : start + round(HEARD_S * TARGET_SAMPLE_RATE)]
            pieces = pieces_of(self._networks, heard, begin, end)
            groups = groups_of(pieces)
            turns += _turns(pieces, groups, _nearest(groups, known), start)
        return joined(turns)


def parts_of(samples: int) -> list[tuple[int, int, int]]:
    """Where to hear so many samples, in parts that overlap by half: the first sample of each, and from where to where in it is its own.

    >>> parts_of(10 * TARGET_SAMPLE_RATE) == [(0, 0, 10 * TARGET_SAMPLE_RATE)]
    True
    """
    size = round(HEARD_S * TARGET_SAMPLE_RATE)
    starts = range(0, max(1, samples - size // 2), size // 2)
    return [
        (
            start,
            size // 4 if start else 0,
            size * 3 // 4 if start != starts[-1] else min(size, samples - start),
        )
        for start in starts
    ]


def learnt(groups: Sequence[Group], known: KnownVoices, most: int = MOST) -> tuple[list[int | None], KnownVoices]:
    """The known voice of each group, the weightiest first, and the voices known after them; no two that speak at once have the same.

    ``most``: voices that are known at most.
    """
    voices = list(known)
    chosen: list[int | None] = []
    for group in groups:
        best = most_like(voices, group.voice, _taken(groups, chosen, group))
        found = best is not None and likeness(voices, group.voice)[best] >= ALIKE
        if not found and (group.weight_s >= NEW_S or not voices) and len(voices) < most:
            best = len(voices)
            voices.append(KnownVoice.of(group.voice, group.weight_s))
        elif found and best is not None and group.weight_s >= LEARNT_S:
            voices[best] = voices[best].with_more(group.voice, group.weight_s)
        chosen.append(best)
    return _by_appearance(groups, chosen, voices, len(known))


def _by_appearance(
    groups: Sequence[Group], chosen: Sequence[int | None], voices: Sequence[KnownVoice], known: int
) -> tuple[list[int | None], KnownVoices]:
    """The same, the new voices, which come after those that were ``known``, numbered as they first speak."""
    starts = [(group.pieces[0].start, voice) for group, voice in zip(groups, chosen, strict=True) if voice is not None]
    new = dict.fromkeys(voice for _, voice in sorted(starts) if voice >= known)
    numbers = {voice: number for number, voice in enumerate([*range(known), *new])}
    return [None if voice is None else numbers[voice] for voice in chosen], tuple(voices[voice] for voice in numbers)


def _nearest(groups: Sequence[Group], known: KnownVoices) -> list[int | None]:
    """The known voice that each group is most like; no two that speak at once have the same. None: it would have been new, or none is free."""
    chosen: list[int | None] = []
    for group in groups:
        best = most_like(known, group.voice, _taken(groups, chosen, group))
        new = best is not None and likeness(known, group.voice)[best] < ALIKE and group.weight_s >= NEW_S
        chosen.append(None if new and len(known) < MOST else best)
    return chosen


def _taken(groups: Sequence[Group], chosen: Sequence[int | None], group: Group) -> set[int | None]:
    """The voices of those groups that speak at the same time; the first ones are ``chosen``."""
    return {voice for voice, other in zip(chosen, groups, strict=False) if other.overlaps(group)}


def _turns(
    pieces: Sequence[Piece], groups: Sequence[Group], chosen: Sequence[int | None], first: int
) -> Iterator[VoiceTurn]:
    """Turns of pieces, whose samples count from ``first``."""
    for piece, owner in zip(pieces, owners_of(pieces, groups), strict=True):
        if owner is not None and (voice := chosen[owner]) is not None:
            yield VoiceTurn(voice, (first + piece.start) / TARGET_SAMPLE_RATE, (first + piece.end) / TARGET_SAMPLE_RATE)
