"""Words where nobody speaks to us: silence, noise, babble, hum, tones, music, applause, laughter, breath and dialled digits, at
many levels, made here and the same each time.

Out: by kind, words an hour of audio, and the share of it that came as ``silence``, kept from whisper. As a part of ``bench.words`` it
is minutes through the daemon; by itself it is hours of each kind, without a broker and as fast as the machine can: cut, gated,
asked and judged by the daemon's own pieces with its default settings. Without the gate whisper transcribes all of it, which takes time: so
less of each kind is transcribed, and words an hour are scaled.
"""

from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from bench.lib.offline import Offline
from bench.lib.playing import LINEAR, Played, Player
from bench.lib.recordings import SEED, Recording, Samples
from bench.lib.report import Results, note, run
from bench.lib.speech.noise import ALL_KINDS, WITHOUT_SPEECH, at_level
from bench.lib.windows import windows_of
from bench.lib.words.scoring import heard_in, percent
from transcriber.audio.session import Window
from transcriber.audio.vad.silero import Silero
from transcriber.config import load_settings
from transcriber.engine.job import WHISPER_SAMPLE_RATE
from transcriber.engine.whisper.model import load_model
from transcriber.models.catalog import model_name
from transcriber.models.find import find_named_model
from transcriber.testing.wer import words

NOISES = ("white", "pink", "babble", "hum", "tones", *WITHOUT_SPEECH)
SILENCE = "silence"
LEVELS_DB = (-60, -50, -40, -30, -20, -12)
"""dBFS, one after the other."""

STRETCH_S = 10.0
"""Seconds of one level."""


QUICK_MINUTES = 0.2
TEXTS_KEPT = 5
"""Texts of each kind that are kept in the results."""


def add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--models", default="tiny.en", metavar="NAME,...", help="ggml files, or names such as base.en")
    parser.add_argument("--language", default="en", metavar="CODE")
    parser.add_argument(
        "--kinds", default=",".join((SILENCE, *NOISES)), metavar="NAME,...", help="default: %(default)s"
    )
    parser.add_argument("--minutes", type=float, default=60.0, metavar="X", help="of each kind; default: %(default)s")
    parser.add_argument(
        "--ungated-minutes",
        type=float,
        default=2.0,
        metavar="X",
        help="of each kind without the gate; default: %(default)s",
    )
    parser.add_argument("--threads", type=int, default=2, metavar="N")


def measure(
    quick: bool, models: str, language: str, kinds: str, minutes: float, ungated_minutes: float, threads: int
) -> Results:
    skipped: list[str] = []
    paths = [find_named_model(load_settings(), name) for name in models.split(",")]
    ears = {model_name(path): load_model(path, load_settings(whisper_threads=threads)) for path in paths}
    results: Results = {"threads": threads, "levels_db": LEVELS_DB, "skipped": skipped}
    for name, gate, length in (("gate_on", True, minutes), ("gate_off", False, ungated_minutes)):
        settings, some_s = load_settings(speech_gate=gate), 60 * (QUICK_MINUTES if quick else length)
        results[name] = {model: {} for model in ears}
        for sound in each_sound(some_s, skipped if gate else [], kinds.split(",")) if some_s else ():
            # Which windows whisper is asked for does not depend on what it says.
            windows = [window for window, _ in windows_of(sound, settings, Silero())]
            note(f"false text: {name}: of {some_s / 60:g} minutes of {sound.name} {len(windows)} windows are heard")
            for model, ear in ears.items():
                results[name][model][sound.name] = transcribed(sound, windows, Offline(ear, settings, language))
    return results


def transcribed(sound: Recording, windows: Sequence[Window], session: Offline) -> Results:
    """What is published of a session with nothing but ``sound``; all but ``windows`` of it is ``silence``."""
    held, texts = Counter[str](), list[str]()
    for window in windows:
        _, answer = session.ask(window)
        held[answer.suppressed or ""] += 1
        texts.append(session.follow(window, answer).text)
    heard_s = sum(window.frames for window in windows) / WHISPER_SAMPLE_RATE
    count = sum(len(words(text)) for text in texts)
    return {
        "minutes": round(sound.duration_s / 60, 2),
        "windows_heard": len(windows),
        "silence_percent": percent(sound.duration_s - heard_s, sound.duration_s),
        "words": count,
        "words_per_hour": round(3600 * count / sound.duration_s, 1),
        "windows_with_words": sum(bool(words(text)) for text in texts),
        "windows_with_text": sum(bool(text) for text in texts),
        "held_back": {reason: number for reason, number in held.items() if reason},
        "texts": [text for text in texts if text][:TEXTS_KEPT],
    }


def sounds(seconds: float, skipped: list[str]) -> list[Recording]:
    """So many seconds of each kind; babble is left out where there are no synthesisers."""
    return list(each_sound(seconds, skipped))


def each_sound(seconds: float, skipped: list[str], kinds: Sequence[str] = (SILENCE, *NOISES)) -> Iterator[Recording]:
    """The same, one after the other: an hour takes a quarter of a gigabyte."""
    for kind in kinds:
        if kind == SILENCE:
            yield Recording(SILENCE, "", np.zeros(int(seconds * WHISPER_SAMPLE_RATE), np.float32))
        elif kind not in NOISES:
            raise SystemExit(f"{kind} is no kind of sound: {', '.join((SILENCE, *NOISES))}")
        else:
            try:
                sound = _levels(kind, seconds)
            except OSError as error:
                skipped.append(f"{kind}: {error}; install espeak-ng and flite")
                continue
            yield Recording(kind, "", sound)


async def false_text(player: Player, recordings: list[Recording], speed: float, at_once: int) -> Results:
    """By kind, and of all that is no speech at all, as babble is."""
    _, played = await player.play_without_loss(recordings, LINEAR, speed, at_once)
    without_babble = [one for one in played if one.recording.name != "babble"]
    return {one.recording.name: figures([one]) for one in played} | {"all_but_babble": figures(without_babble)}


def figures(played: list[Played]) -> Results:
    hours = sum(one.recording.duration_s for one in played) / 3600
    heard = sum(len(heard_in(one).words) for one in played)
    silent = sum(one.end.silent_frames for one in played)
    return {
        "minutes": round(60 * hours, 2),
        "words": heard,
        "words_per_hour": round(heard / hours, 1),
        "windows_with_words": sum(bool(final.text) for one in played for _, final in one.finals),
        "silence_percent": percent(silent, sum(one.end.received_frames for one in played)),
    }


def _levels(kind: str, seconds: float) -> Samples:
    """Each stretch is drawn independently."""
    rng, size = np.random.default_rng(SEED), int(STRETCH_S * WHISPER_SAMPLE_RATE)
    stretches = int(np.ceil(seconds / STRETCH_S))
    levels_db = np.resize(LEVELS_DB, stretches).tolist()
    sound = [at_level(ALL_KINDS[kind](rng, size), level_db) for level_db in levels_db]
    return np.concatenate(sound)[: int(seconds * WHISPER_SAMPLE_RATE)]


if __name__ == "__main__":
    run("false_text", measure, add_options)
