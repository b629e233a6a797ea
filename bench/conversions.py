"""Do converted models say what their originals say? CTranslate2 folders beside the files that are made of them.

In: folders of faster-whisper models in float16 or float32, and recordings (WAV, FLAC, or raw 16-bit samples at 16 kHz).
Windows of 5 s at equal distances in all of them go, as one spectrogram, to CTranslate2 (float32) and to whisper.cpp; both
take the likeliest token each time, under no rule but that a text does not begin with a blank or its end.

Out: how many texts are equal, every one that is not, the greatest difference of the first token's logits, and the
seconds of the conversion. Needs ``ctranslate2`` and ``tokenizers`` of the group ``bench``.
"""

import time
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import soundfile

from bench.lib.recordings import BUNDLED, Samples
from bench.lib.report import Results, note, run
from transcriber.audio.resampler import Resampler
from transcriber.engine.job import WHISPER_SAMPLE_RATE
from transcriber.engine.whisper.mel import LogMel
from transcriber.engine.whisper.raw_model import Logits, RawModel
from transcriber.models.conversion.convert import convert_folder
from transcriber.models.conversion.quantize import KINDS
from transcriber.models.ggml import check_model_file, read_mel_filters

WINDOW_S, FRAMES = 5, 3000
WINDOWS, QUICK_WINDOWS = 100, 6
MAX_TOKENS = 100
SUPPRESSED = -1e30
"""CTranslate2 hands out the least number that there is for what may not be said."""

SUFFIXES = {".wav", ".flac", ".raw"}


@dataclass(frozen=True, slots=True)
class Tokens:
    """What both are asked with.

    Attributes:
        end: of text.
        prompt: begins a text, in English, without times.
        blank: a space alone.
    """

    end: int
    prompt: tuple[int, ...]
    blank: int
    text: Any

    @classmethod
    def of(cls, folder: Path, *, multilingual: bool) -> "Tokens":
        from tokenizers import Tokenizer  # noqa: PLC0415 - of the bench group

        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        names = ["<|startoftranscript|>"]
        names += ["<|en|>", "<|transcribe|>"] if multilingual else []
        prompt = tuple(tokenizer.token_to_id(name) for name in (*names, "<|notimestamps|>"))
        return cls(tokenizer.token_to_id("<|endoftext|>"), prompt, 220, tokenizer)


def conversions(*, quick: bool, models: Sequence[Path], corpus: Path, kind: str) -> Results:
    windows = cut(corpus, QUICK_WINDOWS if quick else WINDOWS)
    return {folder.name: compared(folder, windows, kind) for folder in models}


def cut(corpus: Path, count: int) -> list[Samples]:
    """Windows at equal distances in all recordings, one after the other."""
    files = sorted(path for path in corpus.rglob("*") if path.suffix in SUFFIXES and path.stat().st_size > 1000)
    audio = np.concatenate([read(path) for path in files])
    size = WINDOW_S * WHISPER_SAMPLE_RATE
    starts = np.linspace(0, len(audio) - size, count).astype(int)
    note(f"{len(files)} recordings, {len(audio) / WHISPER_SAMPLE_RATE:.0f} s, {count} windows")
    return [audio[start : start + size] for start in starts]


def read(path: Path) -> Samples:
    """(n,) float32 at 16 kHz, the first channel."""
    if path.suffix == ".raw":
        return np.fromfile(path, "<i2").astype(np.float32) / np.float32(32_768)
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    resampler = Resampler(rate)
    return np.concatenate([resampler.push(samples[:, 0]), resampler.flush()])


def compared(folder: Path, windows: list[Samples], kind: str) -> Results:
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "ggml-converted.bin"
        started_s = time.perf_counter()
        convert_folder(folder, path, KINDS[kind])
        took_s = time.perf_counter() - started_s
        shape = check_model_file(path)
        mel = LogMel(read_mel_filters(path, shape))
        tokens = Tokens.of(folder, multilingual=shape.multilingual)
        ours, theirs = RawModel(path, flash_attention=False), Original(folder, tokens)
        different, gaps = [], []
        for number, window in enumerate(windows):
            spectrogram = mel(window, FRAMES)
            expected, their_logits = theirs.say(spectrogram)
            said, our_logits = greedy(ours, spectrogram, tokens)
            free = their_logits > SUPPRESSED
            gaps.append(float(np.abs(our_logits - their_logits)[free].max()))
            if said != expected:
                texts = {"original": tokens.text.decode(expected), "converted": tokens.text.decode(said)}
                different.append({"window": number, **texts})
                note(f"{folder.name}: window {number}: {texts}")
        ours.close()
        return {
            "type": kind,
            "windows": len(windows),
            "equal": len(windows) - len(different),
            "different": different,
            "logits_max_difference": round(max(gaps), 4),
            "logits_median_difference": round(float(np.median(gaps)), 4),
            "convert_s": round(took_s, 2),
            "file_mb": round(path.stat().st_size / 1e6, 1),
        }


def greedy(decoder: RawModel, spectrogram: Samples, tokens: Tokens) -> tuple[list[int], Logits]:
    """The text's tokens, and the logits of the first of them."""
    decoder.encode(spectrogram)
    said: list[int] = []
    first = logits = decoder.logits(tokens.prompt)
    while len(said) < MAX_TOKENS:
        if not said:
            logits = logits.copy()
            logits[[tokens.blank, tokens.end]] = -np.inf
        token = int(np.argmax(logits))
        if token == tokens.end:
            break
        said.append(token)
        logits = decoder.logits([token], len(tokens.prompt) + len(said) - 1)
    return said, first


class Original:
    """The folder itself, in CTranslate2."""

    def __init__(self, folder: Path, tokens: Tokens) -> None:
        import ctranslate2  # noqa: PLC0415 - of the bench group

        self._storage = ctranslate2.StorageView
        self._model = ctranslate2.models.Whisper(str(folder), device="cpu", compute_type="float32", intra_threads=1)
        self._tokens = tokens

    def say(self, spectrogram: Samples) -> tuple[list[int], Logits]:
        (answer,) = self._model.generate(
            self._storage.from_array(np.ascontiguousarray(spectrogram[np.newaxis], np.float32)),
            [list(self._tokens.prompt)],
            beam_size=1,
            max_length=MAX_TOKENS + len(self._tokens.prompt),
            suppress_blank=True,
            suppress_tokens=[],
            return_logits_vocab=True,
        )
        first = np.array(answer.logits[0][0], np.float32).reshape(-1)
        return list(answer.sequences_ids[0]), first


def options(parser: ArgumentParser) -> None:
    parser.add_argument("models", nargs="+", type=Path, metavar="FOLDER", help="CTranslate2 folders")
    parser.add_argument("--corpus", type=Path, default=BUNDLED, metavar="DIR", help="recordings; default: the bundled")
    parser.add_argument("--kind", choices=tuple(KINDS), default="f16", help="of the converted weights (f16)")


if __name__ == "__main__":
    run("conversions", conversions, options)
