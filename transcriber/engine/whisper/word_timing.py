"""The model's tokens to text and timed words.

In: whisper.cpp's tokens, among them the model's time stamps. Out: clean text,
words with times, and the phrases between the stamps.

The times are the model's own time stamps, which stand at the ends of phrases; between two of
them each word gets time in proportion to its characters. That is more accurate than whisper.cpp's
``token_timestamps``: on the six sample recordings the median error of a word's start is 0.07 s
instead of 0.32 s. Beside silence the stamps are often wrong: see ``pipeline/pauses.py``.
"""

import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from transcriber.engine.hallucination import letters
from transcriber.engine.transcript import Phrase, Word

CONTROL_BYTES = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Token(NamedTuple):
    """Bytes of text, often half a character or half a word; or, where ``time_s`` is set, a time stamp."""

    raw: bytes
    logprob: float
    time_s: float | None = None


def clean_text(raw: bytes) -> str:
    """Text without halves of characters, control bytes and surrounding space."""
    return CONTROL_BYTES.sub("", raw.decode("utf-8", "ignore")).strip()


def join_words(tokens: Iterable[Token], duration_s: float, *, spaces: bool) -> tuple[Word, ...]:
    """Words of one job: in order, times monotone and inside [0, ``duration_s``].

    ``spaces`` says whether the language puts them between words. Where it does not, a word is the
    least number of tokens that make whole characters.
    """
    return tuple(
        word
        for said, start_s, end_s in _between_stamps(tokens, duration_s)
        for word in _spread(_group(said, spaces=spaces), start_s, end_s)
    )


def phrases(tokens: Iterable[Token], duration_s: float) -> tuple[Phrase, ...]:
    """The text between each two time stamps, in one job of ``duration_s``."""
    found = [
        Phrase(start_s, end_s, letters(clean_text(b"".join(token.raw for token in said))))
        for said, start_s, end_s in _between_stamps(tokens, duration_s)
    ]
    return tuple(phrase for phrase in found if phrase.letters)


def _between_stamps(tokens: Iterable[Token], duration_s: float) -> Iterator[tuple[list[Token], float, float]]:
    """The text tokens between two stamps, and the stamps, monotone and clamped to the job."""
    said: list[Token] = []
    start_s = 0.0
    for token in (*tokens, Token(b"", 0.0, duration_s)):
        if token.time_s is None:
            said.append(token)
            continue
        end_s = min(max(token.time_s, start_s), duration_s)
        yield said, start_s, end_s
        said, start_s = [], end_s


def _group(phrase: Sequence[Token], *, spaces: bool) -> list[list[Token]]:
    """Tokens by word."""
    groups: list[list[Token]] = []
    for token in phrase:
        if not groups or _begins(token, groups[-1], spaces=spaces):
            groups.append([])
        groups[-1].append(token)
    return groups


def _begins(token: Token, word: Sequence[Token], *, spaces: bool) -> bool:
    """Whether ``token`` begins a new word after ``word``."""
    if spaces:
        return token.raw.startswith(b" ")
    return _whole(word) and not _mark(token)


def _spread(groups: Sequence[Sequence[Token]], start_s: float, end_s: float) -> list[Word]:
    """Words between two times, each as long as its share of the characters."""
    texts = [clean_text(b"".join(token.raw for token in group)) for group in groups]
    total = sum(map(len, texts))
    words, done, word_start_s = [], 0, start_s
    for text, group in zip(texts, groups, strict=True):
        if not text:
            continue
        done += len(text)
        word_end_s = min(start_s + (end_s - start_s) * done / total, end_s)
        confidence = math.exp(sum(token.logprob for token in group) / len(group))
        words.append(Word(text, word_start_s, word_end_s, min(1.0, confidence)))
        word_start_s = word_end_s
    return words


def _whole(group: Sequence[Token]) -> bool:
    """Whether the tokens end where a character ends."""
    try:
        b"".join(token.raw for token in group).decode()
    except UnicodeDecodeError:
        return False
    return True


def _mark(token: Token) -> bool:
    """Whether the token is punctuation or begins with a combining sign, which belongs to the word before it."""
    text = token.raw.decode("utf-8", "replace").strip()
    begins_with_sign = unicodedata.category(text[:1] or " ").startswith("M")
    return begins_with_sign or not any(char.isalnum() or char == "\ufffd" for char in text)
