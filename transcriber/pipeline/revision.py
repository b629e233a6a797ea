"""The text that may stand for what was published of a passage, and whether it loses_words words.

In: a passage, and the answer to it. Out: the revise text, or why there is none.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from itertools import pairwise
from typing import Literal

from transcriber.engine.transcript import Transcript
from transcriber.pipeline.left_context import (
    PlacedWord,
    TranscribedRange,
    count_written,
    first_index_from,
    keep_words,
    normalised,
    placed_words,
)
from transcriber.pipeline.passages import EDGE_S, Passage, PassageAudio
from transcriber.pipeline.pauses import Pauses

COMPARED_S = 8.0
"""So much of what was published before the end of a passage is looked for in the answer."""

SURE = 0.6
"""A word that whisper was so sure of, and that nothing in the answer stands for, was said and is lost."""

LESS_SURE = 0.05
"""An answer whose words are less likely by so much than those that were published, as mean log-probabilities, is no better.

``bench.second_pass``, tiny.en, 96 passages of readings and dialogues: with both rules 7.4 % of the words are wrong in the end, where
8.1 % were published, and 5 of 5276 that were right are missing.
"""

Unrevised = Literal["same", "shorter", "doubted"]
"""Why an answer is not published: it says the same, or less, or a guard doubts it, or it is less likely."""


def revise(passage: Passage, answer: Transcript, rate: int, sound: PassageAudio) -> Transcript | Unrevised:
    """What may stand for the texts of ``passage``: times count from its start; or why nothing does.

    ``answer`` is to ``sound``; ``rate`` in Hz is the stream's.
    """
    if answer.suppressed or _less_sure(passage, answer):
        return "doubted"
    start_s, end_s = passage.start_frame / rate, (passage.start_frame + passage.frames) / rate
    heard = TranscribedRange(start_s, end_s, sound.lead_s, sound.tail_s)
    published = [word for part in passage.parts for word in part.words]
    words = _out_of_pauses(placed_words(answer, heard), answer, start_s, end_s, sound)
    if sound.lead_s and words:
        before = [word for word in passage.before if word.end_s > start_s - sound.lead_s]
        words = words[count_written(before, words, passage.before[-1].end_s, start_s - sound.lead_s) :]
    else:
        # Words that a window before it left over lie before what is heard; but times slip.
        left = [word for word in published if word.end_s <= start_s]
        if left and not count_written(left, words, start_s, start_s - EDGE_S):
            words = [*(word._replace(of=-number) for number, word in enumerate(left, 1)), *words]
    if passage.goes_on and published:
        words = words[: _count_published(published, words)]
    if [word.word.strip() for word in published] == [word.word.strip() for word in words]:
        return "same"
    if loses_words(published, words) or not words:
        return "shorter"
    return keep_words(answer, words, heard, min(start_s, published[0].start_s if published else start_s))


def _out_of_pauses(
    words: list[PlacedWord], answer: Transcript, start_s: float, end_s: float, sound: PassageAudio
) -> list[PlacedWord]:
    """The words of an answer to a passage from ``start_s`` to ``end_s`` at the times that would be published, as those are that were published."""
    if sound.speech is None:
        return words
    speech = [(start_s + begin_s, start_s + stop_s) for begin_s, stop_s in sound.speech]
    phrases = replace(answer, lead_s=sound.lead_s).phrases_from(start_s)
    pauses = Pauses(phrases, speech, (start_s, end_s))
    first = first_index_from(start_s, words)  # what is heard before it was published by others
    times_s = pauses.place([(word.start_s, word.end_s) for word in words[first:]], start_s)
    return words[:first] + [
        word._replace(start_s=one[0], end_s=one[1]) for word, one in zip(words[first:], times_s, strict=True)
    ]


def _less_sure(passage: Passage, answer: Transcript) -> bool:
    likely = [(len(part.words), part.avg_logprob) for part in passage.finals if part.avg_logprob is not None]
    count = sum(words for words, _ in likely)
    if not count or answer.avg_logprob is None:
        return False
    return answer.avg_logprob < sum(words * logprob for words, logprob in likely) / count - LESS_SURE


def _count_published(published: Sequence[PlacedWord], words: Sequence[PlacedWord]) -> int:
    """How many of ``words`` are what was published."""
    until_s = published[-1].end_s
    first = first_index_from(until_s - COMPARED_S, words)
    begin_s = words[first].start_s if first < len(words) else until_s
    recent = [word for word in published if word.middle_s >= begin_s]
    return first + count_written(recent, words[first:], until_s, begin_s)


def loses_words(published: Sequence[PlacedWord], words: Sequence[PlacedWord]) -> bool:
    """Whether ``words`` leave out any that was surely said. Of a word that is published twice, the second time may be wrong.

    >>> published = [PlacedWord(word, 0.0, 0.0, confidence) for word, confidence in (("shut", 0.9), ("shut", 0.3), ("it", 0.9))]
    >>> loses_words(published, [PlacedWord("shut", 0.0, 0.0), PlacedWord("it", 0.0, 0.0)]), loses_words(published, [PlacedWord("shut", 0.0, 0.0)])
    (False, True)
    """
    twice = {n for n, (one, other) in enumerate(pairwise(_normalised(published))) if one == other}
    published = [word for n, word in enumerate(published) if word.confidence >= SURE or not ({n, n - 1} & twice)]
    matcher = SequenceMatcher(None, _normalised(published), _normalised(words), autojunk=False)
    return any(
        sum(word.confidence >= SURE for word in published[here:there]) > after - before
        for kind, here, there, before, after in matcher.get_opcodes()
        if kind != "equal"
    )


def _normalised(words: Iterable[PlacedWord]) -> list[str]:
    return [normalised(word.word) for word in words]
