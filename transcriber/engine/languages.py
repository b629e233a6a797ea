"""What the code must know of languages, as the ISO 639-1 codes that Whisper uses."""

WITHOUT_SPACES = frozenset({"zh", "yue", "ja", "th", "lo", "my", "km", "bo"})
"""They put no spaces between words."""

FEW_TOKENS = frozenset(
    "en de nl sv da no fr es ca pt it ro pl cs hu fi tr id vi ru uk ar he zh ja ko".split()  # noqa: SIM905
)
"""Whisper's vocabulary fits them: the first article of the Declaration of Human Rights, read in 7 s, which is hurried, takes 5
to 12 tokens a second. Of the others that were counted Greek takes 14, Thai 18, Hindi 28, Georgian 61 and Burmese 103."""

WHISPER_LANGUAGES = tuple(
    "en zh de es ru ko fr ja pt tr pl ca nl ar sv it id hi fi vi he uk el ms cs ro da hu ta no th ur hr bg lt la mi ml cy sk te fa "  # noqa: SIM905
    "lv bn sr az sl kn et mk br eu is hy ne mn bs kk sq sw gl mr pa si km sn yo so af oc ka be tg sd gu am yi lo uz fo ht ps tk "
    "nn mt sa lb my bo tl mg as tt haw ln ha ba jw su yue".split()
)
"""All that any Whisper model knows, in its own order."""
