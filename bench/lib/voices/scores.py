"""How well labels fit who really spoke.

In: turns that are true and turns that were found, whose labels are any names. Out: the diarization error rate and its parts, by
``pyannote.metrics``; which label is which speaker; speakers found; words of another speaker; and how many windows a label is late.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.lib.report import Results
from bench.lib.voices.annotated import Turn
from bench.lib.voices.dialogues import SpokenWord
from transcriber.pipeline.speakers import labels
from transcriber.schema.messages import Turn as Published

COLLARS_S = (0.0, 0.25)
"""Not scored before and after the edges of true turns."""

PARTS = ("missed detection", "false alarm", "confusion")
TOTAL = "total"
LEAST_S = 0.5
"""Speech of one alone in a window whose label is looked at."""

Errors = Mapping[str, float]
"""Seconds of ``PARTS``, and in ``TOTAL`` of all true turns."""


class Scorer:
    """``pyannote.metrics``.

    Raises:
        SystemExit: it is not installed.
    """

    def __init__(self) -> None:
        try:
            from pyannote.core import Annotation, Segment, Timeline  # noqa: PLC0415 - of the group bench
            from pyannote.metrics.diarization import DiarizationErrorRate  # noqa: PLC0415
        except ImportError as error:
            raise SystemExit(f"{error}: install pyannote.metrics, of the group bench") from error
        self._annotation, self._segment, self._timeline = Annotation, Segment, Timeline
        # Its collar is the width of what is left out, half of it on either side.
        self._rates = {collar_s: DiarizationErrorRate(collar=2 * collar_s) for collar_s in COLLARS_S}

    def errors(self, true: Sequence[Turn], found: Sequence[Turn], duration_s: float) -> dict[float, Errors]:
        """By collar, overlaps included."""
        everything = self._timeline([self._segment(0, duration_s)])
        sides = self._annotated(true), self._annotated(found)
        return {
            collar_s: {name: float(parts[name]) for name in (*PARTS, TOTAL)}
            for collar_s, rate in self._rates.items()
            for parts in [rate(*sides, uem=everything, detailed=True)]
        }

    def speakers(self, true: Sequence[Turn], found: Sequence[Turn]) -> dict[str, str]:
        """By label, who it is, so that most time is right; no two are the same, and a label may be nobody."""
        mapping: dict[str, str] = self._rates[0.0].optimal_mapping(self._annotated(true), self._annotated(found))
        return mapping

    def _annotated(self, turns: Sequence[Turn]) -> Any:
        annotation = self._annotation()
        for number, (speaker, start_s, end_s) in enumerate(turns):
            annotation[self._segment(start_s, end_s), number] = speaker
        return annotation


def rates(errors: Sequence[Errors]) -> Results:
    """In percent of the true turns of several dialogues."""
    total_s = sum(one[TOTAL] for one in errors)
    percent = {name: 100 * sum(one[name] for one in errors) / total_s for name in PARTS}
    return {"der": round(sum(percent.values()), 1)} | {name: round(share, 1) for name, share in percent.items()}


def words_wrong(
    words: Iterable[SpokenWord], true: Sequence[Turn], found: Sequence[Turn], speakers: Mapping[str, str]
) -> Counter[str]:
    """Words ``said`` while nobody else speaks, those labelled as ``another`` speaker's, and those with ``no_label``; words get labels as the daemon's do."""
    alone = [
        (speaker, word)
        for speaker, word in words
        if not any(who != speaker and start_s < word.end_s and end_s > word.start_s for who, start_s, end_s in true)
    ]
    turns = [Published(speaker=label, start=start_s, end=end_s) for label, start_s, end_s in found]
    counts: Counter[str] = Counter(said=len(alone), another=0, no_label=0)
    for (speaker, _), label in zip(
        alone, labels([(word.start_s, word.end_s) for _, word in alone], turns), strict=True
    ):
        if label is None:
            counts["no_label"] += 1
        elif speakers.get(label) != speaker:
            counts["another"] += 1
    return counts


def windows_late(
    true: Sequence[Turn], found: Sequence[Turn], windows: Sequence[tuple[float, float]], speakers: Mapping[str, str]
) -> tuple[list[int | None], list[int | None]]:
    """How many windows after the first one that holds something of them they are labelled right; None: never.

    Args:
        true: turns.
        found: turns as first published.
        windows: their starts and ends in seconds, in order.
        speakers: by label.

    Returns:
        Of turns, and of speakers. Only windows count in which the speaker says something alone.
    """
    alone = [turn for turn in _alone(true) if turn[2] - turn[1] >= LEAST_S]
    heard = [
        (place, speaker, _most(found, max(a, start_s), min(b, end_s)))
        for start_s, end_s in windows
        for place, (speaker, a, b) in enumerate(alone)
        if min(b, end_s) - max(a, start_s) >= LEAST_S
    ]

    by_turn: dict[int, list[bool]] = {}
    by_speaker: dict[str, list[bool]] = {}
    for place, speaker, label in heard:
        right = label is not None and speakers.get(label) == speaker
        by_turn.setdefault(place, []).append(right)
        by_speaker.setdefault(speaker, []).append(right)
    return _firsts(by_turn.values()), _firsts(by_speaker.values())


def _firsts(heard: Iterable[list[bool]]) -> list[int | None]:
    return [one.index(True) if True in one else None for one in heard]


def _alone(turns: Sequence[Turn]) -> list[Turn]:
    """What nobody else speaks over."""
    found: list[Turn] = []
    for speaker, start_s, end_s in turns:
        at_s = start_s
        for begin_s, stop_s in sorted(
            (b, s) for other, b, s in turns if other != speaker and b < end_s and s > start_s
        ):
            found += [(speaker, at_s, begin_s)] if begin_s > at_s else []
            at_s = max(at_s, stop_s)
        found += [(speaker, at_s, end_s)] if end_s > at_s else []
    return found


def _most(turns: Sequence[Turn], start_s: float, end_s: float) -> str | None:
    """The label of most of the range; None where there is none."""
    times_s: dict[str, float] = {}
    for label, begin_s, stop_s in turns:
        if begin_s < end_s and stop_s > start_s:
            times_s[label] = times_s.get(label, 0.0) + min(stop_s, end_s) - max(begin_s, start_s)
    return max(times_s, key=lambda label: times_s[label]) if times_s else None
