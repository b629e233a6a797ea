"""Makes ``transcriber/diarization/mean_voice.f32``: what all voices have in common in the vectors of the network that hears them.

In: twelve synthetic voices of ``bench.lib.voices.cast``, those of flite and espeak-ng (Debian's libflite1, libespeak-ng1 and espeak-ng-data), and
a folder. Out: the file, and its checksum. When it is subtracted, one threshold fits clean speech, noise and the telephone.
"""

import hashlib
from argparse import ArgumentParser
from pathlib import Path

import numpy as np

from bench.lib.report import Results, run
from bench.lib.speech.noise import mixed, pink
from bench.lib.voices.cast import Voice, espeak_speaks, flite_speaks, synthetic
from bench.lib.voices.dialogues import SNR_DB, telephone_band
from transcriber.diarization.networks import VoiceNetworks
from transcriber.engine.job import WHISPER_SAMPLE_RATE

LEAST_S, MOST_S = 1.5, 4.0
"""Of a stretch of speech, and how much of it is heard."""

STRETCHES, QUICK_STRETCHES = 12, 2
"""Of each voice, each of them heard clean, in noise, and both over a telephone."""

SEED = 7


def add_options(parser: ArgumentParser) -> None:
    parser.add_argument("folder", type=Path)


def measure(quick: bool, folder: Path) -> Results:
    voices = [
        *synthetic("synthesiser", "flite", flite_speaks),
        *synthetic("synthesiser", "espeak", espeak_speaks),
    ]
    networks = VoiceNetworks()
    means = [mean(networks, voice, QUICK_STRETCHES if quick else STRETCHES) for voice in voices]
    content = np.mean(means, axis=0).astype("<f4").tobytes()
    (folder / "mean_voice.f32").write_bytes(content)
    return {"voices": len(voices), "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def mean(networks: VoiceNetworks, voice: Voice, stretches: int) -> np.ndarray:
    """What the network hears of one voice, in the mean of so many stretches: (192,) float32."""
    said = [one.samples[: round(MOST_S * WHISPER_SAMPLE_RATE)] for one in voice.stretches if one.duration_s >= LEAST_S]
    rng = np.random.default_rng(SEED)
    heard = []
    for samples in said[:stretches]:
        noisy = mixed(samples, pink(rng, len(samples)), SNR_DB)
        heard += [networks.heard(one) for one in (samples, noisy, telephone_band(samples), telephone_band(noisy))]
    both: np.ndarray = np.mean(heard, axis=0)
    return both


if __name__ == "__main__":
    run("mean_voice", measure, add_options)
