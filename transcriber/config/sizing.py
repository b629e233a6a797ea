"""Sizes: encoder positions for a window, windows in the queue, available cores. Pure, but for the cores."""

import math
import os
from pathlib import Path

FORCED_AUDIO_CTX = "force:256"
MIN_AUDIO_CTX = 512
"""The fewest encoder positions with which stock Whisper weights work."""

FULL_AUDIO_CTX, POSITIONS_PER_SECOND, SPARE_POSITIONS = 1500, 50, 128
MAX_INPUT_S = (1280 - SPARE_POSITIONS) / POSITIONS_PER_SECOND
"""Longest window with its left context. The full 1500 positions are not a multiple of 256."""

UNSURE_HOLD_BACK_S = 2.5
"""Words so near to the end of a full window may be left to the next one, where whisper is unsure of them."""

MAX_QUEUE_CAPACITY = 256
"""256 windows of five seconds, each with 7.5 s of left context, are 205 MB of samples: enough for any sensible latency."""


def fitting_positions(duration_s: float) -> int:
    """Encoder positions for so many seconds: 50 a second, whole multiples of 256; 0 is the full context.

    128 positions are added because stock Whisper weights repeat themselves if the context is as
    short as the audio, and at 256 with any audio (``bench.contexts``).

    >>> fitting_positions(5.0), fitting_positions(12.5), fitting_positions(28.0)
    (512, 768, 0)
    """
    positions = max(MIN_AUDIO_CTX, 256 * math.ceil((POSITIONS_PER_SECOND * duration_s + SPARE_POSITIONS) / 256))
    return positions if positions < FULL_AUDIO_CTX else 0


def queue_capacity(max_latency_s: float, duration_s: float, rtf: float) -> int:
    """floor(L_max / (D x RTF)), at least 1 and at most 256 windows.

    >>> queue_capacity(20, 5, 0.8), queue_capacity(10, 5, 0.8), queue_capacity(60, 10, 1.0)
    (5, 2, 6)
    """
    # The small term keeps 20 / (5 * 0.8) at 5 although the product is slightly above 4.
    return max(1, min(MAX_QUEUE_CAPACITY, int(max_latency_s / (duration_s * rtf) + 1e-9)))


def available_cores() -> int:
    """Cores this process may use: affinity, and the CPU quota of its control group; at least 1."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))
