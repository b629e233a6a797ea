"""The text tokens. In: a model folder's tokenizer or vocabulary. Out: the bytes of each, as a ggml file lists them.

whisper.cpp numbers the special tokens by the size of the vocabulary alone, so the folder must have the same numbers.
"""

import json
from pathlib import Path
from typing import Any

from transcriber.errors import ModelError
from transcriber.models.conversion.layout import TEXT_TOKENS
from transcriber.models.conversion.safetensors import read_json, read_whole
from transcriber.models.ggml import MULTILINGUAL_N_VOCAB

END_OF_TEXT = "<|endoftext|>"
TIMES = 1501
"""Time stamps, from 0 to 30 s; the last tokens of every vocabulary."""

FILES = ("tokenizer.json", "vocab.json", "vocabulary.json", "vocabulary.txt")
"""Of the hub's folders, old and new, and of CTranslate2's."""


def _letters() -> dict[str, int]:
    """GPT-2's visible characters for bytes: printable ones stand for themselves, the others are numbered from 256."""
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in seen]
    return {chr(byte): byte for byte in seen} | {chr(256 + number): byte for number, byte in enumerate(others)}


LETTERS = _letters()


def text_tokens(folder: Path, n_vocab: int) -> list[bytes]:
    """The first 50 257 tokens, which are the text tokens.

    Raises:
        ModelError: the folder has no readable vocabulary, or not Whisper's.
    """
    path = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if path is None:
        raise ModelError(f"{folder}: no vocabulary: none of {', '.join(FILES)} is there")
    tokens = _by_number(path)
    multilingual = n_vocab >= MULTILINGUAL_N_VOCAB
    end = TEXT_TOKENS - 1 + multilingual
    special = {end: END_OF_TEXT, end + 1: "<|startoftranscript|>", n_vocab - TIMES - 1: "<|notimestamps|>"}
    for number, text in special.items():
        if tokens.get(number) != text:
            raise ModelError(
                f"{path}: token {number} is {tokens.get(number)!r}, not {text!r}: not Whisper's vocabulary"
            )
    tokens.setdefault(TEXT_TOKENS - 1, "")  # some multilingual vocabularies leave it out; it is never decoded
    return [_bytes(path, number, tokens.get(number)) for number in range(TEXT_TOKENS)]


def _bytes(path: Path, number: int, text: str | None) -> bytes:
    if text == END_OF_TEXT:
        return text.encode()
    if text is None or not all(letter in LETTERS for letter in text):
        raise ModelError(f"{path}: token {number} is {text!r}: not Whisper's vocabulary")
    return bytes(LETTERS[letter] for letter in text)


def _by_number(path: Path) -> dict[int, str]:
    try:
        if path.name == "tokenizer.json":
            content = read_json(path)
            added = {token["id"]: token["content"] for token in content["added_tokens"]}
            _strings([*added.values()])
            return _inverted(content["model"]["vocab"]) | added
        if path.name == "vocab.json":
            more = path.with_name("added_tokens.json")
            return _inverted(read_json(path)) | (_inverted(read_json(more)) if more.is_file() else {})
        text = read_whole(path).decode()
        return dict(
            enumerate(_strings(json.loads(text) if path.suffix == ".json" else text.removesuffix("\n").split("\n")))
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ModelError(f"{path}: is no vocabulary") from error


def _inverted(vocabulary: dict[str, int]) -> dict[int, str]:
    return {int(number): text for text, number in vocabulary.items()}


def _strings(tokens: Any) -> list[str]:
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise TypeError("not a list of tokens")
    return tokens
