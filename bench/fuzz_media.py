"""Broken files, thousands of them: does the decoder crash, hang or keep memory?

In: one short file of each kind, and a seed. Each is mutated (bits, cuts, splices of two files, one behind the other, extreme numbers in headers, garbage),
opened and decoded to its end in a child process. Out: how many were decoded or refused and with which errors, the longest time one
took, the child's memory before and after, and every crash, hang or error that is not one line of ours, with what is needed to repeat it.
"""

import argparse
import multiprocessing
import random
import resource
import time
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from bench.lib.media_files import KINDS, encode, resampled
from bench.lib.report import Results, note, run
from transcriber.audio.media.open import open_media
from transcriber.errors import BadInputError
from transcriber.testing.speech import load_speech

LIMIT_S = 20.0
"""For one file; it is then called a hang."""
MAX_AUDIO_S = 3600.0
"""Nobody asks for more of a file of some kilobytes: a bomb gives what it has, piece by piece."""
_PATIENCE_S = 60.0
"""For a process that may have to start first."""
_BATCH = 250
_EXTREMES = (
    b"\0" * 4,
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
    b"\x80\0\0\0",
    b"\xff\xff\xff\x7f",
    b"\0\0\0\x80",
    b"\0\x0f\x42\x40",
)


def _flip(data: bytearray, dice: random.Random, _: list[bytes]) -> bytearray:
    for _i in range(dice.choice((1, 4, 32, 256))):
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    return data


def _flip_header(data: bytearray, dice: random.Random, _: list[bytes]) -> bytearray:
    for _i in range(dice.choice((1, 2, 8))):
        data[dice.randrange(min(len(data), 200))] ^= 1 << dice.randrange(8)
    return data


def _cut(data: bytearray, dice: random.Random, _: list[bytes]) -> bytearray:
    return data[: dice.randrange(len(data))]


def _remove(data: bytearray, dice: random.Random, _: list[bytes]) -> bytearray:
    start = dice.randrange(len(data))
    del data[start : start + dice.choice((1, 7, 512, 4096))]
    return data or bytearray(1)


def _insert(data: bytearray, dice: random.Random, _: list[bytes]) -> bytearray:
    at = dice.randrange(len(data))
    data[at:at] = dice.randbytes(dice.choice((1, 7, 512, 4096)))
    return data


def _extreme(data: bytearray, dice: random.Random, _: list[bytes]) -> bytearray:
    for _i in range(dice.choice((1, 1, 2, 4))):
        at = dice.randrange(max(1, min(len(data), dice.choice((64, 1024, 2**20))) - 4))
        data[at : at + 4] = dice.choice(_EXTREMES)
    return data


def _extreme_end(data: bytearray, dice: random.Random, _: list[bytes]) -> bytearray:
    """The index of an MP4 file is there."""
    at = max(0, len(data) - dice.randrange(4, 1500))
    data[at : at + 4] = dice.choice(_EXTREMES)
    return data


def _splice(data: bytearray, dice: random.Random, files: list[bytes]) -> bytearray:
    other = dice.choice(files)
    return data[: dice.randrange(len(data))] + other[dice.randrange(len(other)) :]


def _append(data: bytearray, dice: random.Random, files: list[bytes]) -> bytearray:
    """Another file behind it, or itself."""
    return data + dice.choice((bytes(data), dice.choice(files)))


MUTATIONS = (_flip, _flip_header, _cut, _remove, _insert, _extreme, _extreme_end, _splice, _append)


def mutate(files: list[bytes], dice: random.Random) -> bytes:
    """One of the files, changed in one to three ways."""
    data = bytearray(dice.choice(files))
    for _ in range(dice.choice((1, 1, 2, 3))):
        data = dice.choice(MUTATIONS)(data, dice, files) or bytearray(1)
    return bytes(data)


def originals() -> list[bytes]:
    """One short file of each kind."""
    speech = np.frombuffer(load_speech()[0].pcm, "<i2").reshape(-1, 1)[:40_000]
    return [
        encode(kind, resampled(speech, 48_000, kind.rate).repeat(kind.channels[0], axis=1), kind.rate)
        for kind in KINDS.values()
    ]


def decode_all(data: bytes, limit_s: float = MAX_AUDIO_S) -> tuple[str, str]:
    """What became of a file: ``decoded``, or the error's name; and what is wrong with that, if anything."""
    end = 0
    try:
        media = open_media(data)
        for piece in media.pieces:
            frames, rest = divmod(len(piece.data), media.format.frame_bytes)
            if piece.frame < end or rest or not (0 < frames <= media.format.rate or piece.missing):
                return "decoded", f"piece at {piece.frame} of {len(piece.data)} bytes after {end}"
            end = piece.frame + frames
            if end > limit_s * media.format.rate:
                media.pieces.close()
                break
    except BadInputError as error:
        wrong = "\n" in str(error) or len(str(error)) > 200 or not str(error)
        return type(error).__name__, repr(error) if wrong else ""
    return "decoded", ""


def measure(quick: bool, files: int, seed: int) -> Results:
    count = min(files, 1000) if quick else files
    outcomes: Counter[str] = Counter()
    failures: list[dict[str, Any]] = []
    memory_mb: list[float] = []
    slowest_s = 0.0
    child = _Child()
    for number in range(count):
        answer = child.ask(seed + number)
        if answer is None:
            failures.append({"seed": seed + number, "what": child.end()})
            child = _Child()
            continue
        outcome, wrong, took_s, now_mb = answer
        outcomes[outcome] += 1
        slowest_s = max(slowest_s, took_s)
        if wrong:
            failures.append({"seed": seed + number, "what": wrong})
        if number % _BATCH == 0:
            memory_mb.append(now_mb)
            note(f"{number} files: {dict(outcomes)}, {now_mb:.0f} MB, {len(failures)} failures")
    peak_mb = child.peak_mb()
    child.end()
    third = len(memory_mb) // 3
    return {
        "files": count,
        "seed": seed,
        "outcomes": dict(outcomes),
        "failures": failures,
        "slowest_ms": round(slowest_s * 1000, 1),
        "rss_mb_after_a_third": round(memory_mb[third], 1),
        "rss_mb_at_the_end": round(memory_mb[-1], 1),
        "rss_mb_peak": round(peak_mb, 1),
    }


class _Child:
    """A process that decodes the payloads it is sent."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def ask(self, seed: int) -> tuple[str, str, float, float] | None:
        """What became of the file of this seed; None if the process did not survive it."""
        try:
            self._pipe.send(seed)
            if not self._pipe.poll(_PATIENCE_S):
                return None
            answer: tuple[str, str, float, float] = self._pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return None
        return answer

    def peak_mb(self) -> float:
        self._pipe.send(-1)
        peak: float = self._pipe.recv()
        return peak

    def end(self) -> str:
        """How it ended."""
        self._process.join(1)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
            return "hang"
        return f"exit status {self._process.exitcode}"


def _serve(pipe: Connection) -> None:
    files = originals()
    while True:
        try:
            seed = pipe.recv()
        except EOFError:
            return
        if seed < 0:
            pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
            continue
        data = mutate(files, random.Random(seed))
        began_s = time.perf_counter()
        try:
            outcome, wrong = decode_all(data)
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            outcome, wrong = "crashed", repr(error)[:500]
        took_s = time.perf_counter() - began_s
        if took_s > LIMIT_S:
            wrong = f"took {took_s:.1f} s"
        pipe.send((outcome, wrong, took_s, _resident_mb()))


def _resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--files", type=int, default=10_000, help="how many (10000)")
    parser.add_argument("--seed", type=int, default=1, help="of the first one (1)")


if __name__ == "__main__":
    run("fuzz_media", measure, _options)
