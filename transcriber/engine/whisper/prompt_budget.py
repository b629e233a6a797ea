"""A prompt that fits. In: the vocabulary of the settings, that of a job, and what was said before. Out: the prompt for whisper.cpp."""

import math
from collections.abc import Callable

from transcriber.engine.prompt import first_words, last_words

MAX_PROMPT_CHARS = 1000
"""As ``WHISPER_PROMPT`` has at most. whisper.cpp's tokenizer recurses over each byte, and 32 kB overflow its stack."""


class PromptBudget:
    """Fits prompts into the tokens that a model has for them.

    Attributes:
        max_tokens: of a prompt.
        vocabulary_tokens: of the vocabulary; 0 where it surely fits.
    """

    def __init__(self, vocabulary: str, max_tokens: int, count_tokens: Callable[[str], int]) -> None:
        """``count_tokens`` is the model's tokenizer; ``vocabulary`` stands before every prompt."""
        self.max_tokens = max_tokens
        self._count_tokens = count_tokens
        self._vocabulary = " ".join(vocabulary.split())
        self.vocabulary_tokens = self._tokens(self._vocabulary)

    def prompt(self, given: str) -> str:
        """The vocabulary, and of what is ``given`` as much as fits beside it.

        That is terms up to its last line break, from their beginning, and beside them what was said, from its end.
        """
        terms, _, said = given.rpartition("\n")
        terms = first_words(" ".join(terms.split()), MAX_PROMPT_CHARS)
        said = last_words(" ".join(said.split()), MAX_PROMPT_CHARS - len(terms))
        while (excess := self._tokens(prompt := self._joined(terms, said)) - self.max_tokens) > 0:
            surplus = math.ceil(excess / (excess + self.max_tokens) * len(prompt))
            if said:
                said = last_words(said, max(0, len(said) - surplus))
            else:
                terms = first_words(terms, max(0, len(terms) - surplus))
        # With a space in front the first word has the same tokens as within a text.
        return prompt and f" {prompt}"

    def _joined(self, *others: str) -> str:
        return " ".join(filter(None, (self._vocabulary, *others)))

    def _tokens(self, prompt: str) -> int:
        """Tokens of a prompt; 0 where it surely fits."""
        if len(prompt.encode()) < self.max_tokens:
            return 0  # no token is shorter than a byte
        return self._count_tokens(f" {prompt}")
