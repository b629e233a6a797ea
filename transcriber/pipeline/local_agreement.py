"""Partial text that does not flicker: words on which two passes agree stay.

In: the words of successive passes over the open window. Out: the words to publish: those agreed so far, then those of the latest
pass for the rest. This is LocalAgreement-2 (Liu et al., Interspeech 2020).
"""

from collections.abc import Sequence

from transcriber.engine.transcript import Word
from transcriber.pipeline.word_alignment import same_word

NEAR_S = 1.0
"""How far the end of an agreed word may move between passes."""


class LocalAgreement:
    """Agreement on one open window. Event loop only."""

    def __init__(self) -> None:
        self._agreed: list[Word] = []
        self._rest: list[Word] = []  # the previous pass's words after those

    def follow(self, words: Sequence[Word]) -> tuple[Word, ...]:
        """Add the words of one more pass; returns those to publish. Agreed words never change."""
        rest = list(words[self._next(words) :])
        agreed = 0
        for word, before in zip(rest, self._rest, strict=False):
            if not same_word(word.word, before.word):
                break
            agreed += 1
        self._agreed += rest[:agreed]
        self._rest = rest[agreed:]
        return (*self._agreed, *self._rest)

    def _next(self, words: Sequence[Word]) -> int:
        """Index of the first word after the agreed ones."""
        count = len(self._agreed)
        if all(same_word(word.word, agreed.word) for word, agreed in zip(words, self._agreed, strict=False)):
            return min(count, len(words))
        last = self._agreed[-1]
        places = [
            i
            for i, word in enumerate(words)
            if same_word(word.word, last.word) and abs(word.end_s - last.end_s) < NEAR_S
        ]
        if places:
            return min(places, key=lambda i: abs(i + 1 - count)) + 1
        return next((i for i, word in enumerate(words) if (word.start_s + word.end_s) / 2 >= last.end_s), len(words))
