"""Synthetic speech in the two voices that the demo model's training never heard: espeak-ng's +f3 and flite's awb.

Out: folders of WAV files as ``bench.recordings`` reads them, with the times of sentences and words; made once and kept.
``sentences`` are four a recording with pauses between; ``readings`` are a minute or two of one reader who hardly stops
for breath, where cuts must fall into speech; ``dialogues`` are two who take turns, with long pauses. Each needs
Debian's espeak-ng and flite, and raises OSError where one is missing.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray

from bench.demo_model.corpus import Espeak, Flite, Grammar, Utterance, written
from bench.recordings import SEED, Entry, Recording, read_folder
from bench.shapes import made
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


class Take(NamedTuple):
    """A recording: (n,) int16 at 16 kHz, and its sentences as ``transcripts.json`` has them."""

    samples: NDArray[np.int16]
    sentences: list[Entry]


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
    ) -> Take:
        """Sentences with a pause before each.

        Args:
            say: who speaks the sentence of that number.
            pauses_s: shortest and longest pause.
            enough: told the number of sentences and the seconds so far.
            longest: words of a sentence, if not as many as it has.
        """
        pieces: list[NDArray[np.int16]] = []
        sentences: list[Entry] = []
        at_s = 0.0
        while not enough(len(sentences), at_s):
            words = written(self._grammar.sentence())
            said = say(len(sentences))(words) if len(words) <= (longest or len(words)) else None
            if said is None:
                continue
            pause = self.pause(pauses_s)
            start_s = at_s + len(pause) / WHISPER_SAMPLE_RATE
            at_s = start_s + len(said.audio) / WHISPER_SAMPLE_RATE
            pieces += [pause, said.audio]
            times = zip(words, said.starts.tolist(), said.ends.tolist(), strict=True)
            sentences.append(
                _entry(" ".join(words), start_s, at_s)
                | {"words": [{"word": word} | _times(start_s + start, start_s + end) for word, start, end in times]}
            )
        return Take(np.concatenate(pieces), sentences)

    def pause(self, length_s: tuple[float, float]) -> NDArray[np.int16]:
        return np.zeros(int(self.rng.uniform(*length_s) * WHISPER_SAMPLE_RATE), np.int16)


def speak_sentences(folder: Path) -> None:
    cast = Cast()

    def record(reader: Callable[[], Say]) -> Take:
        # Another accent and pace each time.
        return cast.record(lambda _: reader(), SENTENCE_PAUSES_S, lambda number, _: number == SENTENCES)

    _write(
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
        take = cast.record(lambda _: reader, READING_PAUSES_S, lambda _, at_s: at_s > length_s)
        return take._replace(samples=np.concatenate([take.samples, cast.pause(READING_PAUSES_S)]))

    _write(
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
        take = cast.record(
            lambda number: both[number % 2], DIALOGUE_PAUSES_S, lambda _, at_s: at_s > length_s, UTTERANCE_WORDS
        )
        return take._replace(samples=np.concatenate([take.samples, cast.pause(DIALOGUE_PAUSES_S)]))

    _write(folder, {f"dialogue_{number:02}": record() for number in range(DIALOGUES)})


def _write(folder: Path, takes: dict[str, Take]) -> None:
    """A new folder with all of them."""
    folder.mkdir()
    entries: list[Entry] = []
    for name, take in takes.items():
        soundfile.write(folder / f"{name}.wav", take.samples, WHISPER_SAMPLE_RATE)
        text = " ".join(sentence["text"] for sentence in take.sentences)
        entries.append({"file": f"{name}.wav", "text": text, "sentences": take.sentences})
    (folder / "transcripts.json").write_text(json.dumps(entries, indent=1))


def _entry(text: str, start_s: float, end_s: float) -> Entry:
    return {"text": text} | _times(start_s, end_s)


def _times(start_s: float, end_s: float) -> Entry:
    return {"start": round(start_s, 3), "end": round(end_s, 3)}
