"""Dialogues of two to six voices, two minutes each, of which it is known who speaks when and, of synthetic voices, each word.

In: a seed, and who may speak. Out: the same dialogues each time. Turns are 1 to 12 s long and made of different sentences; answers
come 0.5 s before the end of what they answer to 1 s after it, and somebody else says a word or two in the midst of a turn now and
then, so that a tenth of the speech overlaps. Voices are up to 6 dB louder or softer, half of the dialogues are in pink noise 15 dB
below the speech, and half of them go over a telephone. A real voice is resampled at times, into another one; its name says so.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from bench.lib.playing import TELEPHONE
from bench.lib.recordings import Samples, Word
from bench.lib.speech.noise import mixed, pink, speech_rms
from bench.lib.voices.annotated import Turn
from bench.lib.voices.cast import Voice
from bench.lib.voices.stretches import Stretch, cut, joined, moved, overlapped_s, resampled, spoken
from transcriber.engine.job import WHISPER_SAMPLE_RATE

CONDITIONS = ("clean", "noise", "telephone", "telephone in noise")
SPEAKERS = (2, 3, 4, 5, 6)
LENGTH_S = 120.0
TURN_S, REAL_TURN_S = (1.0, 12.0), (1.0, 6.0)
"""Of real voices, of which there is little."""

ANSWER_S = (-0.5, 1.0)
PAUSE_S = (0.15, 0.6)
"""Between sentences of one turn."""

INTERJECTED, INTERJECTION_S = 0.4, (0.5, 1.5)
"""Share of the turns of at least ``OPEN_S`` into which somebody says a word or two."""

OPEN_S = 2.5
LEVEL, LEVELS_DB, TURN_DB = 0.06, (-6.0, 6.0), (-1.0, 1.0)
"""RMS of speech; of a voice, and of a turn of it."""

SNR_DB = 15.0
BAND_HZ = (300.0, 3400.0)
LOWER, HIGHER = (0.84, 0.92), (1.09, 1.2)
"""How far resampled voices are from their own."""

AS_THEY_ARE = 0.5
"""Share of the voices that are not resampled. Those of synthesisers never are: there are enough of them."""

SHARES = {"real": 1.0, "neural": 3.0, "synthesiser": 0.6}
"""How often a voice is drawn, by its kind."""

DRAWS, SECOND_S, TOGETHER_S = 20, 22.0, 150.0
"""Of voices, until the second of them has that much to say, and all of them together."""

STAYS = 0.1
"""How much less likely the last speaker is to be the next."""


class SpokenWord(NamedTuple):
    speaker: str
    word: Word


class Dialogue(NamedTuple):
    """One of them.

    Attributes:
        name: two digits.
        condition: one of ``CONDITIONS``.
        samples: (n,) float32 at 16 kHz.
        turns: by start.
        words: of synthetic voices, by start.
    """

    name: str
    condition: str
    samples: Samples
    turns: tuple[Turn, ...]
    words: tuple[SpokenWord, ...]

    @property
    def duration_s(self) -> float:
        return len(self.samples) / WHISPER_SAMPLE_RATE

    @property
    def speakers(self) -> set[str]:
        return {speaker for speaker, _, _ in self.turns}

    @property
    def overlap(self) -> float:
        """Share of the speech."""
        any_s, many_s = overlapped_s((start_s, end_s) for _, start_s, end_s in self.turns)
        return many_s / any_s


def dialogues(seed: int, number: int, voices: Sequence[Voice], length_s: float = LENGTH_S) -> Iterator[Dialogue]:
    """So many; twenty have each number of speakers in each condition."""
    for one in range(number):
        rng = np.random.default_rng([seed, one])
        condition, speakers = CONDITIONS[one % len(CONDITIONS)], SPEAKERS[one % len(SPEAKERS)]
        chosen = seated(rng, voices, speakers, telephone="telephone" in condition)
        yield _recorded(rng, f"{one:02}", condition, _Table(rng, chosen, length_s).talk())


def seated(rng: np.random.Generator, voices: Sequence[Voice], number: int, *, telephone: bool) -> list[Voice]:
    """So many of them; who was recorded over a telephone is heard over nothing else."""
    able = [voice for voice in voices if telephone or not voice.telephone]
    shares = np.array([SHARES[voice.kind] for voice in able])
    draws = [
        [able[place] for place in rng.choice(len(able), min(number, len(able)), replace=False, p=shares / shares.sum())]
        for _ in range(DRAWS)
    ]
    return [_changed(rng, voice) for voice in max(draws, key=_dialogue_s)]


def telephone_band(samples: Samples) -> Samples:
    """(n,) as a telephone sends it: 300 to 3400 Hz, at 8 kHz in mu-law."""
    spectrum = np.fft.rfft(samples)
    hz = np.maximum(np.fft.rfftfreq(len(samples), 1 / WHISPER_SAMPLE_RATE), 1.0)
    low, high = BAND_HZ
    spectrum /= np.sqrt((1 + (low / hz) ** 8) * (1 + (hz / high) ** 16))
    heard = TELEPHONE.heard(np.fft.irfft(spectrum, len(samples)).astype(np.float32))
    return np.pad(heard, (0, max(0, len(samples) - len(heard))))[: len(samples)]


def _dialogue_s(voices: Sequence[Voice]) -> float:
    """How much of a dialogue they have to say: real ones alone too little, and whoever speaks to one of them alone nearly all of it."""
    said_s = sorted(sum(stretch.duration_s for stretch in voice.stretches) for voice in voices)
    return min(said_s[-2], SECOND_S) + min(sum(said_s), TOGETHER_S)


def _changed(rng: np.random.Generator, voice: Voice) -> Voice:
    if voice.kind == "synthesiser" or rng.random() < AS_THEY_ARE:
        return voice
    factor = round(float(rng.uniform(*(LOWER if rng.random() < 0.5 else HIGHER))), 2)
    stretches = tuple(resampled(stretch, factor) for stretch in voice.stretches)
    return voice._replace(name=f"{voice.name} x {factor}", stretches=stretches)


class _Said(NamedTuple):
    speaker: str
    start: int
    stretch: Stretch


class _Guest:
    """One at the table, with what it has not yet said."""

    def __init__(self, rng: np.random.Generator, voice: Voice) -> None:
        self.name, self._real = voice.name, voice.kind == "real"
        self._rng = rng
        # A place of its own to begin, or the same sentences would open all dialogues.
        first = int(rng.integers(len(voice.stretches)))
        self._left = [*voice.stretches[first:], *voice.stretches[:first]]
        self._gain = LEVEL * 10 ** (rng.uniform(*LEVELS_DB) / 20)

    @property
    def left_s(self) -> float:
        return sum(stretch.duration_s for stretch in self._left)

    def speak(self) -> Stretch:
        """A turn."""
        low, high = np.log(REAL_TURN_S if self._real else TURN_S)
        wanted_s = float(np.exp(self._rng.uniform(low, high)))
        said = [self._next(wanted_s)]
        pauses_s: list[float] = []
        # What is left of a turn that is nearly as long as wanted would be a scrap.
        while self._left and (more_s := wanted_s - sum(one.duration_s for one in said) - sum(pauses_s)) >= TURN_S[0]:
            pauses_s.append(float(self._rng.uniform(*PAUSE_S)))
            said.append(self._next(more_s))
        return self._loud(joined(said, pauses_s))

    def interject(self) -> Stretch:
        """A word or two."""
        return self._loud(self._next(float(self._rng.uniform(*INTERJECTION_S))))

    def _next(self, at_most_s: float) -> Stretch:
        stretch, rest = cut(self._left.pop(0), at_most_s)
        if rest is not None:
            self._left.insert(0, rest)
        return stretch

    def _loud(self, stretch: Stretch) -> Stretch:
        gain = self._gain * 10 ** (self._rng.uniform(*TURN_DB) / 20) / (speech_rms(stretch.samples) + 1e-9)
        return stretch._replace(samples=stretch.samples * np.float32(gain))


class _Table:
    """Guests who talk until it is late, or until nobody has anything to say."""

    def __init__(self, rng: np.random.Generator, voices: Sequence[Voice], length_s: float) -> None:
        self._rng = rng
        self._guests = [_Guest(rng, voice) for voice in voices]
        self._length_s = length_s
        # Each has about the same share, and those who have less to say are there until the end.
        self._shares_s = {one.name: min(one.left_s, 2 * length_s / len(voices)) for one in self._guests}

    def talk(self) -> list[_Said]:
        said: list[_Said] = []
        at, last = WHISPER_SAMPLE_RATE // 2, ""
        while at < self._length_s * WHISPER_SAMPLE_RATE and (guest := self._next(said, last)):
            turn = guest.speak()
            # Nobody begins before the last answer did.
            at = max(at, said[-1].start + WHISPER_SAMPLE_RATE // 2 if said else at)
            said.append(_Said(guest.name, at, turn))
            end = at + len(turn.samples)
            if turn.duration_s >= OPEN_S and self._rng.random() < INTERJECTED:
                self._interject(said, guest.name)
            at, last = end + round(self._rng.uniform(*ANSWER_S) * WHISPER_SAMPLE_RATE), guest.name
        return said

    def _next(self, said: Sequence[_Said], last: str) -> _Guest | None:
        spent_s = {
            one.name: sum(turn.stretch.duration_s for turn in said if turn.speaker == one.name) for one in self._guests
        }
        able = [one for one in self._guests if one.left_s > 0]
        if not able:
            return None
        chances = np.array(
            [
                max(self._shares_s[one.name] - spent_s[one.name], 1.0) * (STAYS if one.name == last else 1.0)
                for one in able
            ]
        )
        return able[int(self._rng.choice(len(able), p=chances / chances.sum()))]

    def _interject(self, said: list[_Said], speaker: str) -> None:
        """Somebody else, in the midst of the last turn."""
        able = [one for one in self._guests if one.name != speaker and one.left_s > 0]
        if not able:
            return
        turn = said[-1]
        guest = able[int(self._rng.integers(len(able)))]
        piece = guest.interject()
        room = max(1, len(turn.stretch.samples) - len(piece.samples))
        at = turn.start + int(self._rng.integers(room // 4, room + 1 - room // 4))
        said.append(_Said(guest.name, at, piece))


def _recorded(rng: np.random.Generator, name: str, condition: str, said: Sequence[_Said]) -> Dialogue:
    """What a microphone hears of it."""
    length = max(one.start + len(one.stretch.samples) for one in said) + WHISPER_SAMPLE_RATE // 2
    samples = np.zeros(length, np.float32)
    turns: list[Turn] = []
    words: list[SpokenWord] = []
    for speaker, start, stretch in said:
        samples[start : start + len(stretch.samples)] += stretch.samples
        turns += [
            (speaker, (start + begin) / WHISPER_SAMPLE_RATE, (start + end) / WHISPER_SAMPLE_RATE)
            for begin, end in spoken(stretch.samples)
        ]
        words += [SpokenWord(speaker, word) for word in moved(stretch.words, start / WHISPER_SAMPLE_RATE)]
    samples *= np.float32(min(1.0, 0.95 / np.abs(samples).max()))
    if "noise" in condition:
        samples = mixed(samples, pink(rng, length), SNR_DB)
    if "telephone" in condition:
        samples = telephone_band(samples)
    turns.sort(key=lambda turn: turn[1])
    words.sort(key=lambda word: word.word.start_s)
    return Dialogue(name, condition, np.clip(samples, -1, 1), tuple(turns), tuple(words))
