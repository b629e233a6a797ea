"""Who may speak in a dialogue: real people, a neural voice, and those of synthesisers.

In: what is installed, and annotated recordings. Out: voices with what each can say; nothing is said by two of them, nor twice. Real ones are
President Kennedy, a reader of LibriVox, two of Debian's pocketsphinx-testdata, and those of the recordings; what they say is short. Speech of synthesisers is made once and kept. What is missing is left out, with the reason.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from bench.demo_model.corpus import Espeak, Flite
from bench.lib.recordings import BUNDLED, PEOPLE, SEED, Samples, Word, read_folder
from bench.lib.report import note
from bench.lib.shapes import made
from bench.lib.speech.corpora import record
from bench.lib.speech.own_texts import SLOTS, TEMPLATES, Line, Sentences, digest
from bench.lib.speech.readings import Say
from bench.lib.speech.speakers import Joe
from bench.lib.speech.takes import Take, write
from bench.lib.voices.annotated import LEAST_S, PAUSE_S, Annotated
from bench.lib.voices.stretches import Stretch, faded, moved, phrases
from transcriber.engine.job import WHISPER_SAMPLE_RATE

TESTDATA = Path("/usr/share/pocketsphinx/test/data")
"""Where Debian's package puts it."""

DEBIAN = {
    "cards": ("cards/001.wav", "cards/002.wav", "cards/003.wav", "cards/004.wav", "cards/005.wav"),
    "commands": ("goforward.raw", "numbers.raw", "something.raw", "tidigits/dhd.2934z.raw"),
}
"""By voice, its recordings; 16 bits at 16 kHz where they have no header."""

FLITE = ("awb", "kal16", "rms", "slt")
ESPEAK = {
    "en-us+m1": (150, 45), "en-gb-x-rp+f2": (160, 50), "en-us+f4": (145, 60), "en-gb-scotland+m7": (155, 35),
    "en-029+m3": (150, 55), "en-us-nyc+klatt4": (140, 40), "en-gb-x-rp+Annie": (150, 65), "en-us+belinda": (160, 55),
}  # fmt: skip
"""Accent and variant; words a minute, and pitch."""

SPEECH_S = 150.0
"""Of each synthetic voice."""

PAUSES_S = (0.3, 0.3)
ANNOTATED_S = 6.0
"""Who says less alone in annotated recordings is no voice."""


class Voice(NamedTuple):
    """Somebody who may speak.

    Attributes:
        name: of the voice.
        kind: real, neural, or synthesiser.
        telephone: whether it was recorded over a telephone.
        stretches: all that it says, in order.
    """

    name: str
    kind: str
    telephone: bool
    stretches: tuple[Stretch, ...]


def cast(recordings: Sequence[Annotated], skipped: list[str]) -> list[Voice]:
    """All there are, the same ones each time."""
    makers: dict[str, Callable[[], list[Voice]]] = {
        "people": people,
        "pocketsphinx-testdata": recorded,
        "call and meetings": partial(annotated, recordings),
        "joe": lambda: synthetic("neural", "joe", joe_speaks),
        "flite": lambda: synthetic("synthesiser", "flite", flite_speaks),
        "espeak-ng": lambda: synthetic("synthesiser", "espeak", espeak_speaks),
    }
    voices: list[Voice] = []
    for name, make in makers.items():
        try:
            voices += make()
        except OSError as error:
            skipped.append(f"{name}: {error}")
    return voices


def people() -> list[Voice]:
    """Those of the test kit."""
    recordings = read_folder(PEOPLE)
    return [
        _real(name, [one.samples for one in recordings if one.name.endswith(name)]) for name in ("austen", "kennedy")
    ]


def bundled() -> list[Voice]:
    """The two of the bundled speech; other synthesisers' voices are like them, so they are in no cast."""
    said: dict[str, list[Stretch]] = {"man": [], "woman": []}
    for number, one in enumerate(read_folder(BUNDLED)):
        said["man" if number % 2 else "woman"] += [
            _stretch(one.samples, sentence.words or ()) for sentence in one.sentences
        ]
    return [Voice(name, "synthesiser", False, tuple(stretches)) for name, stretches in said.items()]


def recorded() -> list[Voice]:
    """Those of Debian's package.

    Raises:
        OSError: it is not installed.
    """
    return [_real(name, [_read(TESTDATA / path) for path in paths]) for name, paths in DEBIAN.items()]


def annotated(recordings: Sequence[Annotated]) -> list[Voice]:
    """Those of annotated recordings; one may be in several.

    Raises:
        OSError: there are none.
    """
    if not recordings:
        raise FileNotFoundError("no archive of them is given")
    said: dict[tuple[str, bool], list[Stretch]] = {}
    for recording in recordings:
        for speaker, stretches in recording.alone().items():
            said.setdefault((speaker, recording.telephone), []).extend(stretches)
    return [
        Voice(speaker, "real", telephone, tuple(stretches))
        for (speaker, telephone), stretches in said.items()
        if sum(stretch.duration_s for stretch in stretches) >= ANNOTATED_S
    ]


def joe_speaks() -> Iterator[tuple[str, Say]]:
    yield "joe", Joe(SEED).reader(1.0)


def flite_speaks() -> Iterator[tuple[str, Say]]:
    flite = Flite()
    for voice in FLITE:
        yield voice, lambda words, voice=voice: flite.speak(voice, words, 1.0)  # type: ignore[misc]


def espeak_speaks() -> Iterator[tuple[str, Say]]:
    espeak = Espeak()
    for voice, (pace, pitch) in ESPEAK.items():
        yield (
            voice,
            lambda words, voice=voice, pace=pace, pitch=pitch: espeak.speak(voice, words, pace, pitch, 50),  # type: ignore[misc]
        )


def synthetic(kind: str, family: str, speakers: Callable[[], Iterator[tuple[str, Say]]]) -> list[Voice]:
    """One voice of each of them.

    Raises:
        OSError: one is not installed, and its speech was not made before.
    """

    def speak(folder: Path) -> None:
        # Other sentences for each family: what two voices say alike would make them more alike than they are.
        rng = np.random.default_rng([SEED, *family.encode()])
        sentences = iter(Sentences(rng))
        takes: dict[str, Take] = {}
        for name, say in speakers():
            note(f"voices: {name} speaks")
            lines = (Line("", next(sentences)) for _ in count())
            takes[name] = record(rng, lines, {"": say}, PAUSES_S, SPEECH_S)
        write(folder, takes)

    how = (family, ESPEAK, FLITE, SPEECH_S, PAUSES_S, SEED)
    recordings = read_folder(made(f"voices-{family}-{digest([TEMPLATES, SLOTS], how)}", speak))
    return [
        Voice(
            one.name,
            kind,
            False,
            tuple(_stretch(one.samples, sentence.words or ()) for sentence in one.sentences),
        )
        for one in recordings
    ]


def _stretch(samples: Samples, words: tuple[Word, ...]) -> Stretch:
    """From the first word to the last one."""
    start_s, end_s = words[0].start_s, words[-1].end_s
    piece = samples[round(start_s * WHISPER_SAMPLE_RATE) : round(end_s * WHISPER_SAMPLE_RATE)]
    return Stretch(faded(piece), tuple(moved(words, -start_s)))


def _real(name: str, recordings: list[Samples]) -> Voice:
    stretches = [phrase for samples in recordings for phrase in phrases(samples, PAUSE_S, LEAST_S)]
    return Voice(name, "real", False, tuple(stretches))


def _read(path: Path) -> Samples:
    if not path.exists():
        raise FileNotFoundError(f"no {path}; install Debian's pocketsphinx-testdata")
    if path.suffix == ".wav":
        return np.asarray(soundfile.read(path, dtype="float32")[0])
    return np.fromfile(path, "<i2").astype(np.float32) / np.float32(2**15)
