"""The text of a device beside that of the processor. In: recordings with what is said in them. Out: which texts differ, and the word
errors of both."""

import time
from collections.abc import Sequence
from pathlib import Path

from bench.lib.gpu.pools import Pool, Way
from bench.lib.recordings import Recording, Samples
from bench.lib.report import Results, quantiles
from transcriber.testing.wer import word_errors, words

CLIP_S = 12.0
SHOWN = 3


def clips_of(recordings: Sequence[Recording]) -> list[tuple[str, Samples]]:
    """Whole sentences, with their truth."""
    return [clip for one in recordings for clip in one.clips(CLIP_S)]


def compare_text(model: Path, device: str, clips: Sequence[tuple[str, Samples]], cpu_threads: int) -> Results:
    """Each clip on the device and on the processor."""
    samples = [clip for _, clip in clips]
    with Pool(model, Way(device), samples) as one, Pool(model, Way("cpu", threads=cpu_threads), samples) as other:
        heard = [(one.ask(number)[1], other.ask(number)[1]) for number in range(len(clips))]
    said = sum(len(words(text)) for text, _ in clips)
    errors = [
        sum(word_errors(text, pair[which]) for (text, _), pair in zip(clips, heard, strict=True)) for which in (0, 1)
    ]
    different = [pair for pair in heard if pair[0] != pair[1]]
    return {
        "clips": len(clips),
        "equal": len(clips) - len(different),
        "words": said,
        "wrong_percent": {"device": _percent(errors[0], said), "cpu": _percent(errors[1], said)},
        "different": [{"device": ours, "cpu": theirs} for ours, theirs in different[:SHOWN]],
    }


def one_shot(model: Path, device: str, windows: Sequence[Samples], rounds: int, seconds: float) -> Results:
    """A window at a time, to one worker that has nothing else to do: ``rounds`` of them, or as many as ``seconds`` allow."""
    times_ms: list[float] = []
    with Pool(model, Way(device), windows) as pool:
        until_s = time.monotonic() + seconds
        while len(times_ms) < rounds and (not times_ms or time.monotonic() < until_s):
            times_ms.append(pool.ask(len(times_ms) % len(windows))[0])
    return {"windows": len(times_ms), "processing_ms": quantiles(times_ms, p50=0.5, p95=0.95, worst=1.0)}


def _percent(errors: int, said: int) -> float:
    return round(100 * errors / said, 2)
