"""The resampler: what 20 ms of 48 kHz cost by length of block and quality, and how much it holds back.

In: noise. Out: us per 20 ms; ms of sound that stay inside soxr, by rate; and how long after its last frame
a window that is cut right there is complete, which is the least delay that a user sees.
"""

import time

import numpy as np
import soxr
from numpy.typing import NDArray

from bench.report import Results, note, run
from transcriber.audio.contiguous import ContiguousRun
from transcriber.audio.format import AudioFormat
from transcriber.audio.resampler import TARGET_SAMPLE_RATE, output_samples
from transcriber.audio.window import Cutting

PAYLOAD_MS = 20
BLOCKS_MS = (20, 100, 500, 5000)
QUALITIES = ("HQ", "MQ")
RATES = (8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000, 192_000)
WINDOW_S = 5


def measure(quick: bool) -> Results:
    repeats, windows = (5, 3) if quick else (25, 20)
    cost, held, complete = {}, {}, {}
    for quality in QUALITIES:
        note(f"resampler: {quality}")
        cost[quality] = _us_per_payload(quality, repeats)
        held[quality] = {str(rate): _held_back_ms(rate, quality) for rate in RATES if rate != TARGET_SAMPLE_RATE}
    for rate in RATES:
        note(f"resampler: windows at {rate} Hz")
        complete[str(rate)] = _complete_after_ms(rate, windows)
    return {
        "us_per_20ms_at_48000_by_block_ms": cost,
        "held_back_ms_max_by_rate": held,
        "window_complete_after_ms_max_by_rate": complete,
    }


def _us_per_payload(quality: str, repeats: int) -> dict[str, float]:
    """Median over interleaved repeats, by length of block."""
    audio = _noise(48_000 * 10)
    times_us: dict[str, list[float]] = {str(block_ms): [] for block_ms in BLOCKS_MS}
    for _ in range(repeats):
        for block_ms in BLOCKS_MS:
            blocks = np.split(audio, range(48 * block_ms, len(audio), 48 * block_ms))
            stream = soxr.ResampleStream(48_000, TARGET_SAMPLE_RATE, 1, quality=quality)
            started_s = time.perf_counter()
            for block in blocks:
                stream.resample_chunk(block)
            took_s = time.perf_counter() - started_s
            times_us[str(block_ms)].append(took_s * 1e6 / (len(audio) / (48 * PAYLOAD_MS)))
    return {block: round(float(np.median(times)), 2) for block, times in times_us.items()}


def _held_back_ms(rate: int, quality: str) -> float:
    """The most that is inside after any payload."""
    stream = soxr.ResampleStream(rate, TARGET_SAMPLE_RATE, 1, quality=quality)
    payload = _noise(rate * PAYLOAD_MS // 1000)
    pushed = out = most = 0
    for _ in range(500):
        pushed += len(payload)
        out += len(stream.resample_chunk(payload))
        most = max(most, output_samples(pushed, rate) - out)
    return round(1000 * most / TARGET_SAMPLE_RATE, 1)


def _complete_after_ms(rate: int, windows: int) -> float:
    """The longest time from a window's last frame to the payload that completes it, in the daemon's blocks."""
    fmt = AudioFormat(rate=rate)
    plain = ContiguousRun(fmt, Cutting(WINDOW_S), None)
    payload = bytes(rate * PAYLOAD_MS // 1000 * fmt.frame_bytes)
    latest = done = 0
    while done < windows:
        open_frames = plain.open_frames + len(payload) // fmt.frame_bytes
        cuts = len(plain.push(payload, eager=False))
        if cuts:
            latest = max(latest, open_frames - WINDOW_S * rate)
        done += cuts
    return round(1000 * latest / rate, 1)


def _noise(frames: int) -> NDArray[np.float32]:
    return np.random.default_rng(1).uniform(-0.5, 0.5, frames).astype(np.float32)


if __name__ == "__main__":
    run("resampler", measure)
