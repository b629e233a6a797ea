"""Clips of the bundled speech. Out: files of several lengths, in several containers."""

from dataclasses import dataclass

import numpy as np
import soxr

from bench.lib.media_files import KINDS, encode
from bench.lib.recordings import Samples
from transcriber.audio.resampler import TARGET_SAMPLE_RATE
from transcriber.testing.speech import SPEECH_FORMAT, load_speech

SECONDS = (2, 5, 25)


@dataclass(frozen=True, slots=True, eq=False)
class ClipFile:
    """A clip as it is sent; ``samples`` are what whisper is to get."""

    name: str
    seconds: int
    data: bytes
    samples: Samples


def make_clips() -> list[ClipFile]:
    """Speech of each length in each container."""
    speech = np.frombuffer(b"".join(recording.pcm for recording in load_speech()), "<i2")
    clips = []
    for seconds in SECONDS:
        at_48k = speech[: seconds * SPEECH_FORMAT.rate]
        samples = soxr.resample(at_48k / np.float32(2**15), SPEECH_FORMAT.rate, TARGET_SAMPLE_RATE).astype(np.float32)
        at_16k = (samples.clip(-1, 1) * 32767).astype(np.int16)
        files = {
            "wav16": encode(KINDS["wav s16"], at_16k[:, np.newaxis], TARGET_SAMPLE_RATE),
            "wav48": encode(KINDS["wav s16"], at_48k[:, np.newaxis], SPEECH_FORMAT.rate),
            "opus": encode(KINDS["ogg opus"], at_48k[:, np.newaxis], SPEECH_FORMAT.rate),
        }
        clips += [ClipFile(f"{seconds} s {kind}", seconds, data, samples) for kind, data in files.items()]
    return clips
