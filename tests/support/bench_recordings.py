"""Recordings and their transcripts, for the tests of the benches."""

import numpy as np

from bench.lib.paced import PAYLOAD_S
from bench.lib.playing import Came, Played
from bench.lib.recordings import Recording, Word
from bench.lib.words.alignment import Spoken

SECOND = 16_000
MESSAGE = {"stream": "played-0", "session": "s", "rate": SECOND, "received_at": "2026-01-01T00:00:00Z"}


def timed(text, start_s=0.0, step_s=0.5):
    """Words ``step_s`` apart, each without a pause to the next."""
    return [Spoken(word, start_s + i * step_s, start_s + (i + 1) * step_s) for i, word in enumerate(text.split())]


def recording(text, duration_s, start_s=0.0):
    words = tuple(Word(*word) for word in timed(text, start_s))
    return Recording("r", text, np.zeros(int(duration_s * SECOND), np.float32), words=words)


def played(one, *came, began_s=100.0):
    """As played in real time from ``began_s`` on."""
    published_s = [began_s + (n + 1) * PAYLOAD_S for n in range(round(one.duration_s / PAYLOAD_S))]
    return Played(one, "played-0", published_s, [Came(*message) for message in came])


def no_synthesiser(*_):
    raise OSError("libespeak-ng.so.1: cannot open shared object file")
