"""Recordings and what is said in them: the bundled ones, or a user's own.

In: a folder. Out: mono samples at 16 kHz, with the truth. A folder holds WAV or FLAC files, each with its text beside it
(``a.flac``, ``a.txt``), or all of them in one ``transcripts.json`` like that of the bundled speech, which may tell the
times of sentences: ``[{"file": "a.wav", "text": "...", "sentences": [{"text": "...", "start": 0.3, "end": 2.4}]}]``.
A sentence, or a recording without sentences, may tell those of its words: ``"words": [{"word": "Gale", "start": 0.3,
"end": 0.57}]``.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from transcriber.audio.resampler import Resampler
from transcriber.engine.job import WHISPER_SAMPLE_RATE
from transcriber.testing import speech

Samples = NDArray[np.float32]
Entry = dict[str, Any]
"""A recording or a sentence in ``transcripts.json``."""

BUNDLED = Path(speech.__file__).parent / "speech"
"""Harbour radio, in synthetic voices."""

PEOPLE = Path(speech.__file__).parent / "public_speech"
"""President Kennedy, and a reader of LibriVox."""

PAUSE_S = 0.3
"""Seconds of a pause that stay on either side of what is said."""

SEED = 7


@dataclass(frozen=True, slots=True)
class Word:
    """As written, with its punctuation."""

    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Sentence:
    text: str
    start_s: float
    end_s: float
    words: tuple[Word, ...] | None = None


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording.

    Attributes:
        name: its file in the folder, without suffix.
        text: all that is said.
        samples: (n,) float32 at 16 kHz.
        sentences: in order; empty where their times are not known.
        words: in order; None where their times are not known.
    """

    name: str
    text: str
    samples: Samples
    sentences: tuple[Sentence, ...] = ()
    words: tuple[Word, ...] | None = None

    @property
    def duration_s(self) -> float:
        return len(self.samples) / WHISPER_SAMPLE_RATE

    def windows(self, duration_s: float) -> list[Samples]:
        """As the daemon cuts them, in the middle of a word if need be; the last one is shorter."""
        step = int(duration_s * WHISPER_SAMPLE_RATE)
        return [self.samples[at : at + step] for at in range(0, len(self.samples), step)]

    def clips(self, duration_s: float) -> list[tuple[str, Samples]]:
        """Whole sentences with their text, as many as fit; one that does not fit is left out.

        A short recording without times of sentences is one clip, a longer one has none.
        """
        if len(self.samples) <= duration_s * WHISPER_SAMPLE_RATE:
            return [(self.text, self.samples)]
        clips: list[tuple[str, float, float]] = []
        for sentence, (start_s, end_s) in zip(self.sentences, self._bounds(), strict=True):
            if clips and end_s - clips[-1][1] <= duration_s:
                text, first_s, _ = clips.pop()
                clips.append((f"{text} {sentence.text}", first_s, end_s))
            elif end_s - start_s <= duration_s:
                clips.append((sentence.text, start_s, end_s))
        return [(text, self.samples[_place(start_s) : _place(end_s)]) for text, start_s, end_s in clips]

    def sentence_clips(self) -> list[Samples]:
        """One a sentence, with a little of the pauses around it."""
        return [self.samples[_place(start_s) : _place(end_s)] for start_s, end_s in self._bounds()]

    def opening(self, duration_s: float) -> "Recording":
        """The sentences that end within ``duration_s`` of a longer recording, and the pause after them."""
        kept = tuple(sentence for sentence in self.sentences if sentence.end_s <= duration_s)
        if not kept or len(kept) == len(self.sentences):
            return self
        end_s = self.sentences[len(kept)].start_s
        return replace(
            self,
            text=" ".join(sentence.text for sentence in kept),
            samples=self.samples[: _place(end_s)],
            sentences=kept,
            words=None if self.words is None else tuple(word for word in self.words if word.end_s <= end_s),
        )

    def _bounds(self) -> list[tuple[float, float]]:
        """Where to cut around each sentence: in the middle of a short pause, a little into a long one."""
        starts = [sentence.start_s for sentence in self.sentences]
        ends = [sentence.end_s for sentence in self.sentences]
        middles = [(end + start) / 2 for end, start in zip(ends, starts[1:], strict=False)]
        limits = [0.0, *middles, self.duration_s]
        return [
            (max(limits[i], start - PAUSE_S), min(limits[i + 1], end + PAUSE_S))
            for i, (start, end) in enumerate(zip(starts, ends, strict=True))
        ]


def read_folder(folder: Path) -> list[Recording]:
    """All recordings of a folder, in the order of their names.

    Raises:
        SystemExit: there are none, or one has no text.
    """
    index = folder / "transcripts.json"
    if index.exists():
        return [_read_entry(folder, entry) for entry in json.loads(index.read_bytes())]
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in {".wav", ".flac"})
    if not paths:
        raise SystemExit(f"{folder}: neither transcripts.json nor WAV or FLAC files")
    without = [path for path in paths if not path.with_suffix(".txt").exists()]
    if without:
        raise SystemExit(f"{without[0]}: no text beside it in {without[0].with_suffix('.txt').name}")
    return [
        Recording(
            str(path.relative_to(folder).with_suffix("")),
            path.with_suffix(".txt").read_text(encoding="utf-8"),
            _read_audio(path),
        )
        for path in paths
    ]


def some_of(recordings: list[Recording], count: int) -> list[Recording]:
    """From all over the list."""
    return recordings[:: max(1, len(recordings) // count)][:count]


def with_noise(recording: Recording, below_db: float) -> Recording:
    """The same under white noise, ``below_db`` below its RMS; the same noise each time."""
    samples, rng = recording.samples, np.random.default_rng(SEED)
    level = np.sqrt(np.mean(np.square(samples))) * 10 ** (-below_db / 20)
    noise = rng.standard_normal(len(samples), np.float32) * np.float32(level)
    return replace(recording, samples=samples + noise)


def _read_entry(folder: Path, entry: Entry) -> Recording:
    names = [str(entry[key]) for key in ("flac", "file") if key in entry]
    path = next((folder / name for name in names if (folder / name).exists()), None)
    if path is None:
        raise SystemExit(f"{folder}: transcripts.json names {' and '.join(names) or 'no file'}, not to be found")
    sentences = tuple(Sentence(s["text"], s["start"], s["end"], _read_words(s)) for s in entry.get("sentences", ()))
    words = _read_words(entry)
    if words is None and sentences and all(sentence.words is not None for sentence in sentences):
        words = tuple(word for sentence in sentences for word in sentence.words or ())
    return Recording(path.stem, str(entry["text"]), _read_audio(path), sentences, words)


def _read_words(entry: Entry) -> tuple[Word, ...] | None:
    words = entry.get("words")
    return None if words is None else tuple(Word(w["word"], w["start"], w["end"]) for w in words)


def _read_audio(path: Path) -> Samples:
    audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    resampler = Resampler(rate)
    return resampler.flush(audio.mean(axis=1))


def _place(time_s: float) -> int:
    return round(time_s * WHISPER_SAMPLE_RATE)
