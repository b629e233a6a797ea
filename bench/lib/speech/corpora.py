"""Corpora for models of real speech: natural and other voices that read texts of our own, and people.

Out: by name recordings with their truth. ``readings`` are in joe's voice, ``dialogues`` in his and others', ``accents`` some of
the same readings in espeak-ng's and flite's, ``people`` real ones. What is missing is left out, with the reason. The long form,
for errors that are seldom, is hours of sentences made of templates. All are made once and kept, by a digest of
their texts and of how they are read.
"""

import math
from collections.abc import Callable, Iterable
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np

from bench.lib.recordings import PEOPLE, SEED, Recording, read_folder
from bench.lib.report import note
from bench.lib.shapes import made
from bench.lib.speech import own_texts
from bench.lib.speech.own_texts import DIALOGUES, READINGS, SLOTS, TEMPLATES, Line, Sentences, as_spoken
from bench.lib.speech.readings import Say
from bench.lib.speech.speakers import ESPEAK_ACCENTS, FLITE_VOICES, Joe, other_voices
from bench.lib.speech.takes import Part, Take, joined, write
from transcriber.engine.job import WHISPER_SAMPLE_RATE

READING_PAUSES_S, DIALOGUE_PAUSES_S = (0.05, 0.6), (0.2, 1.2)
PACES = (0.9, 1.2)
"""Of joe: fast and slow."""

WORDS_PER_MINUTE, STRETCH = 140, 1.0
"""Of the others."""

ACCENTED = 9
"""Readings in other voices: ten minutes."""

GENERATED_S, PART_RECORDINGS = 180.0, 10
"""A recording of the long form, and recordings that are made and kept together: half an hour."""


def real_corpora(skipped: list[str]) -> dict[str, list[Recording]]:
    """The three quarters of an hour that are played by default."""
    joe, others = (PACES, SEED), (FLITE_VOICES, ESPEAK_ACCENTS, WORDS_PER_MINUTE, STRETCH, SEED)
    readings = own_texts.digest([READINGS], (READING_PAUSES_S, joe))
    dialogues = own_texts.digest([DIALOGUES], (DIALOGUE_PAUSES_S, joe, others))
    accents = own_texts.digest([READINGS], (READING_PAUSES_S, ACCENTED, others))
    makers: dict[str, Callable[[], list[Recording]]] = {
        "readings": lambda: read_folder(made(f"own-readings-{readings}", speak_readings)),
        "dialogues": lambda: read_folder(made(f"own-dialogues-{dialogues}", speak_dialogues)),
        "accents": lambda: read_folder(made(f"own-accents-{accents}", speak_accents)),
        "people": lambda: read_folder(PEOPLE),
    }
    corpora: dict[str, list[Recording]] = {}
    for name, make in makers.items():
        try:
            corpora[name] = make()
        except OSError as error:
            skipped.append(f"{name}: {error}")
    return corpora


def long_form(hours: float) -> list[Recording]:
    """At least so many hours of joe.

    Raises:
        OSError: he is not installed.
    """
    parts = math.ceil(hours * 3600 / (GENERATED_S * PART_RECORDINGS))
    digest = own_texts.digest([TEMPLATES, SLOTS], (READING_PAUSES_S, PACES, SEED, GENERATED_S, PART_RECORDINGS))
    folders = [made(f"own-generated-{digest}-{part:02}", partial(speak_generated, part)) for part in range(parts)]
    return [one for folder in folders for one in read_folder(folder)]


def speak_readings(folder: Path) -> None:
    rng, joe = np.random.default_rng(SEED), Joe(SEED)
    takes: dict[str, Take] = {}
    for title, lines in own_texts.written_readings().items():
        note(f"corpora: joe reads {title}")
        takes[title] = record(rng, lines, {"": joe.reader(_pace(rng))}, READING_PAUSES_S)
    write(folder, takes)


def speak_dialogues(folder: Path) -> None:
    """Joe is A, and B another one each time."""
    rng, joe = np.random.default_rng(SEED), Joe(SEED)
    others = list(other_voices(WORDS_PER_MINUTE, STRETCH).values())
    takes: dict[str, Take] = {}
    for number, (title, lines) in enumerate(own_texts.written_dialogues().items()):
        note(f"corpora: joe and another talk: {title}")
        voices = {"A": joe.reader(_pace(rng)), "B": others[number % len(others)]}
        takes[title] = record(rng, lines, voices, DIALOGUE_PAUSES_S)
    write(folder, takes)


def speak_accents(folder: Path) -> None:
    rng, voices = np.random.default_rng(SEED), other_voices(WORDS_PER_MINUTE, STRETCH)
    texts = list(own_texts.written_readings().items())[:ACCENTED]
    takes: dict[str, Take] = {}
    for number, (title, lines) in enumerate(texts):
        name = list(voices)[number % len(voices)]
        takes[f"{name}_{title}"] = record(rng, lines, {"": voices[name]}, READING_PAUSES_S)
    write(folder, takes)


def speak_generated(part: int, folder: Path) -> None:
    """Recordings of that part of the long form; no two parts say the same."""
    rng, joe = np.random.default_rng([SEED, part]), Joe(SEED + part)
    sentences = iter(Sentences(rng))
    takes: dict[str, Take] = {}
    for number in range(PART_RECORDINGS):
        note(f"corpora: the long form, part {part}, {number + 1} of {PART_RECORDINGS}")
        lines = (Line("", next(sentences)) for _ in count())
        take = record(rng, lines, {"": joe.reader(_pace(rng))}, READING_PAUSES_S, GENERATED_S)
        takes[f"part_{part:02}_{number}"] = take
    write(folder, takes)


def record(
    rng: np.random.Generator,
    lines: Iterable[Line],
    voices: dict[str, Say],
    pauses_s: tuple[float, float],
    length_s: float = math.inf,
) -> Take:
    """Lines with a pause before each and one at the end, until there is ``length_s`` of them.

    A sentence that a voice cannot say, or whose words it cannot time, is left out.
    """
    parts: list[Part] = []
    for line in lines:
        if sum(part.samples for part in parts) >= length_s * WHISPER_SAMPLE_RATE:
            break
        said = voices[line.speaker](as_spoken(line.text))
        if said is not None:
            parts.append(Part(_pause(rng, pauses_s), said))
    return joined(parts, _pause(rng, pauses_s))


def _pace(rng: np.random.Generator) -> float:
    return float(rng.uniform(*PACES))


def _pause(rng: np.random.Generator, length_s: tuple[float, float]) -> int:
    """Samples of one."""
    return int(rng.uniform(*length_s) * WHISPER_SAMPLE_RATE)
