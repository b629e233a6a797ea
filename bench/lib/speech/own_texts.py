"""Texts of our own to be read aloud: readings and dialogues as they stand in ``texts/``, and further sentences made of templates.

They are written as they are spoken ("twelve dollars and fifty cents"), since voices make "dollar twelve point five zero" of
"$12.50"; Whisper's normaliser writes both alike. In: the files, a sentence a line; in a dialogue each begins with who says it.
Out: by title the lines; and as many sentences as are asked for, the same ones each time.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

TEXTS = Path(__file__).parent / "texts"
READINGS, DIALOGUES, TEMPLATES, SLOTS = "readings.txt", "dialogues.txt", "templates.txt", "slots.txt"

ONES = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
TENS = ["_", "_", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
ORDINALS = [
    "_", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh",
    "twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth", "eighteenth", "nineteenth",
    "twentieth", "twenty-first", "twenty-second", "twenty-third", "twenty-fourth", "twenty-fifth", "twenty-sixth",
    "twenty-seventh", "twenty-eighth",
]  # fmt: skip
"""Days of any month."""

MONTHS = [
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December",
]  # fmt: skip
WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]

TITLES = {"Mr.": "Mister", "Mrs.": "Missus", "Ms.": "Ms", "Dr.": "Doctor", "St.": "Saint"}
"""A voice takes their full stop for the end of a sentence."""


class Line(NamedTuple):
    """One sentence; ``speaker`` is empty where only one reads."""

    speaker: str
    text: str


def parsed(text: str) -> dict[str, list[Line]]:
    """By title, in order; a title is a line that begins with ``#``.

    >>> parsed("# tea\\nA: Milk?\\nB: No.\\n")
    {'tea': [Line(speaker='A', text='Milk?'), Line(speaker='B', text='No.')]}
    """
    pieces: dict[str, list[Line]] = {}
    lines: list[Line] = []
    for row in filter(None, map(str.strip, text.splitlines())):
        if row.startswith("#"):
            lines = pieces.setdefault(row.strip("# "), [])
            continue
        speaker, said = re.match(r"(?:([A-Z]): )?(.*)", row).groups("")  # type: ignore[union-attr]
        lines.append(Line(speaker, said))
    return pieces


def written_readings() -> dict[str, list[Line]]:
    return parsed(_read(READINGS))


def written_dialogues() -> dict[str, list[Line]]:
    return parsed(_read(DIALOGUES))


def digest(names: Sequence[str], how: object = None) -> str:
    """Of those files, and of how they are read: what is made of others, or in another way, has another name."""
    return hashlib.sha256("\0".join([repr(how), *map(_read, names)]).encode()).hexdigest()[:12]


def as_spoken(text: str) -> list[str]:
    """The words that a voice is given, with their punctuation: compounds apart, titles in full.

    >>> as_spoken("Mrs. Novak is fifty-three.")
    ['Missus', 'Novak', 'is', 'fifty', 'three.']
    """
    return [TITLES.get(word, word) for word in text.replace("-", " ").split()]


class Sentences:
    """Sentences made of hand-written templates, without end; which ones is up to ``rng``."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        rows = (line.partition(": ") for line in _read(SLOTS).splitlines())
        self._lists = {name: values.split(", ") for name, _, values in rows}
        self._templates = templates()
        self._makers: dict[str, Callable[[], str]] = {
            "small": lambda: cardinal(self._int(2, 13)),
            "number": lambda: cardinal(self._int(13, 1000)),
            "number_20": lambda: cardinal(self._int(13, 30)),
            "percent": self._percent,
            "year": lambda: year(self._int(1801, 2026)),
            "year_ahead": lambda: year(self._int(2040, 2090)),
            "date": lambda: f"the {ORDINALS[self._int(1, len(ORDINALS))]} of {self._pick(MONTHS)}",
            "month": lambda: self._pick(MONTHS),
            "weekday": lambda: self._pick(WEEKDAYS),
            "time": self._time,
            "money": self._money,
            "phone": self._phone,
        }

    def __iter__(self) -> Iterator[str]:
        """All templates in a random order, and then in another one."""
        while True:
            for number in self._rng.permutation(len(self._templates)):
                yield self.filled(self._templates[number])

    def filled(self, template: str) -> str:
        text = re.sub(r"\{(\w+)\}", lambda slot: self._slot(slot[1]), template)
        text = re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)
        return text[:1].upper() + text[1:]

    def _slot(self, name: str) -> str:
        if name in self._makers:
            return self._makers[name]()
        if name.endswith("_plural"):
            return plural(self._pick(self._lists[name.removesuffix("_plural")]))
        return self._pick(self._lists[name])

    def _percent(self) -> str:
        whole = cardinal(self._int(2, 100))
        return whole if self._rng.random() < 0.7 else f"{whole} point {ONES[self._int(1, 10)]}"

    def _time(self) -> str:
        hour, kind = self._int(1, 13), self._int(0, 4)
        if kind == 0:
            return f"{ONES[hour]} o'clock"
        if kind == 1:
            return f"{self._pick(['half past', 'a quarter past', 'a quarter to'])} {ONES[hour]}"
        return f"{ONES[hour]} {cardinal(self._int(11, 60))}"

    def _money(self) -> str:
        kind = self._int(0, 3)
        if kind == 0:
            return f"{cardinal(self._int(2, 100))} dollars and {cardinal(self._int(11, 100))} cents"
        return f"{cardinal(self._int(3, 2000))} {('', 'pounds', 'euros')[kind]}"

    def _phone(self) -> str:
        digits = [ONES[self._int(0, 10)] for _ in range(9)]
        return ", ".join(" ".join(digits[at : at + 3]) for at in (0, 3, 6))

    def _int(self, low: int, high: int) -> int:
        return int(self._rng.integers(low, high))

    def _pick(self, items: list[str]) -> str:
        return items[self._int(0, len(items))]


def templates() -> list[str]:
    return _read(TEMPLATES).splitlines()


def cardinal(number: int) -> str:
    """Of 0 to 999 999, as the British say it.

    >>> cardinal(1234)
    'one thousand two hundred and thirty-four'
    """
    if number < 20:
        return ONES[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return TENS[tens] + (f"-{ONES[ones]}" if ones else "")
    if number < 1000:
        hundreds, rest = divmod(number, 100)
        return f"{ONES[hundreds]} hundred" + (f" and {cardinal(rest)}" if rest else "")
    thousands, rest = divmod(number, 1000)
    between = " and " if 0 < rest < 100 else " "
    return f"{cardinal(thousands)} thousand" + (between + cardinal(rest) if rest else "")


def year(number: int) -> str:
    """Of 1100 to 2099.

    >>> [year(1862), year(1905), year(1900), year(2007), year(2040)]
    ['eighteen sixty-two', 'nineteen oh five', 'nineteen hundred', 'two thousand and seven', 'twenty forty']
    """
    century, rest = divmod(number, 100)
    if century == 20 and rest < 10:
        return cardinal(number)
    if not rest:
        return f"{cardinal(century)} hundred"
    return f"{cardinal(century)} {'oh ' if rest < 10 else ''}{cardinal(rest)}"


def plural(noun: str) -> str:
    """
    >>> [plural("diary"), plural("donkey"), plural("walrus"), plural("nurse")]
    ['diaries', 'donkeys', 'walruses', 'nurses']
    """
    if re.search("[^aeiou]y$", noun):
        return f"{noun[:-1]}ies"
    return f"{noun}es" if noun.endswith("s") else f"{noun}s"


def _read(name: str) -> str:
    return (TEXTS / name).read_text(encoding="utf-8")
