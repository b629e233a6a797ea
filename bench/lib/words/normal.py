"""Words as errors are counted in: of the demo model its own, of all others those of Whisper's English normaliser.

The normaliser writes numbers, titles, spellings and contractions alike ("twenty one", "21"), so it may make one word of several
and looks at a text as a whole. In: text, or words with times. Out: lower-case words; and the same words with the times of
those they were made of.
"""

import difflib
import re
from collections.abc import Callable, Sequence
from functools import cache

from bench.lib.words.alignment import UNKNOWN_S, Spoken, spread_over
from transcriber.models.catalog import DEMO
from transcriber.testing.wer import errors_between, words

Split = Callable[[str], list[str]]
"""A text's words, as they are compared."""

TIMES = re.compile(r"(?<=\d)[:\u2013-](?=\d)")
"""The normaliser makes "1045" of "ten forty-five", but "10 45" of "10:45"; and "555 182" of "555-0182"."""

UNITS = {
    "mm": "millimeters", "cm": "centimeters", "km": "kilometers", "m": "meters",
    "mg": "milligrams", "g": "grams", "kg": "kilograms", "ml": "milliliters", "ok": "okay",
}  # fmt: skip
"""Models write them either way, and the normaliser lets both stand."""

AM_PM = re.compile(r"(?<=\d) ?([ap])\.?m\b\.?", re.IGNORECASE)


def split_for(model: str) -> Split:
    """The demo model writes no numerals, and keeps its own words.

    Raises:
        SystemExit: the normaliser is not installed.
    """
    return words if model == DEMO else whisper_words()


@cache
def whisper_words() -> Split:
    try:
        from whisper_normalizer.english import EnglishTextNormalizer  # noqa: PLC0415 - of the group bench
    except ImportError as error:
        raise SystemExit(f"{error}: install whisper-normalizer, of the group bench") from error
    normalised = EnglishTextNormalizer()

    @cache
    def split(text: str) -> tuple[str, ...]:
        found = normalised(AM_PM.sub(r" \1 m", TIMES.sub("", text))).split()
        after = zip(["", *found], found, strict=False)
        return tuple(
            UNITS[word] if word == "ok" or (word in UNITS and _is_number(before)) else word for before, word in after
        )

    return lambda text: list(split(text))


def _is_number(word: str) -> bool:
    return word.replace(".", "").isdigit()


def word_errors(split: Split, said: str, heard: str) -> int:
    """Least number of words to change, lose and invent that makes one of the other."""
    return errors_between(split(said), split(heard))


def timed(split: Split, raw: Sequence[Spoken]) -> list[Spoken]:
    """The words of a text whose raw words have times; always those that the text as a whole has.

    Each raw word is split by itself as well. What both have in common keeps its time, and what the whole has instead of some
    words is as long as these, its words by their letters.
    """
    whole = split(" ".join(one.word for one in raw))
    alone = [spread for one in raw for spread in spread_over(split(one.word), one.start_s, one.end_s)]
    if [one.word for one in alone] == whole:
        return alone
    out: list[Spoken] = []
    matcher = difflib.SequenceMatcher(None, [one.word for one in alone], whole, autojunk=False)
    for kind, first, end, begins, ends in matcher.get_opcodes():
        if kind == "equal":
            out += alone[first:end]
            continue
        start_s, end_s = _span_s(alone, first, end)
        out += spread_over(whole[begins:ends], start_s, end_s)
    return out


def _span_s(timed_words: Sequence[Spoken], first: int, end: int) -> tuple[float, float]:
    """From the first of some words to the last; of none the moment between their neighbours."""
    if first < end:
        return timed_words[first].start_s, timed_words[end - 1].end_s
    if first > 0:
        return timed_words[first - 1].end_s, timed_words[first - 1].end_s
    return (timed_words[0].start_s, timed_words[0].start_s) if timed_words else (UNKNOWN_S, UNKNOWN_S)
