"""Which language is spoken: how soon it is known, how soon a change is found, and how often one is found where there is none.

In: a multilingual model, and texts of our own in five languages in espeak-ng's voices, which are harder to tell than people are;
long English in a natural voice where that is installed. All as the daemon transcribes a stream with its defaults, offline. Out, by
language: in which windows that end by so many seconds are heard, when it was sure, and how many encoder runs that took; how
many windows a change took; changes without a cause by hours of speech; what 40 s of noise before speech do, behind the detector of
speech and without it; and how many of the words of the English original are in a translation.
"""

import argparse
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count, pairwise
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from bench.lib.offline import Offline
from bench.lib.report import Results, note, run
from bench.lib.speech.noise import pink
from bench.lib.speech.spoken_languages import SENTENCES, VARIANTS, Reader
from transcriber.audio.format import AudioFormat, SampleFormat
from transcriber.audio.session import Session, Window
from transcriber.audio.vad.detector import Network
from transcriber.audio.vad.silero import Silero
from transcriber.config import Settings, load_settings
from transcriber.engine.job import WHISPER_SAMPLE_RATE, MultilingualModel
from transcriber.engine.language_evidence import LanguageProbabilities
from transcriber.engine.whisper.model import load_model
from transcriber.models.find import find_named_model

Samples = NDArray[np.float32]

FORMAT = AudioFormat(SampleFormat.F32LE, WHISPER_SAMPLE_RATE, 1)
BLOCK = WHISPER_SAMPLE_RATE // 10
SEED = 7
AFTER_S = (5, 10, 20, 30)
CHANGES = (("de", "en"), ("en", "fr"), ("fr", "de"), ("en", "es"), ("es", "ru"))
BEFORE_S, CHANGED_S = 30.0, 45.0
NOISE_S, NOISE_RMS = 40.0, 0.05
TRANSLATED = ("de", "fr")


class Heard(NamedTuple):
    """One window, in seconds of the stream, and what was known after it."""

    start_s: float
    end_s: float
    text: str
    language: str | None
    known: str | None
    sure: bool


class Hear(Protocol):
    """``hear_stream`` of a model."""

    def __call__(self, samples: Samples, *, translate: bool = False) -> list[Heard]: ...


@dataclass
class Counting:
    """A model, and how often it was asked for the language."""

    model: MultilingualModel
    detections: int = field(default=0)

    def __post_init__(self) -> None:
        self.name, self.tight, self.translates = self.model.name, self.model.tight, self.model.translates
        self.supports, self.transcribe, self.close = self.model.supports, self.model.transcribe, self.model.close

    def detect(self, samples: Samples, should_abort: Callable[[], bool]) -> LanguageProbabilities:
        self.detections += 1
        return self.model.detect(samples, should_abort)


def measure(quick: bool, model: str, minutes: float, parts: str, threads: int) -> Results:
    reader, settings = Reader(), load_settings()
    ears = Counting(load_model(find_named_model(settings, model), load_settings(whisper_threads=threads)))
    hear = partial(hear_stream, ears, settings, Silero())
    wanted = parts.split(",")
    voices = VARIANTS[:1] if quick else VARIANTS
    results: Results = {"model": model, "threads": threads}
    if "known" in wanted:
        results["known"] = {language: known(hear, ears, reader, language, voices) for language in SENTENCES}
    if "changes" in wanted:
        results["changes"] = [change(hear, reader, *pair, voice) for pair in CHANGES for voice in voices]
    if "false" in wanted:
        results["false"] = false_changes(hear, ears, reader, 1.0 if quick else minutes)
    if "noise" in wanted:
        ungated = load_settings(speech_gate=False, endpoint_silence_secs=0)
        results["noise"] = {
            "behind the detector": noise_first(hear, reader),
            "without it": noise_first(partial(hear_stream, ears, ungated, None), reader),
        }
    if "translations" in wanted:
        results["translations"] = {language: translation(hear, reader, language) for language in TRANSLATED}
    return results


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="base")
    parser.add_argument("--minutes", type=float, default=30.0, help="of speech in one language, for false changes")
    parser.add_argument("--parts", default="known,changes,false,noise,translations", help="which to measure")
    parser.add_argument("--threads", type=int, default=load_settings().threads)


def hear_stream(
    model: MultilingualModel, settings: Settings, network: Network | None, samples: Samples, *, translate: bool = False
) -> list[Heard]:
    """A live stream that is transcribed whole."""
    offline, found = Offline(model, settings, None, translate=translate), []
    for window in windows(samples, settings, network):
        own = offline.hear(window)
        start_s = window.start_frame / WHISPER_SAMPLE_RATE
        known = offline.spoken
        found.append(
            Heard(
                start_s, start_s + window.frames / WHISPER_SAMPLE_RATE, own.text, own.language, known.language, known.sure,
            )
        )  # fmt: skip
    return found


def windows(samples: Samples, settings: Settings, network: Network | None) -> Iterator[Window]:
    """Those with speech."""
    session = Session("bench", FORMAT, settings.window_policy, network, max_hole_s=1.0)
    for at in range(0, len(samples), BLOCK):
        yield from _windows(session.feed(samples[at : at + BLOCK].astype("<f4").tobytes()))
    yield from _windows(session.close())


def _windows(events: Iterable[object]) -> Iterator[Window]:
    return (event for event in events if isinstance(event, Window))


def known(hear: Hear, ears: Counting, reader: Reader, language: str, voices: Sequence[str]) -> Results:
    """By voice, in turn: of windows that end by so many seconds, and after the ones before, for how many the right language is detected."""
    right = {after_s: [0, 0] for after_s in AFTER_S}
    sure_s: list[float | None] = []
    detections, heard_windows, asked = 0, 0, ears.detections
    sures: list[str | None] = []
    for voice in voices:
        note(f"languages: {language}{voice}")
        heard = hear(reader.talk(language, float(max(AFTER_S)), (voice,)))
        for before_s, after_s in pairwise((0, *AFTER_S)):
            some = [one for one in heard if before_s < one.end_s <= after_s]
            right[after_s][0] += sum(one.language == language for one in some)
            right[after_s][1] += len(some)
        sure = next((one for one in heard if one.sure), None)
        sure_s.append(round(sure.end_s, 1) if sure else None)
        sures.append(heard[-1].known if heard else None)
        heard_windows += len(heard)
    detections = ears.detections - asked
    return {
        "right_by_s": {after_s: f"{good} of {of}" for after_s, (good, of) in right.items()},
        "sure_after_s": sure_s,
        "known_in_the_end": sures,
        "detections": f"{detections} in {heard_windows} windows",
    }


def change(hear: Hear, reader: Reader, before: str, after: str, voice: str) -> Results:
    """How many windows it takes until another language is known, and which come in between."""
    note(f"languages: from {before} to {after}{voice}")
    first = reader.talk(before, BEFORE_S, (voice,))
    heard = hear(np.concatenate((first, reader.talk(after, CHANGED_S, (voice,)))))
    changed_s = len(first) / WHISPER_SAMPLE_RATE
    later = [one for one in heard if one.end_s > changed_s + 0.5]
    took = next((number for number, one in zip(count(1), later) if one.known == after), None)
    return {
        "from": before + voice, "to": after + voice, "windows": took,
        "seconds": None if took is None else round(later[took - 1].end_s - changed_s, 1),
        "known_before": [one.known for one in heard if one not in later][-1:], "known_after": [one.known for one in later],
    }  # fmt: skip


def false_changes(hear: Hear, ears: Counting, reader: Reader, minutes: float) -> Results:
    """In speech of one language each, of as many minutes together."""
    found: Results = {}
    changes, speech_s, asked, heard_windows = 0, 0.0, ears.detections, 0
    for language in SENTENCES:
        note(f"languages: {minutes / len(SENTENCES):.1f} minutes of {language}")
        heard = hear(reader.talk(language, 60 * minutes / len(SENTENCES)))
        ways = [(one.known, other.known) for one, other in pairwise(heard) if one.sure and one.known != other.known]
        found[language] = [f"{one} to {other}" for one, other in ways]
        changes += sum(one == language for one, _ in ways)
        speech_s += heard[-1].end_s if heard else 0.0
        heard_windows += len(heard)
    return {
        "minutes": round(speech_s / 60, 1), "false_changes": changes, "an_hour": round(3600 * changes / speech_s, 1),
        "all_changes": found, "detections": f"{ears.detections - asked} in {heard_windows} windows",
    }  # fmt: skip


def noise_first(hear: Hear, reader: Reader) -> Results:
    """Noise, and then German."""
    note("languages: noise first")
    noise = np.float32(NOISE_RMS) * pink(np.random.default_rng(SEED), round(NOISE_S * WHISPER_SAMPLE_RATE))
    heard = hear(np.concatenate((noise, reader.talk("de", 20.0, ("",)))))
    return {
        "known_in_noise": [one.known for one in heard if one.end_s <= NOISE_S],
        "known_after": [one.known for one in heard if one.end_s > NOISE_S],
    }


def translation(hear: Hear, reader: Reader, language: str) -> Results:
    """Into English: how many of the longer words of the original are in it."""
    note(f"languages: translation of {language}")
    text = " ".join(one.text for one in hear(reader.talk(language, 30.0, ("",)), translate=True))
    original = " ".join(SENTENCES["en"][: len(SENTENCES["en"]) // 2])
    words, said = (set(re.findall(r"[a-z]{4,}", one.lower())) for one in (original, text))
    return {"words_found": f"{len(words & said)} of {len(words)}", "text": text}


if __name__ == "__main__":
    run("languages", measure, add_options)
