"""What the code must know of languages, as the ISO 639-1 codes that Whisper uses."""

WITHOUT_SPACES = frozenset({"zh", "yue", "ja", "th", "lo", "my", "km", "bo"})
"""They put no spaces between words."""

FEW_TOKENS = frozenset(
    "en de nl sv da no fr es ca pt it ro pl cs hu fi tr id vi ru uk ar he zh ja ko".split()  # noqa: SIM905
)
"""Whisper's vocabulary fits them: the first article of the Declaration of Human Rights, read in 7 s, which is hurried, takes 5
to 12 tokens a second. Of the others that were counted Greek takes 14, Thai 18, Hindi 28, Georgian 61 and Burmese 103."""
