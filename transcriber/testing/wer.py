"""Word error rate. In: reference and transcript, as text. Out: counts of words."""

import re


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
    """
    heard_words = words(heard)
    # Levenshtein: row[i] is the distance of the words said so far to the first i heard ones.
    row = list(range(len(heard_words) + 1))
    for place, word in enumerate(words(said), 1):
        diagonal, row[0] = row[0], place
        for i, other in enumerate(heard_words, 1):
            diagonal, row[i] = row[i], min(diagonal + (word != other), row[i] + 1, row[i - 1] + 1)
    return row[-1]
