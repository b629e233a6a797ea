"""What people really say again and again, which must not be taken for a loop of the decoder: a refusal, digits, a call for help.

Out: recordings in joe's voice and in others, each text by itself and in the midst of a talk, where cuts go through it and it is heard
again as left context. Made once and kept.
"""

from pathlib import Path

import numpy as np

from bench.lib.recordings import SEED, Recording, read_folder
from bench.lib.shapes import made
from bench.lib.speech.corpora import record
from bench.lib.speech.own_texts import Line, digest
from bench.lib.speech.readings import Say
from bench.lib.speech.speakers import Joe, other_voices
from bench.lib.speech.takes import Take, write

TEXTS = {
    "no": ["No, no, no, no, no, no, no, no."],
    "digits": ["The number is five, five, five, five, five, five, five, five."],
    "counted": ["One, two, three, four, five, six, seven, eight, nine, ten."],
    "beats": ["One, two, three, one, two, three, one, two, three, one, two, three, one, two, three."],
    "mayday": ["Mayday, mayday, mayday, this is Star of the Sea, Star of the Sea, Star of the Sea."] * 3,
    "thanks": ["Thank you.", "Thank you.", "Thank you.", "Thank you.", "Thank you.", "Thank you."],
}
BEFORE, AFTER = (
    "I have listened to everything that you told me this morning.",
    "Now please tell me what you want me to do next.",
)
PAUSES_S = (0.1, 0.3)
WORDS_PER_MINUTE, STRETCH, PACE = 150, 1.0, 1.0
OTHERS = ("flite_slt", "espeak_en-gb-x-rp")


def repeated() -> list[Recording]:
    """Six texts, each twice in three voices: six minutes.

    Raises:
        OSError: voices are not installed.
    """
    how = digest([], (TEXTS, BEFORE, AFTER, PAUSES_S, WORDS_PER_MINUTE, STRETCH, PACE, OTHERS, SEED))
    return read_folder(made(f"own-repeated-{how}", speak))


def speak(folder: Path) -> None:
    rng, others = np.random.default_rng(SEED), other_voices(WORDS_PER_MINUTE, STRETCH)
    voices: dict[str, Say] = {"joe": Joe(SEED).reader(PACE)} | {name: others[name] for name in OTHERS}
    takes: dict[str, Take] = {}
    for voice, say in voices.items():
        for name, lines in TEXTS.items():
            for kind, said in (("alone", lines), ("within", [BEFORE, *lines, AFTER])):
                takes[f"{voice}_{name}_{kind}"] = record(rng, [Line("", line) for line in said], {"": say}, PAUSES_S)
    write(folder, takes)
