"""Audio as a live source would send it. In: an audio source. Out: payloads with their headers, each at its time."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from transcriber.clients.audio_input import AudioSource, Hole


@dataclass(frozen=True, slots=True)
class Payload:
    """One message of audio.

    Attributes:
        data: whole frames; empty at the end.
        headers: format, offset and session.
        end_frame: offset of the frame after its last one.
    """

    data: bytes
    headers: dict[str, str]
    end_frame: int


def end_payload(always: dict[str, str], end_frame: int) -> Payload:
    """The last payload, which gives the length, with the headers of all payloads."""
    return Payload(b"", always | {"Audio-Offset": str(end_frame), "Audio-End": "1"}, end_frame)


async def timed_payloads(
    source: AudioSource, size_bytes: int, always: dict[str, str], *, fast: bool
) -> AsyncGenerator[Payload, None]:
    """The source in payloads of ``size_bytes``, all with the headers ``always``.

    In real time a payload is due when its last frame would have been captured, counted from the first, so errors do not add
    up; ``Audio-Time`` is on the first payload and then on one a second. With ``fast`` there is no delay and no time. At a hole
    the offset jumps.
    """
    fmt = source.format
    began_s, began_at = time.monotonic(), datetime.now(UTC)
    frames, stamp_due = 0, 0
    async for data in _cut(source, size_bytes):
        if isinstance(data, Hole):
            frames += data.frames
            continue
        headers = always | {"Audio-Offset": str(frames)}
        if not fast and frames >= stamp_due:
            headers["Audio-Time"] = (began_at + timedelta(seconds=frames / fmt.rate)).isoformat()
            stamp_due = frames + fmt.rate
        frames += len(data) // fmt.frame_bytes
        if not fast:
            await asyncio.sleep(began_s + frames / fmt.rate - time.monotonic())
        yield Payload(data, headers, frames)


async def _cut(source: AudioSource, size_bytes: int) -> AsyncIterator[bytes | Hole]:
    """The source in pieces of ``size_bytes``, shorter before a hole and at the end, where an incomplete frame is dropped."""
    pending = bytearray()

    def rest() -> bytes:
        whole = bytes(pending[: len(pending) - len(pending) % source.format.frame_bytes])
        pending.clear()
        return whole

    async for piece in source.pieces:
        if isinstance(piece, Hole):
            if last := rest():
                yield last
            yield piece
            continue
        pending += piece
        whole = len(pending) - len(pending) % size_bytes
        for start in range(0, whole, size_bytes):
            yield bytes(pending[start : start + size_bytes])
        del pending[:whole]
    if last := rest():
        yield last
