"""Sounds at 16 kHz, in beats of 32 ms, and a network that takes what is loud for speech."""

import numpy as np

from transcriber.audio.vad.detector import FRAME_SAMPLES, State

BEAT = FRAME_SAMPLES
LOUD = 0.05


class LoudnessDetector:
    """A network to whom a frame is speech if its mean level is above ``LOUD``."""

    def new_state(self):
        return State(np.zeros((1, 1, 128), np.float32), np.zeros((1, 1, 128), np.float32))

    def __call__(self, rows, state):
        return (np.abs(rows[:, -BEAT:]).mean(axis=1) > LOUD).astype(np.float32), state


def speech(beats, seed=1):
    """Noise that is loud and less loud by turns, as syllables are: what is steady is no speech to the energy gate."""
    samples = np.random.default_rng(seed).uniform(-1, 1, beats * BEAT).astype(np.float32)
    return samples * np.where(np.arange(beats * BEAT) // (3 * BEAT) % 2, 0.3, 0.8).astype(np.float32)


def silence(beats):
    return np.zeros(beats * BEAT, np.float32)


def hiss(samples, level=0.1, seed=2):
    """Noise without any quiet place."""
    return np.random.default_rng(seed).uniform(-level, level, samples).astype(np.float32)


def joined(*pieces):
    return np.concatenate(pieces)
