"""Word error rate. In: reference and transcript, as text. Out: counts of words."""

import re
from collections.abc import Sequence

from transcriber.errors import ConfigError


def words(text: str) -> list[str]:
    """Lower-cased words without punctuation.

    >>> words("Gale warning: thirty-five knots, isn't it?")
    ['gale', 'warning', 'thirty', 'five', 'knots', "isn't", 'it']
    """
    return re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.lower().replace("\u2019", "'"))


def word_errors(said: str, heard: str) -> int:
    """Least number of words to substitute, delete and insert to turn the reference into the transcript.

    >>> word_errors("wind northwest thirty five knots", "Wind, northwest thirty nine knots out.")
    2

    Raises:
        ConfigError: jiwer, of the extra ``demo``, is not installed.
    """
    return errors_between(words(said), words(heard))


def errors_between(said: Sequence[str], heard: Sequence[str]) -> int:
    """As ``word_errors``, of words without spaces in them.

    Raises:
        ConfigError: jiwer, of the extra ``demo``, is not installed.
    """
    try:
        import jiwer  # noqa: PLC0415 - only the demo and benches need it
    except ModuleNotFoundError:
        raise ConfigError("jiwer is not installed: pip install jiwer") from None
    found = jiwer.process_words(" ".join(said), " ".join(heard))
    return found.substitutions + found.deletions + found.insertions
