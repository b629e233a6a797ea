"""What voices said, one after the other with pauses between, as recordings that ``bench.lib.recordings`` reads.

In: sentences with the times of their words. Out: a folder of WAV files with ``transcripts.json``.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray

from bench.demo_model.corpus import Utterance
from bench.lib.recordings import Entry
from transcriber.engine.job import WHISPER_SAMPLE_RATE


class Take(NamedTuple):
    """A recording: (n,) int16 at 16 kHz, and its sentences as ``transcripts.json`` has them."""

    samples: NDArray[np.int16]
    sentences: list[Entry]


class Part(NamedTuple):
    """A sentence, and the samples of silence before it."""

    pause: int
    said: Utterance

    @property
    def samples(self) -> int:
        return self.pause + len(self.said.audio)


def joined(parts: Iterable[Part], pause_after: int = 0) -> Take:
    pieces: list[NDArray[np.int16]] = []
    sentences: list[Entry] = []
    at = 0
    for part in parts:
        said = part.said
        start_s = (at + part.pause) / WHISPER_SAMPLE_RATE
        at += part.samples
        pieces += [np.zeros(part.pause, np.int16), said.audio]
        times = zip(said.words, said.starts.tolist(), said.ends.tolist(), strict=True)
        sentences.append(
            {"text": " ".join(said.words)}
            | _times(start_s, at / WHISPER_SAMPLE_RATE)
            | {"words": [{"word": word} | _times(start_s + start, start_s + end) for word, start, end in times]}
        )
    return Take(np.concatenate([*pieces, np.zeros(pause_after, np.int16)]), sentences)


def write(folder: Path, takes: Mapping[str, Take]) -> None:
    """A new folder with all of them."""
    folder.mkdir()
    entries: list[Entry] = []
    for name, take in takes.items():
        soundfile.write(folder / f"{name}.wav", take.samples, WHISPER_SAMPLE_RATE)
        text = " ".join(sentence["text"] for sentence in take.sentences)
        entries.append({"file": f"{name}.wav", "text": text, "sentences": take.sentences})
    (folder / "transcripts.json").write_text(json.dumps(entries, indent=1))


def _times(start_s: float, end_s: float) -> Entry:
    return {"start": round(start_s, 3), "end": round(end_s, 3)}
