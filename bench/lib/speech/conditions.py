"""Recordings as they are, and worse copies of some: in noise, with music behind, as a telephone sends them.

In: corpora by name. Out: the same, and the copies of the first, each named after its condition.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from bench.lib.playing import LINEAR, TELEPHONE, Wire
from bench.lib.recordings import SEED, Recording
from bench.lib.speech.noise import ALL_KINDS, mixed
from transcriber.models.catalog import DEMO

DEMO_CONDITIONS = {"white_15_db": ("white", 15.0), "babble_20_db": ("babble", 20.0)}
"""At 10 dB of babble the demo model has 59 % of the words wrong: too many to see the cuts."""

CONDITIONS = DEMO_CONDITIONS | {
    "babble_10_db": ("babble", 10.0),
    "music_15_db": ("music", 15.0),
    "music_10_db": ("music", 10.0),
}
EVERY_OTHER, EVERY_FOURTH = 2, 4
"""Recordings of which there are copies."""


class Corpus(NamedTuple):
    """Recordings and how they are sent; ``clean`` is the corpus of which this is a worse copy."""

    recordings: list[Recording]
    wire: Wire = LINEAR
    clean: str | None = None


def conditions_of(model: str) -> tuple[Mapping[str, tuple[str, float]], int]:
    """And of which of the recordings there are copies in them."""
    return (DEMO_CONDITIONS, EVERY_OTHER) if model == DEMO else (CONDITIONS, EVERY_FOURTH)


def in_conditions(
    spoken: dict[str, list[Recording]], conditions: Mapping[str, tuple[str, float]], every: int, skipped: list[str]
) -> dict[str, Corpus]:
    """Everything clean, and some of the first corpus in each of the conditions and over a telephone."""
    corpora = {name: Corpus(recordings) for name, recordings in spoken.items()}
    name, recordings = next(iter(spoken.items()))
    for condition, (kind, snr_db) in conditions.items():
        try:
            noisy = [in_noise(one, kind, snr_db, number) for number, one in enumerate(recordings[::every])]
        except OSError as error:
            skipped.append(f"{condition}: {error}; install espeak-ng and flite")
            continue
        corpora[f"{name}_{condition}"] = Corpus(noisy, clean=name)
    return corpora | {f"{name}_telephone": Corpus(recordings[::every], TELEPHONE, name)}


def in_noise(recording: Recording, kind: str, snr_db: float, number: int) -> Recording:
    """The same noise each time, for each ``number`` another one."""
    noise = ALL_KINDS[kind](np.random.default_rng([SEED, number]), len(recording.samples))
    return replace(recording, samples=mixed(recording.samples, noise, snr_db))
