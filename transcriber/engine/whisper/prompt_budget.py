"""A prompt that fits. In: the vocabulary of the settings, and what was said before. Out: the prompt for whisper.cpp."""

import math
from collections.abc import Callable

from transcriber.engine.prompt import last_words

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

    def prompt(self, said: str) -> str:
        """The vocabulary, and of what was ``said`` as much as fits beside it, from its end."""
        said = last_words(" ".join(said.split()), MAX_PROMPT_CHARS)
        prompt = f"{self._vocabulary} {said}".strip()
        while (excess := self._tokens(prompt) - self.max_tokens) > 0:
            share = excess / (excess + self.max_tokens)
            said = last_words(said, max(0, len(said) - math.ceil(share * len(prompt))))
            prompt = f"{self._vocabulary} {said}".strip()
        # With a space in front the first word has the same tokens as within a text.
        return prompt and f" {prompt}"

    def _tokens(self, prompt: str) -> int:
        """Tokens of a prompt; 0 where it surely fits."""
        if len(prompt.encode()) < self.max_tokens:
            return 0  # no token is shorter than a byte
        return self._count_tokens(f" {prompt}")
