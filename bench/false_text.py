"""Words where nobody speaks to us, through the daemon: minutes of silence, noise, babble, hum, tones, music, applause,
laughter, breath and dialled digits, at many levels.

Out: by kind, words an hour of audio, and the share of it that came as ``silence``, kept from whisper.
"""

import numpy as np

from bench.noise import ALL_KINDS, WITHOUT_SPEECH, at_level
from bench.playing import LINEAR, Played, Player
from bench.recordings import SEED, Recording, Samples
from bench.report import Results
from bench.scoring import heard_in, percent
from transcriber.engine.job import WHISPER_SAMPLE_RATE

NOISES = ("white", "pink", "babble", "hum", "tones", *WITHOUT_SPEECH)
SILENCE = "silence"
LEVELS_DB = (-60, -50, -40, -30, -20, -12)
"""dBFS, one after the other."""

STRETCH_S = 10.0
"""Seconds of one level."""


def sounds(seconds: float, skipped: list[str]) -> list[Recording]:
    """So many seconds of each kind; babble is left out where there are no synthesisers."""
    out = [Recording(SILENCE, "", np.zeros(int(seconds * WHISPER_SAMPLE_RATE), np.float32))]
    for kind in NOISES:
        try:
            out.append(Recording(kind, "", _levels(kind, seconds)))
        except OSError as error:
            skipped.append(f"{kind}: {error}; install espeak-ng and flite")
    return out


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
    """Each stretch is drawn anew."""
    rng, size = np.random.default_rng(SEED), int(STRETCH_S * WHISPER_SAMPLE_RATE)
    stretches = int(np.ceil(seconds / STRETCH_S))
    levels_db = np.resize(LEVELS_DB, stretches).tolist()
    sound = [at_level(ALL_KINDS[kind](rng, size), level_db) for level_db in levels_db]
    return np.concatenate(sound)[: int(seconds * WHISPER_SAMPLE_RATE)]
