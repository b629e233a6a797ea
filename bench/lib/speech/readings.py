"""Synthetic speech in the two voices that are not in the demo model's training: espeak-ng's +f3 and flite's awb.

Out: folders of WAV files as ``bench.lib.recordings`` reads them, with the times of sentences and words; made once and kept.
``sentences`` are four a recording with pauses between; ``readings`` are a minute or two of one reader who hardly stops
for breath, where cuts must fall into speech; ``dialogues`` are two who take turns, with long pauses. Each needs
Debian's espeak-ng and flite, and raises OSError where one is missing.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.demo_model.corpus import Espeak, Flite, Grammar, Utterance, written
from bench.lib.recordings import SEED, Recording, read_folder
from bench.lib.shapes import made
from bench.lib.speech.takes import Part, Take, joined, write
from transcriber.engine.job import WHISPER_SAMPLE_RATE

SENTENCES, RECORDINGS = 4, 26
"""Of ``sentences``: in a recording, and of each voice."""

READINGS, DIALOGUES = 10, 10
"""Of each voice; of both together."""

READING_S, DIALOGUE_S = (60.0, 115.0), (45.0, 60.0)
"""How long one is, less its last sentence."""

SENTENCE_PAUSES_S, READING_PAUSES_S, DIALOGUE_PAUSES_S = (0.3, 1.0), (0.05, 0.3), (0.8, 2.5)
UTTERANCE_WORDS = 8
"""Whoever answers says no more at once."""

ACCENTS = ("en", "en-us", "en-gb-scotland", "en-gb-x-rp")
WORDS_PER_MINUTE, STRETCH = (125, 190), (0.95, 1.25)
"""How fast espeak-ng speaks, and how slowly flite."""

Say = Callable[[list[str]], Utterance | None]
"""Speaks one sentence, as it is written."""


def sentences() -> list[Recording]:
    """Some 200 sentences of the demo's world."""
    return read_folder(made("held-out-sentences", speak_sentences))


def readings() -> list[Recording]:
    """Half an hour; pauses of 50 to 300 ms."""
    return read_folder(made("held-out-readings", speak_readings))


def dialogues() -> list[Recording]:
    """Ten minutes; short utterances, pauses of 0.8 to 2.5 s."""
    return read_folder(made("held-out-dialogues", speak_dialogues))


def held_out_voices(grammar: Grammar) -> dict[str, Say]:
    """Both voices, each sentence at another pace, drawn by the grammar's generator."""
    rng, espeak, flite = grammar.rng, Espeak(), Flite()

    def espeak_f3(words: list[str]) -> Utterance | None:
        return espeak.speak(
            f"{grammar.pick(ACCENTS)}+{Espeak.HELD_OUT}", words, int(rng.integers(*WORDS_PER_MINUTE)), 50, 50
        )

    def flite_awb(words: list[str]) -> Utterance | None:
        return flite.speak(Flite.HELD_OUT, words, float(rng.uniform(*STRETCH)))

    return {"espeak_f3": espeak_f3, "flite_awb": flite_awb}


class Cast:
    """Both voices and what they might say, always the same."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(SEED)
        self._grammar, self._espeak, self._flite = Grammar(self.rng), Espeak(), Flite()

    def espeak_f3_reader(self) -> Say:
        """One who keeps accent and pace."""
        accent, pace = self._grammar.pick(ACCENTS), int(self.rng.integers(*WORDS_PER_MINUTE))
        return lambda words: self._espeak.speak(f"{accent}+{Espeak.HELD_OUT}", words, pace, 50, 50)

    def flite_awb_reader(self) -> Say:
        """One who keeps its pace."""
        stretch = float(self.rng.uniform(*STRETCH))
        return lambda words: self._flite.speak(Flite.HELD_OUT, words, stretch)

    @property
    def readers(self) -> dict[str, Callable[[], Say]]:
        """By voice."""
        return {"espeak_f3": self.espeak_f3_reader, "flite_awb": self.flite_awb_reader}

    def record(
        self,
        say: Callable[[int], Say],
        pauses_s: tuple[float, float],
        enough: Callable[[int, float], bool],
        longest: int | None = None,
        *,
        pause_after: bool = False,
    ) -> Take:
        """Sentences with a pause before each.

        Args:
            say: who speaks the sentence of that number.
            pauses_s: shortest and longest pause.
            enough: whether to stop, given the number of sentences and the seconds so far.
            longest: words of a sentence, if not as many as it has.
            pause_after: whether it also ends with a pause.
        """
        parts: list[Part] = []
        at_s = 0.0
        while not enough(len(parts), at_s):
            words = written(self._grammar.sentence())
            said = say(len(parts))(words) if len(words) <= (longest or len(words)) else None
            if said is None:
                continue
            parts.append(Part(self.pause(pauses_s), said))
            at_s += parts[-1].samples / WHISPER_SAMPLE_RATE
        return joined(parts, self.pause(pauses_s) if pause_after else 0)

    def pause(self, length_s: tuple[float, float]) -> int:
        """Samples of one."""
        return int(self.rng.uniform(*length_s) * WHISPER_SAMPLE_RATE)


def speak_sentences(folder: Path) -> None:
    cast = Cast()

    def record(reader: Callable[[], Say]) -> Take:
        # Another accent and pace each time.
        return cast.record(lambda _: reader(), SENTENCE_PAUSES_S, lambda number, _: number == SENTENCES)

    write(
        folder,
        {
            f"{name}_{number:02}": record(reader)
            for name, reader in cast.readers.items()
            for number in range(RECORDINGS)
        },
    )


def speak_readings(folder: Path) -> None:
    cast = Cast()

    def record(reader: Say) -> Take:
        length_s = cast.rng.uniform(*READING_S)
        return cast.record(lambda _: reader, READING_PAUSES_S, lambda _, at_s: at_s > length_s, pause_after=True)

    write(
        folder,
        {
            f"{name}_{number:02}": record(reader())
            for name, reader in cast.readers.items()
            for number in range(READINGS)
        },
    )


def speak_dialogues(folder: Path) -> None:
    cast = Cast()

    def record() -> Take:
        length_s, both = cast.rng.uniform(*DIALOGUE_S), (cast.espeak_f3_reader(), cast.flite_awb_reader())
        return cast.record(
            lambda number: both[number % 2],
            DIALOGUE_PAUSES_S,
            lambda _, at_s: at_s > length_s,
            UTTERANCE_WORDS,
            pause_after=True,
        )

    write(folder, {f"dialogue_{number:02}": record() for number in range(DIALOGUES)})
