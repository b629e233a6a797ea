"""Properties and names of languages, by the ISO 639-1 codes that Whisper uses."""

import re

WITHOUT_SPACES = frozenset({"zh", "yue", "ja", "th", "lo", "my", "km", "bo"})
"""Written without spaces between words."""

FEW_TOKENS = frozenset(
    "en de nl sv da no fr es ca pt it ro pl cs hu fi tr id vi ru uk ar he zh ja ko".split()  # noqa: SIM905
)
"""Whisper's vocabulary fits them: the first article of the Declaration of Human Rights, read fast, in 7 s, takes 5 to 12 tokens a
second. Of the others that were counted Greek takes 14, Thai 18, Hindi 28, Georgian 61 and Burmese 103."""

WHISPER_LANGUAGES = tuple(
    "en zh de es ru ko fr ja pt tr pl ca nl ar sv it id hi fi vi he uk el ms cs ro da hu ta no th ur hr bg lt la mi ml cy sk te fa "  # noqa: SIM905
    "lv bn sr az sl kn et mk br eu is hy ne mn bs kk sq sw gl mr pa si km sn yo so af oc ka be tg sd gu am yi lo uz fo ht ps tk "
    "nn mt sa lb my bo tl mg as tt haw ln ha ba jw su yue".split()
)
"""All languages of Whisper, in its own order."""

_NAMES = (  # noqa: SIM905
    "english,chinese,german,spanish,russian,korean,french,japanese,portuguese,turkish,polish,catalan,dutch,arabic,swedish,italian,"
    "indonesian,hindi,finnish,vietnamese,hebrew,ukrainian,greek,malay,czech,romanian,danish,hungarian,tamil,norwegian,thai,urdu,"
    "croatian,bulgarian,lithuanian,latin,maori,malayalam,welsh,slovak,telugu,persian,latvian,bengali,serbian,azerbaijani,slovenian,"
    "kannada,estonian,macedonian,breton,basque,icelandic,armenian,nepali,mongolian,bosnian,kazakh,albanian,swahili,galician,marathi,"
    "punjabi,sinhala,khmer,shona,yoruba,somali,afrikaans,occitan,georgian,belarusian,tajik,sindhi,gujarati,amharic,yiddish,lao,uzbek,"
    "faroese,haitian creole,pashto,turkmen,nynorsk,maltese,sanskrit,luxembourgish,myanmar,tibetan,tagalog,malagasy,assamese,tatar,"
    "hawaiian,lingala,hausa,bashkir,javanese,sundanese,cantonese"
).split(",")
"""Whisper's names of them, in the same order."""

_BY_NAME = dict(zip(_NAMES, WHISPER_LANGUAGES, strict=True)) | {
    "burmese": "my", "valencian": "ca", "flemish": "nl", "haitian": "ht", "letzeburgesch": "lb", "pushto": "ps",
    "panjabi": "pa", "moldavian": "ro", "moldovan": "ro", "sinhalese": "si", "castilian": "es", "mandarin": "zh",
}  # fmt: skip

_CODE = re.compile(r"([A-Za-z]{2,3})(?:[-_][A-Za-z0-9]{1,8})*", re.ASCII)


def language_code(text: str) -> str | None:
    """The code of a language's name or code, even if no model knows it; None if ``text`` is neither.

    >>> language_code("en-GB"), language_code("English"), language_code("what you hear")
    ('en', 'en', None)
    """
    if code := _BY_NAME.get(text.lower()):
        return code
    match = _CODE.fullmatch(text)
    return match[1].lower() if match else None
