"""One stream in virtual time: utterances and pauses, and the windows into which they are cut.

In: how much is spoken, how windows are cut, whether the worker has time for short ones. Out: when windows are complete. Cuts as
``audio/window_cutter.py`` does, from the times of utterances in place of samples: where a pause
begins or ends is quiet, and any other place as quiet as the next.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from transcriber.audio.quiet_place import SEARCH_S
from transcriber.audio.window import OVERLAP_S
from transcriber.audio.window_policy import WindowPolicy

MIN_SILENCE_S, PRE_ROLL_S = 0.5, 0.25
"""Silence before speech that is a window of its own, and the part of it that is left to the speech."""

LOOK_AGAIN_S = 0.25
"""While a pause lasts, a window that was not closed where speech ended may still be."""


@dataclass(frozen=True, slots=True)
class Talk:
    """How much is spoken on a stream.

    Attributes:
        share: of the time, 0 < share <= 1.
        utterance_s: seconds between two pauses, on average; both are exponential.
    """

    share: float = 0.8
    utterance_s: float = 3.0

    @property
    def pause_s(self) -> float:
        """The mean of the pauses."""
        return self.utterance_s * (1 - self.share) / self.share


class Due(NamedTuple):
    """What happens next on a stream.

    Attributes:
        at_s: when.
        complete: whether a window is complete then; else it is to be asked whether to close one.
    """

    at_s: float
    complete: bool


def windows(
    talk: Talk, policy: WindowPolicy, rng: np.random.Generator, eager: Callable[[], bool], start_s: float
) -> Iterator[Due]:
    """All that happens on a stream from ``start_s`` on, in order of time; the next value is asked for at the time of the one before.

    ``eager``: whether windows are closed where speech has ended, now.
    """
    spoken = _utterances(talk, rng, start_s)
    cut_s = start_s
    utterance, following = next(spoken), next(spoken)
    while True:
        while utterance.end_s <= cut_s:
            utterance, following = following, next(spoken)
        if policy.speech_gate and utterance.begin_s - cut_s >= MIN_SILENCE_S:
            cut_s = utterance.begin_s - PRE_ROLL_S
        limit_s = cut_s + policy.window_s
        ended_s = None
        while ended_s is None and policy.endpoint_s and (look_s := utterance.end_s + policy.endpoint_s) < limit_s:
            while ended_s is None and look_s < min(following.begin_s, limit_s):
                yield Due(look_s, complete=False)
                ended_s = look_s if eager() else None
                look_s += LOOK_AGAIN_S
            if following.begin_s >= limit_s:
                break
            if ended_s is None:
                utterance, following = following, next(spoken)
        yield Due(limit_s if ended_s is None else ended_s, complete=True)
        if ended_s is not None:
            cut_s = ended_s - policy.endpoint_s / 2
        else:
            cut_s = _quiet_place(utterance, limit_s, rng) if policy.quiet_cut else limit_s


class _Utterance(NamedTuple):
    begin_s: float
    end_s: float


def _utterances(talk: Talk, rng: np.random.Generator, at_s: float) -> Iterator[_Utterance]:
    while True:
        begin_s = at_s + rng.exponential(talk.pause_s)
        at_s = begin_s + rng.exponential(talk.utterance_s)
        yield _Utterance(begin_s, at_s)


def _quiet_place(utterance: _Utterance, limit_s: float, rng: np.random.Generator) -> float:
    """Where a full window is cut: in a pause that is there, else anywhere in what is searched."""
    begin_s = limit_s - SEARCH_S
    if begin_s < utterance.begin_s < limit_s:
        return utterance.begin_s
    if begin_s < utterance.end_s < limit_s:
        return utterance.end_s
    return rng.uniform(begin_s, limit_s - OVERLAP_S)
