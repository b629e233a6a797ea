"""The revised text of a passage, which loses no word.

In: a passage, and its transcript of the second pass. Out: the text to publish, or why there is none. Where the two differ, each place has
the words of which whisper was surer. Where the text is no better, but the turns of the passage give its words other speakers, the text as
it was published is published with these.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from itertools import groupby
from operator import itemgetter
from typing import Literal

from transcriber.engine.job import Job
from transcriber.engine.transcript import Transcript
from transcriber.pipeline.left_context import TranscribedRange, first_index_from, keep_words, placed_words
from transcriber.pipeline.passages import EDGE_S, Part, Passage, PassageAudio
from transcriber.pipeline.pauses import Pauses
from transcriber.pipeline.speakers import labels, turns_of
from transcriber.pipeline.word_alignment import PlacedWord, count_written, normalised, same_word, whole_words
from transcriber.schema.messages import Turn

COMPARED_S = 8.0
"""How much of the published words before the end of a passage are looked for in the transcript."""

SURE = 0.6
"""A word that whisper was so sure of was said, and stays unless a word of the transcript replaces it."""

PUBLISHED = 1_000_000
"""Words that stay as published are numbered from here on."""

ROUNDING = 1e-6
"""Of a mean of log-probabilities: what is as likely is no less likely."""

Unrevised = Literal["same", "shorter", "doubted"]
"""Why a transcript is not published: it says the same, or nothing, or it is suppressed or less likely."""


def revise_text_or_speakers(
    passage: Passage, job: Job, answer: Transcript, rate: int, sound: PassageAudio
) -> Transcript | Unrevised:
    """As ``revise``; or the text as it was published, if the turns that ``job`` has found give its words other speakers."""
    revised = revise(passage, answer, rate, sound)
    turns = turns_of(job.speakers, passage.start_frame / rate - sound.lead_s)
    if isinstance(revised, Transcript) or turns is None:
        return revised
    words = [(part, one) for part in passage.finals for one in whole_words(part.words)]
    found = labels(((one[0].start_s, one[-1].end_s) for _, one in words), turns)
    before = [_speaker(part, one[0].of) for part, one in words]
    if all(new in {None, old} for new, old in zip(found, before, strict=True)):
        return revised
    start_s, end_s = passage.start_frame / rate, (passage.start_frame + passage.frames) / rate
    # They keep their times, as words of another window do; and each its number, which those of two windows may share.
    kept = [piece._replace(of=-number) for number, (_, one) in enumerate(words, 1) for piece in one]
    published = replace(
        answer, language=passage.language or answer.language, avg_logprob=_published_logprob(passage), suppressed=None
    )
    return keep_words(published, kept, TranscribedRange(start_s, end_s), start_s)


def published_turns(passage: Passage) -> tuple[Turn, ...] | None:
    """Who speaks in it, by the words as they were published; None where none has a speaker. A label stays unless its words are heard again."""
    words = [(_speaker(part, one[0].of), one) for part in passage.finals for one in whole_words(part.words)]
    turns = tuple(
        Turn(speaker=speaker, start=some[0][1][0].start_s, end=max(one[-1].end_s for _, one in some))
        for speaker, same in groupby(words, key=itemgetter(0))
        if speaker is not None and (some := list(same))
    )
    return turns or None


def _speaker(part: Part, number: int) -> str | None:
    """Of a word that was published."""
    known = part.speakers or ()
    return known[number] if number < len(known) else None


def revise(passage: Passage, answer: Transcript, rate: int, sound: PassageAudio) -> Transcript | Unrevised:
    """The text that replaces those of ``passage``, its times from the passage's start; or why there is none.

    ``answer`` is the transcript of ``sound``; ``rate`` in Hz is the stream's.
    """
    if answer.suppressed or _less_sure(passage, answer):
        return "doubted"
    start_s, end_s = passage.start_frame / rate, (passage.start_frame + passage.frames) / rate
    audio = TranscribedRange(start_s, end_s, sound.lead_s, sound.tail_s)
    published = _numbered(one for part in passage.parts for one in whole_words(part.words))
    words = _out_of_pauses(placed_words(answer, audio), answer, start_s, end_s, sound)
    if sound.lead_s and words:
        before = [word for word in passage.before if word.end_s > start_s - sound.lead_s]
        words = words[count_written(before, words, passage.before[-1].end_s, start_s - sound.lead_s) :]
    words = [*_before_audio(published, words, start_s, sound.lead_s), *words]
    if passage.goes_on and published:
        words = words[: _count_published(published, words)]
    if not words:
        return "shorter"
    surer = surer_words(published, words, from_cut=bool(sound.lead_s))
    if [word.word.strip() for word in published] == [word.word.strip() for word in surer]:
        return "same"
    first_s = min(start_s, published[0].start_s if published else start_s)
    return keep_words(replace(answer, avg_logprob=_logprob(passage, answer, surer)), surer, audio, first_s)


def _before_audio(
    published: Sequence[PlacedWord], words: Sequence[PlacedWord], start_s: float, lead_s: float
) -> list[PlacedWord]:
    """Published words that the window before had held back, and that lie before the audio of which ``words`` are; times are imprecise."""
    begin_s = start_s - lead_s
    left = [word for word in published if word.end_s <= begin_s]
    if not left or count_written(left, words, begin_s, begin_s - EDGE_S):
        return []
    return [word._replace(of=-number) for number, word in enumerate(left, 1)]


def _out_of_pauses(
    words: list[PlacedWord], answer: Transcript, start_s: float, end_s: float, sound: PassageAudio
) -> list[PlacedWord]:
    """The words of ``answer``, to a passage from ``start_s`` to ``end_s``, moved out of pauses, as the published ones are."""
    if sound.speech is None:
        return words
    speech = [(start_s + begin_s, start_s + stop_s) for begin_s, stop_s in sound.speech]
    phrases = replace(answer, lead_s=sound.lead_s).phrases_from(start_s)
    pauses = Pauses(phrases, speech, (start_s, end_s))
    first = first_index_from(start_s, words)  # words before are its neighbour's
    times_s = pauses.place([(word.start_s, word.end_s) for word in words[first:]], start_s)
    return words[:first] + [
        word._replace(start_s=one[0], end_s=one[1]) for word, one in zip(words[first:], times_s, strict=True)
    ]


def _less_sure(passage: Passage, answer: Transcript) -> bool:
    """Whether the words of ``answer`` are less likely than those published; in the mean over passages it then has more errors."""
    published = _published_logprob(passage)
    return published is not None and answer.avg_logprob is not None and answer.avg_logprob < published - ROUNDING


def _published_logprob(passage: Passage) -> float | None:
    """The mean log-probability of the published words; None without any."""
    likely = [(len(part.words), part.avg_logprob) for part in passage.finals if part.avg_logprob is not None]
    count = sum(words for words, _ in likely)
    return sum(words * logprob for words, logprob in likely) / count if count else None


def _logprob(passage: Passage, answer: Transcript, surer: Sequence[PlacedWord]) -> float | None:
    """The mean log-probability of ``surer``, some of which are those of ``passage``, and all others of ``answer``."""
    published = _published_logprob(passage)
    if answer.avg_logprob is None or published is None:
        return answer.avg_logprob
    kept = sum(word.of >= PUBLISHED for word in surer)
    return answer.avg_logprob + (published - answer.avg_logprob) * kept / len(surer)


def _count_published(published: Sequence[PlacedWord], words: Sequence[PlacedWord]) -> int:
    """How many of ``words`` are the passage's; the rest is the next one's."""
    until_s = published[-1].end_s
    first = first_index_from(until_s - COMPARED_S, words)
    begin_s = words[first].start_s if first < len(words) else until_s
    recent = [word for word in published if word.middle_s >= begin_s]
    return first + count_written(recent, words[first:], until_s, begin_s)


def surer_words(
    published: Sequence[PlacedWord], words: Sequence[PlacedWord], *, from_cut: bool = False
) -> list[PlacedWord]:
    """``words``, with those ``published`` ones instead of which they have nothing, or something less sure. Numbers of the two differ.

    ``from_cut``: they begin within speech, of which whisper got more when the first were published.

    >>> def said(text, confidence): return [PlacedWord(word, 0.0, 0.0, confidence) for word in text.split()]
    >>> def text(words): return " ".join(word.word for word in words)
    >>> text(surer_words(said("shut the", 0.9) + said("inlay", 0.5), said("Shut the inlet valve.", 0.8)))
    'Shut the inlet valve.'
    >>> text(surer_words(said("car park", 0.9), said("backpack", 0.8)))
    'car park'
    """
    matcher = SequenceMatcher(None, _normalised(published), _normalised(words), autojunk=False)
    found: list[PlacedWord] = []
    for kind, here, there, before, after in matcher.get_opcodes():
        old, new = published[here:there], words[before:after]
        if kind == "equal" or _once(old, new, published[there : there + 1]):
            found += new
        else:
            found += old if _surer(old, new) or (from_cut and here == 0 and old) else new
    return found


def _once(old: Sequence[PlacedWord], new: Sequence[PlacedWord], after: Sequence[PlacedWord]) -> bool:
    """Whether a word was published twice in a row, the second time unsure, and is said once: the second is found, the first is not."""
    same = len(old) == len(after) == 1 and same_word(old[0].word, after[0].word)
    return same and not new and after[0].confidence < SURE


def _surer(old: Sequence[PlacedWord], new: Sequence[PlacedWord]) -> bool:
    """Whether the published words of a place stay; fewer words, or none, never replace sure ones."""
    if sum(word.confidence >= SURE for word in old) > len(new):
        return True
    return bool(old and new) and _confidence(old) > _confidence(new)


def _confidence(words: Sequence[PlacedWord]) -> float:
    return sum(word.confidence for word in words) / len(words)


def _numbered(words: Iterable[Sequence[PlacedWord]]) -> list[PlacedWord]:
    """Words of several messages, with numbers that no transcript has."""
    return [piece._replace(of=number) for number, one in enumerate(words, PUBLISHED) for piece in one]


def _normalised(words: Iterable[PlacedWord]) -> list[str]:
    return [normalised(word.word) for word in words]
