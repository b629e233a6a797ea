"""Transcripts to turns, and labels back to transcripts.

In: finals, in order. Out: turns, which begin after pauses and ends of sentences; and the same finals, cut where the speaker
changes.
"""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import accumulate, groupby, islice, pairwise
from operator import itemgetter
from typing import NamedTuple

from transcriber.schema.messages import Final, Word
from transcriber.text.phrases import SENTENCE_ENDS

PAUSE_S = 0.3
"""Few answers come sooner, and most breaths are shorter."""

LONGEST_S = 6.0
"""A longer turn is cut: a change of speaker that was missed in it then costs less, and a voice needs much less audio."""

SHORTEST_S = 0.6
"""A shorter sentence ends no turn: it is too short for an embedding. A pause does."""

_CLOSERS = "\"'”’»)]」』"  # noqa: RUF001


class Turn(NamedTuple):
    """Words of one final, presumably of one speaker.

    Attributes:
        start_s: from the session's start; ``end_s`` likewise.
        words: their number.
    """

    start_s: float
    end_s: float
    words: int


def turns(final: Final) -> list[Turn]:
    """The turns of a final, in order; all its words are in them. One without words but with text is one turn."""
    if not final.words:
        return [Turn(final.start, final.start + final.duration, 0)] if final.text else []
    found: list[list[Word]] = [[final.words[0]]]
    for last, word in pairwise(final.words):
        if _begins(found[-1], last, word):
            found.append([])
        found[-1].append(word)
    return [Turn(words[0].start, words[-1].end, len(words)) for words in found]


def relabelled(final: Final, labels: Iterator[str]) -> list[Final]:
    """The final with its speaker, or several that tile it, frames, text and words, if the speaker changes in it.

    Args:
        final: any but a partial one.
        labels: of the next turns; those of this final are taken.
    """
    found = turns(final)
    if not found:
        return [final]
    parts: list[tuple[str, Turn]] = []
    for speaker, same in groupby(zip(islice(labels, len(found)), found, strict=True), key=itemgetter(0)):
        some = [turn for _, turn in same]
        parts.append((speaker, Turn(some[0].start_s, some[-1].end_s, sum(turn.words for turn in some))))
    return _cut(final, parts)


def _begins(turn: Sequence[Word], last: Word, word: Word) -> bool:
    """Whether ``word`` begins a turn after ``turn``, of which ``last`` is the last word."""
    if word.start - last.end >= PAUSE_S or word.end - turn[0].start > LONGEST_S:
        return True
    return last.word.rstrip(_CLOSERS).endswith(tuple(SENTENCE_ENDS)) and last.end - turn[0].start >= SHORTEST_S


def _cut(final: Final, parts: Sequence[tuple[str, Turn]]) -> list[Final]:
    """Finals of these parts and speakers; each cut is in the middle of the pause."""
    words = final.words or ()
    texts = _texts(final.text, words, [turn.words for _, turn in parts])
    end_frame = final.start_frame + final.frames
    cuts = [final.start_frame]
    for (_, turn), (_, following) in pairwise(parts):
        middle = round((turn.end_s + following.start_s) / 2 * final.rate)
        cuts.append(min(max(middle, cuts[-1]), end_frame))
    finals, at = [], 0
    for (speaker, turn), text, (start, stop) in zip(parts, texts, pairwise([*cuts, end_frame]), strict=True):
        changed = {
            "start_frame": start,
            "frames": stop - start,
            "start": start / final.rate,
            "duration": (stop - start) / final.rate,
            "text": text,
            "words": words[at : at + turn.words] if final.words else final.words,
            "speech_final": final.speech_final or turn is not parts[-1][1],
            "speaker": speaker,
            "captured_at": final.captured_at and final.captured_at + _seconds(start - final.start_frame, final.rate),
        }
        finals.append(final.model_copy(update=changed))
        at += turn.words
    return finals


def _texts(text: str, words: Sequence[Word], counts: Sequence[int]) -> list[str]:
    """The text cut before the first word of each part; ``counts`` is how many words each has."""
    starts, at = [], 0  # where each word starts; one not found in the text, where the previous word ends
    for word in words:
        start = text.find(word.word, at)
        starts.append(at if start < 0 else start)
        at = at if start < 0 else start + len(word.word)
    cuts = [0, *(starts[number] for number in list(accumulate(counts))[:-1]), len(text)]
    return [text[start:stop].strip() for start, stop in pairwise(cuts)]


def _seconds(frames: int, rate: int) -> timedelta:
    return timedelta(seconds=frames / rate)
