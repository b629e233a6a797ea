"""The text that may stand for what was told of a passage, and whether it loses words.

In: a passage, and the answer to it. Out: the revised text, or why there is none.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from itertools import pairwise
from typing import Literal

from transcriber.engine.transcript import Transcript
from transcriber.pipeline.left_context import Heard, Placed, bare, first_from, nearest_beginning, of_these, placed
from transcriber.pipeline.passages import EDGE_S, Passage, Sound
from transcriber.pipeline.pauses import Pauses

COMPARED_S = 8.0
"""So much of what was told before the end of a passage is looked for in the answer."""

SURE = 0.6
"""A word that whisper was so sure of, and that nothing in the answer stands for, was said and is lost."""

LESS_SURE = 0.05
"""An answer whose words are less likely by so much than those that were told, as mean log-probabilities, is no better.

``bench.second_pass``, tiny.en, 96 passages of readings and dialogues: with both rules 7.4 % of the words are wrong in the end, where
8.1 % were told, and 5 of 5276 that were right are missing.
"""

Unrevised = Literal["same", "shorter", "doubted"]
"""Why an answer is not published: it says the same, or less, or a guard doubts it, or it is less likely."""


def revised(passage: Passage, answer: Transcript, rate: int, sound: Sound) -> Transcript | Unrevised:
    """What may stand for the texts of ``passage``: times count from its start; or why nothing does.

    ``answer`` is to ``sound``; ``rate`` in Hz is the stream's.
    """
    if answer.suppressed or _less_sure(passage, answer):
        return "doubted"
    start_s, end_s = passage.start_frame / rate, (passage.start_frame + passage.frames) / rate
    heard = Heard(start_s, end_s, sound.lead_s, sound.tail_s)
    told = [word for part in passage.parts for word in part.words]
    words = _out_of_pauses(placed(answer, heard), answer, start_s, end_s, sound)
    if sound.lead_s and words:
        before = [word for word in passage.before if word.end_s > start_s - sound.lead_s]
        words = words[nearest_beginning(before, words, passage.before[-1].end_s, start_s - sound.lead_s) :]
    else:
        # Words that a window before it left over lie before what is heard; but times slip.
        left = [word for word in told if word.end_s <= start_s]
        if left and not nearest_beginning(left, words, start_s, start_s - EDGE_S):
            words = [*(word._replace(of=-number) for number, word in enumerate(left, 1)), *words]
    if passage.goes_on and told:
        words = words[: _told_of(told, words)]
    if [word.word.strip() for word in told] == [word.word.strip() for word in words]:
        return "same"
    if loses(told, words) or not words:
        return "shorter"
    return of_these(answer, words, heard, min(start_s, told[0].start_s if told else start_s))


def _out_of_pauses(words: list[Placed], answer: Transcript, start_s: float, end_s: float, sound: Sound) -> list[Placed]:
    """The words of an answer to a passage from ``start_s`` to ``end_s`` at the times that would be told, as those are that were told."""
    if sound.speech is None:
        return words
    speech = [(start_s + begin_s, start_s + stop_s) for begin_s, stop_s in sound.speech]
    phrases = replace(answer, lead_s=sound.lead_s).phrases_from(start_s)
    pauses = Pauses(phrases, speech, (start_s, end_s))
    first = first_from(start_s, words)  # what is heard before it was told by others
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


def _told_of(told: Sequence[Placed], words: Sequence[Placed]) -> int:
    """How many of ``words`` are what was told."""
    until_s = told[-1].end_s
    first = first_from(until_s - COMPARED_S, words)
    begin_s = words[first].start_s if first < len(words) else until_s
    recent = [word for word in told if word.middle_s >= begin_s]
    return first + nearest_beginning(recent, words[first:], until_s, begin_s)


def loses(told: Sequence[Placed], words: Sequence[Placed]) -> bool:
    """Whether ``words`` leave out any that was surely said. Of a word that is told twice, the second time may be wrong.

    >>> told = [Placed(word, 0.0, 0.0, confidence) for word, confidence in (("shut", 0.9), ("shut", 0.3), ("it", 0.9))]
    >>> loses(told, [Placed("shut", 0.0, 0.0), Placed("it", 0.0, 0.0)]), loses(told, [Placed("shut", 0.0, 0.0)])
    (False, True)
    """
    twice = {n for n, (one, other) in enumerate(pairwise(_spelt(told))) if one == other}
    told = [word for n, word in enumerate(told) if word.confidence >= SURE or not ({n, n - 1} & twice)]
    matcher = SequenceMatcher(None, _spelt(told), _spelt(words), autojunk=False)
    return any(
        sum(word.confidence >= SURE for word in told[here:there]) > after - before
        for kind, here, there, before, after in matcher.get_opcodes()
        if kind != "equal"
    )


def _spelt(words: Iterable[Placed]) -> list[str]:
    return [bare(word.word) for word in words]
