"""Raw PCM payloads to float32.

In: bytes and their format. Out: (1, frames) or (channels, frames) float32 in [-1, 1].
A *frame* is one sample of every channel.
"""

import math

import numpy as np
from numpy.typing import NDArray

from transcriber.audio.format import AudioFormat, SampleFormat
from transcriber.audio.mixing import MixReport, mix_two
from transcriber.errors import BadInputError

MAX_FLOAT_PEAK = 64.0
"""36 dB above full scale: more than any recording, and less than audible integers of 16 bits."""

_DTYPES: dict[SampleFormat, np.dtype[np.generic]] = {
    SampleFormat.S16LE: np.dtype("<i2"),
    SampleFormat.S24LE: np.dtype("V3"),
    SampleFormat.S32LE: np.dtype("<i4"),
    SampleFormat.F32LE: np.dtype("<f4"),
    SampleFormat.U8: np.dtype("u1"),
    SampleFormat.MULAW: np.dtype("u1"),
    SampleFormat.ALAW: np.dtype("u1"),
}


def count_frames(payload: bytes, fmt: AudioFormat) -> int:
    """Frames in ``payload``, checked.

    Raises:
        BadInputError: not a whole number of frames, or F32LE that is not finite, or not scaled.
    """
    frames, rest = divmod(len(payload), fmt.frame_bytes)
    if rest:
        raise BadInputError(f"{len(payload)} bytes are not whole frames of {fmt.frame_bytes} bytes")
    if unusable := unusable_reason(payload, fmt):
        raise BadInputError(unusable)
    return frames


def unusable_reason(payload: bytes, fmt: AudioFormat) -> str | None:
    """Why whole frames must not be transcribed, though they can be counted; None if they may."""
    if fmt.sample is not SampleFormat.F32LE or not payload:
        return None
    samples = np.frombuffer(payload, "<f4")
    peak = peak_of(samples)
    # One NaN would stay in the resampler for good; integers cannot hold one.
    if not math.isfinite(peak):
        return "F32LE samples are not all finite"
    if is_unscaled(samples, peak):
        return f"F32LE samples reach {peak:.0f}: full scale is 1, and these look like integers"
    return None


def peak_of(samples: NDArray[np.floating]) -> float:
    """The largest magnitude of float samples, at least one; NaN if any is."""
    return float(np.maximum.reduce(np.abs(samples), axis=None))  # half of what min and max together take


def is_unscaled(samples: NDArray[np.floating], peak: float) -> bool:
    """Whether float samples with this ``peak`` are integers that were never scaled: clipped to full scale they would be noise.

    A recording with a peak somewhat above 1 is only loud, and is clipped.
    """
    return peak > MAX_FLOAT_PEAK or (peak >= 2 and bool((samples == np.rint(samples)).all()))  # noqa: PLR2004 - beyond +-1


def decode(
    payload: bytes | bytearray | memoryview,
    fmt: AudioFormat,
    *,
    split: bool = False,
    mix_report: MixReport | None = None,
) -> NDArray[np.float32]:
    """Samples of whole frames, a new array: (1, frames) float32 in [-1, 1], the channels' mix; ``split``: (channels, frames).

    What is found while they are mixed is added to ``mix_report``.
    """
    raw = np.frombuffer(payload, _DTYPES[fmt.sample])
    samples: NDArray[np.float32]
    match fmt.sample:
        case SampleFormat.S16LE:
            samples = raw * np.float32(1 / 2**15)
        case SampleFormat.S24LE:
            wide = np.zeros((len(raw), 4), np.uint8)
            wide[:, 1:] = np.frombuffer(payload, np.uint8).reshape(-1, 3)
            samples = wide.view("<i4")[:, 0].astype(np.float32) * np.float32(1 / 2**31)
        case SampleFormat.S32LE:
            samples = raw.astype(np.float32) * np.float32(1 / 2**31)
        case SampleFormat.F32LE:
            samples = np.clip(raw, -1.0, 1.0).astype(np.float32, copy=False)
        case SampleFormat.U8:
            samples = (raw.astype(np.float32) - 128.0) * np.float32(1 / 2**7)
        case SampleFormat.MULAW:
            samples = _MULAW[raw]
        case SampleFormat.ALAW:
            samples = _ALAW[raw]
    if fmt.channels == 1:
        return samples[np.newaxis]
    channels = samples.reshape(-1, fmt.channels)
    if split:
        return np.ascontiguousarray(channels.T)
    return mix_two(channels, mix_report)[np.newaxis]


def _mulaw_table() -> NDArray[np.float32]:
    """The 256 values of ITU-T G.711 mu-law, in [-1, 1]."""
    code = ~np.arange(256, dtype=np.uint8)
    exponent, mantissa = (code >> 4) & 7, (code & 15).astype(np.int32)
    magnitude = (((mantissa << 3) + 0x84) << exponent) - 0x84
    return (np.where(code & 0x80, -magnitude, magnitude) / 2**15).astype(np.float32)


def _alaw_table() -> NDArray[np.float32]:
    """The 256 values of ITU-T G.711 A-law, in [-1, 1]."""
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    exponent, mantissa = ((code >> 4) & 7).astype(np.int32), (code & 15).astype(np.int32)
    magnitude = np.where(exponent == 0, (mantissa << 4) + 8, ((mantissa << 4) + 0x108) << np.maximum(exponent - 1, 0))
    return (np.where(code & 0x80, magnitude, -magnitude) / 2**15).astype(np.float32)


_MULAW, _ALAW = _mulaw_table(), _alaw_table()
