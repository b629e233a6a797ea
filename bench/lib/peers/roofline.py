"""The least time that one window can take on this machine: its arithmetic at the speed of a plain matrix product.

Encoder and cross-attention keys for n positions (two operations a multiplication, sizes as in Whisper), at the measured
speed of float32 products of the encoder's own shape; each token reads the decoder's weights once, at the measured speed of
memory. No spectrogram, no sampling, no attention masks: what is left between is everything else.
"""

import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from bench.lib.report import Results
from bench.lib.shapes import N_MELS, N_VOCAB, SHAPES, TOKENS

REPEATS = 7
MEMORY_BYTES = 2**27


def roofline(threads: int) -> Results:
    """By shape: the floor in ms for the contexts 512 and 768."""
    bandwidth = _memory_bytes_s(threads)
    out: Results = {"memory_gb_s": round(bandwidth / 1e9, 1)}
    for name, shape in SHAPES.items():
        d, layers = shape.d, shape.layers
        weights = 14 * layers * d * d + N_VOCAB * d
        for positions in (512, 768):
            flop_s = _sgemm_flop_s(positions, d, threads)
            encode_s = encoder_flop(name, positions) / flop_s
            decode_s = {kind: TOKENS * weights * size / bandwidth for kind, size in (("f16", 2), ("q8_0", 34 / 32))}
            out[f"{name} at {positions}"] = {
                "encoder_gflop": round(encoder_flop(name, positions) / 1e9, 2),
                "sgemm_gflop_s": round(flop_s / 1e9, 1),
                "encode_ms": round(1000 * encode_s, 1),
                "decode_ms": {kind: round(1000 * time_s, 1) for kind, time_s in decode_s.items()},
                "floor_ms": {kind: round(1000 * (encode_s + time_s), 1) for kind, time_s in decode_s.items()},
            }
    return out


def encoder_flop(name: str, positions: int) -> float:
    """Operations of one encoder run, the keys and values for the decoder included."""
    d, layers = SHAPES[name].d, SHAPES[name].layers
    convolutions = 6 * N_MELS * d * positions + 3 * d * d * positions
    blocks = layers * (12 * d * d * positions + 2 * positions * positions * d)
    return 2 * (convolutions + blocks) + 2 * 2 * layers * d * d * positions


def _sgemm_flop_s(rows: int, d: int, threads: int) -> float:
    """Of (rows, d) x (d, 4 d) in float32; in a process of its own, whose BLAS has so many threads."""
    code = f"from bench.lib.peers.roofline import product_s; print(product_s({rows}, {d}))"
    environment = os.environ | {"OPENBLAS_NUM_THREADS": str(threads)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return 2 * rows * d * 4 * d / float(done.stdout)


def product_s(rows: int, d: int) -> float:
    """Median seconds of one product."""
    a, b = np.ones((rows, d), np.float32), np.ones((d, 4 * d), np.float32)
    out = np.empty((rows, 4 * d), np.float32)
    times_s = []
    for _ in range(REPEATS * 20):
        started_s = time.perf_counter()
        np.matmul(a, b, out=out)
        times_s.append(time.perf_counter() - started_s)
    return statistics.median(times_s)


def _memory_bytes_s(threads: int) -> float:
    """Bytes read in a second, by so many threads; more than any cache holds."""
    parts = np.array_split(np.ones(MEMORY_BYTES // 8), threads)
    times_s = []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(REPEATS):
            started_s = time.perf_counter()
            list(pool.map(np.max, parts))
            times_s.append(time.perf_counter() - started_s)
    return MEMORY_BYTES / statistics.median(times_s)
