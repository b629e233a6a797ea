"""Who said which word.

In: times of words, and the turns of voices. Out: a label for each word, the turns of a range, and the speaker of most words. Pure; times in
seconds of the session.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from transcriber.diarization.job_speakers import JobSpeakers
from transcriber.diarization.voices import label
from transcriber.schema.messages import Turn

NEAR_S = 0.5
"""A word in no turn is said by the nearest one, if that is no further away: times of words are imprecise."""

Times = tuple[float, float]
"""Start and end of a word."""


def turns_of(speakers: object, begin_s: float) -> tuple[Turn, ...] | None:
    """The turns that were found for a job whose first sample is at ``begin_s``; None: they were not looked for, or not found."""
    if not isinstance(speakers, JobSpeakers) or speakers.turns is None:
        return None
    placed = ((turn, max(0.0, round(begin_s + turn.start_s, 3))) for turn in speakers.turns)
    return tuple(
        Turn(speaker=label(turn.voice), start=start_s, end=max(start_s, round(begin_s + turn.end_s, 3)))
        for turn, start_s in placed
    )


def labels(words: Iterable[Times], turns: Sequence[Turn]) -> list[str | None]:
    """The label of each word: that of the turn that covers most of it, else of the nearest within ``NEAR_S``.

    Where two turns cover as much, as where both speak, the speaker of the word before goes on; else the one who began first.
    """
    found: list[str | None] = []
    for start_s, end_s in words:
        before = found[-1] if found else None
        best = max(turns, key=lambda turn: (*_fit(start_s, end_s, turn), turn.speaker == before), default=None)
        near = best is not None and max(best.start - end_s, start_s - best.end) <= NEAR_S
        found.append(best.speaker if best and near else None)
    return found


def _fit(start_s: float, end_s: float, turn: Turn) -> Times:
    """How much of a word a turn covers, and how near it is; more is better."""
    covered_s = min(end_s, turn.end) - max(start_s, turn.start)
    return max(0.0, covered_s), min(0.0, covered_s)


def clipped(turns: Iterable[Turn], start_s: float, end_s: float) -> tuple[Turn, ...]:
    """What of ``turns`` is within a range, by start."""
    cut = (one.model_copy(update={"start": max(one.start, start_s), "end": min(one.end, end_s)}) for one in turns)
    return tuple(sorted((one for one in cut if one.start < one.end), key=lambda one: one.start))


def speaker_of_most(found: Iterable[str | None]) -> str | None:
    """The most frequent label, of equally frequent ones the first; None without any.

    >>> speaker_of_most(["B", "A", None, None, None, "A", "B"]), speaker_of_most([None])
    ('B', None)
    """
    counts = Counter(one for one in found if one is not None)
    return max(counts, key=counts.__getitem__, default=None)
