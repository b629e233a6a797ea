"""How raw PCM is written, and how that is named. In: a ``Content-Type``. Out: a format. Pure; loads no NumPy, for the command line."""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache

from transcriber.errors import BadInputError

MIN_SAMPLE_RATE = 8_000
MAX_SAMPLE_RATE = 192_000
MAX_CHANNELS = 2

ENCODED_TYPES = {
    "audio/webm": "webm", "video/webm": "webm", "audio/ogg": "ogg", "audio/opus": "opus",
    "audio/mp4": "mp4", "video/mp4": "mp4", "audio/x-m4a": "mp4",
    "audio/aac": "aac", "audio/aacp": "aac", "audio/x-aac": "aac", "audio/mpeg": "mpeg", "audio/mp3": "mpeg",
}  # fmt: skip
"""What ``codecs.stream_decoder`` reads, and how it calls that."""

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


_SHORT_NAMES = {
    "S16": "S16LE",
    "S24": "S24LE",
    "S32": "S32LE",
    "F32": "F32LE",
    "ULAW": "MULAW",
    "PCMU": "MULAW",
    "PCMA": "ALAW",
}

_SAMPLE_BYTES = {
    SampleFormat.S16LE: 2,
    SampleFormat.S24LE: 3,
    SampleFormat.S32LE: 4,
    SampleFormat.F32LE: 4,
    SampleFormat.U8: 1,
    SampleFormat.MULAW: 1,
    SampleFormat.ALAW: 1,
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
        object.__setattr__(self, "frame_bytes", _SAMPLE_BYTES[self.sample] * self.channels)

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
                    sample = SampleFormat(_SHORT_NAMES.get(text.upper(), text.upper()))
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


def _integer(name: str, text: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 9 and least <= int(text) <= most):  # noqa: PLR2004
        raise BadInputError(f"{name}={text[:20]!r} is not a whole number from {least} to {most}")
    return int(text)
