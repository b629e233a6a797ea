"""What is in a payload of samples. In: its bytes and its ``Content-Type``. Out: whole frames of a format that ``pcm`` decodes.

Each payload is read by itself, so that reading a stored one again gives the same.
"""

from typing import Literal, NamedTuple

import numpy as np

from transcriber.audio.codecs.pcm import unusable_reason
from transcriber.audio.codecs.wav import WavFiles, is_wav
from transcriber.audio.format import L16, RAW, WAV_TYPES, AudioFormat, media_type, parse_content_type
from transcriber.errors import BadInputError

_WAV_HEAD_BYTES = 12

PLAIN = frozenset({"", RAW})
"""Types that say nothing about a payload but its format."""

IgnoredReason = Literal["header", "bytes"]
"""What is ignored of a payload: each is also a series of ``transcriber.chunks.odd``."""


class IgnoredPart(NamedTuple):
    """Something was ignored, though the payload was read; ``detail`` is one line, and begins with the header's name."""

    reason: IgnoredReason
    detail: str


class PcmPayload(NamedTuple):
    """A payload as it was read.

    Attributes:
        data: whole frames of ``format``.
        has_wav_header: its format comes from a WAV header in it.
        ignored: what was ignored of it.
        unusable: why its frames must not be transcribed, though they can be counted; None if they may.
    """

    data: bytes
    format: AudioFormat
    has_wav_header: bool = False
    ignored: tuple[IgnoredPart, ...] = ()
    unusable: str | None = None

    @property
    def frames(self) -> int:
        return len(self.data) // self.format.frame_bytes


def read_payload(
    payload: bytes, content_type: str | None, session: AudioFormat | None, default: AudioFormat
) -> PcmPayload:
    """Read ``payload``, in a session of that format; ``default`` is that of streams that say nothing.

    Raises:
        BadInputError: it cannot be read.
    """
    fmt = session or default
    kind = "" if content_type is None else media_type(content_type)
    if content_type is not None:
        fmt = parse_content_type(content_type, fmt)
    if kind in PLAIN and not len(payload) % fmt.frame_bytes:
        return PcmPayload(payload, fmt, False, (), unusable_reason(payload, fmt))
    ignored: list[IgnoredPart] = []
    has_wav_header = kind in WAV_TYPES and is_wav(payload[:_WAV_HEAD_BYTES])
    if has_wav_header:
        payload, fmt = _without_header(payload)
    elif kind in WAV_TYPES and payload and session is None:
        ignored.append(IgnoredPart("header", f"Content-Type {kind} without a WAV header: taken for {fmt.content_type}"))
    if rest := len(payload) % fmt.frame_bytes:
        if rest == len(payload):
            raise BadInputError(f"{rest} bytes are less than one frame of {fmt.frame_bytes} bytes")
        ignored.append(IgnoredPart("bytes", f"{len(payload)} bytes are not whole frames of {fmt.frame_bytes} bytes"))
        payload = payload[:-rest]
    if kind == L16:
        payload = _little_endian(payload, fmt.channels)
    return PcmPayload(payload, fmt, has_wav_header, tuple(ignored), unusable_reason(payload, fmt))


def _without_header(payload: bytes) -> tuple[bytes, AudioFormat]:
    """The samples behind a WAV header.

    Raises:
        BadInputError: it is not whole, or names a format that is not read.
    """
    parser = WavFiles(len(payload))
    pcm = parser.feed(payload) + parser.finish()
    if parser.format is None:
        raise BadInputError(f"no whole WAV header in {len(payload)} bytes")
    return pcm, parser.format


def _little_endian(payload: bytes, channels: int) -> bytes:
    """L16 as S16LE. RFC 2586 wants network order, and many send their own: in the right order, samples change less."""
    network, native = (np.frombuffer(payload, order).astype(np.int32).reshape(-1, channels) for order in (">i2", "<i2"))
    moves = [int(np.abs(np.diff(samples, axis=0)).sum()) for samples in (network, native)]
    return payload if moves[1] < moves[0] else network.astype("<i2").tobytes()
