"""Raw PCM payloads to float32.

In: bytes and their format, as GStreamer names it. Out: (1, frames) or (channels, frames) float32 in [-1, 1].
A *frame* is one sample of every channel.
"""

import math
import re
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from transcriber.audio.mixing import MixReport, mix_two
from transcriber.errors import BadInputError

MIN_SAMPLE_RATE = 8_000
MAX_SAMPLE_RATE = 192_000
MAX_CHANNELS = 2

MAX_FLOAT_PEAK = 64.0
"""36 dB above full scale: more than any recording, and less than audible integers of 16 bits."""

ENCODED_TYPES = frozenset({"audio/webm", "video/webm", "audio/ogg", "audio/opus"})
"""What ``codecs.stream_decoder`` reads."""

RAW = "audio/x-raw"
L16 = "audio/l16"
"""16 bits in network order, by RFC 2586."""

WAV_TYPES = frozenset({"audio/wav", "audio/wave", "audio/x-wav", "audio/vnd.wave"})

_SEPARATOR = re.compile(r"[;,]")
_CAPS_TYPE = re.compile(r"\([a-z0-9]+\)\s*", re.ASCII)
"""What GStreamer puts before a value: ``(int)16000``."""


class SampleFormat(StrEnum):
    """How one sample is written; little-endian."""

    S16LE = "S16LE"
    S24LE = "S24LE"
    S32LE = "S32LE"
    F32LE = "F32LE"
    U8 = "U8"
    MULAW = "MULAW"
    ALAW = "ALAW"


_DTYPES: dict[SampleFormat, np.dtype[np.generic]] = {
    SampleFormat.S16LE: np.dtype("<i2"),
    SampleFormat.S24LE: np.dtype("V3"),
    SampleFormat.S32LE: np.dtype("<i4"),
    SampleFormat.F32LE: np.dtype("<f4"),
    SampleFormat.U8: np.dtype("u1"),
    SampleFormat.MULAW: np.dtype("u1"),
    SampleFormat.ALAW: np.dtype("u1"),
}

_SILENT = {SampleFormat.U8: b"\x80", SampleFormat.MULAW: b"\xff", SampleFormat.ALAW: b"\xd5"}
"""The byte of a silent sample, where it is not 0. A-law has no 0: it is the smallest value."""


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """Format of a stream: ``rate`` in Hz (8 000 to 192 000), 1 or 2 interleaved ``channels``, ``frame_bytes``."""

    sample: SampleFormat = SampleFormat.S16LE
    rate: int = 48_000
    channels: int = 1
    frame_bytes: int = field(init=False, repr=False, compare=False)  # no property: read several times a payload

    def __post_init__(self) -> None:
        object.__setattr__(self, "frame_bytes", _DTYPES[self.sample].itemsize * self.channels)

    def silence(self, frames: int) -> bytes:
        """``frames`` silent frames."""
        return _SILENT.get(self.sample, b"\0") * (frames * self.frame_bytes)

    @property
    def content_type(self) -> str:
        """The ``Content-Type`` header of this format."""
        return f"audio/x-raw;format={self.sample};rate={self.rate};channels={self.channels}"


@lru_cache(maxsize=256)
def media_type(content_type: str) -> str:
    """The type without its parameters, in lower case.

    >>> media_type("Audio/L16; rate=16000"), media_type("audio/x-raw, rate=(int)16000")
    ('audio/l16', 'audio/x-raw')
    """
    return _SEPARATOR.split(content_type, 1)[0].strip().lower()


@lru_cache(maxsize=256)
def parse_content_type(value: str, default: AudioFormat) -> AudioFormat:
    """Format named by a ``Content-Type``; what it leaves out is taken from ``default``.

    Accepts GStreamer's caps, as a MIME type and as GStreamer prints them: ``audio/x-raw;format=S16LE;rate=48000;channels=1``,
    ``audio/x-raw, format=(string)S16LE, rate=(int)48000``. ``audio/L16`` is S16LE once ``read_payload`` has swapped its bytes;
    for WAV it is the format of payloads without a WAV header.

    Raises:
        BadInputError: another type, an unknown parameter value, or out of range.
    """
    kind = media_type(value)
    if kind in ENCODED_TYPES:
        raise BadInputError(f"{kind}: encoded audio is accepted in live mode only")
    if kind not in {RAW, L16} | WAV_TYPES:
        raise BadInputError(f"Content-Type is not {RAW} but {kind[:40]!r}")
    sample, rate, channels = default.sample, default.rate, default.channels
    sample = SampleFormat.S16LE if kind == L16 else sample
    for parameter in _SEPARATOR.split(value)[1:]:
        name, _, text = parameter.partition("=")
        text = _CAPS_TYPE.sub("", text.strip(), count=1).strip("\"'")
        match name.strip().lower():
            case "format" if kind == RAW:
                try:
                    sample = SampleFormat(text.upper())
                except ValueError:
                    raise BadInputError(f"unknown sample format {text[:20]!r}") from None
            case "rate":
                rate = _integer("rate", text, MIN_SAMPLE_RATE, MAX_SAMPLE_RATE)
            case "channels":
                channels = _integer("channels", text, 1, MAX_CHANNELS)
            case "layout" if text != "interleaved":
                raise BadInputError(f"only interleaved samples are read, not layout={text[:20]!r}")
            case _:
                pass
    return AudioFormat(sample, rate, channels)


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


def _integer(name: str, text: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 9 and least <= int(text) <= most):  # noqa: PLR2004
        raise BadInputError(f"{name}={text[:20]!r} is not a whole number from {least} to {most}")
    return int(text)


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
