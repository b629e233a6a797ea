"""The audio of one file, as a durable stream takes it: in numbered pieces, from any of them on.

In: decoded pieces, always the same for the same file. Out: payloads with their places, and at last one that tells the length.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import datetime

from transcriber.audio.format import AudioFormat, parse_content_type
from transcriber.audio.media.open import Piece
from transcriber.durable.consumer import Payload
from transcriber.errors import MediaError, TruncatedError
from transcriber.schema.messages import Checkpoint

log = logging.getLogger(__name__)


def first_frame(found: Checkpoint) -> int:
    """The frame with which the pieces to read begin: 0 unless all pieces before lie together, and are a second long each.

    As many frames as they would have are not enough to say so, where a hole may be among them.
    """
    state = found.session
    if state is None or state.offsets is None or state.offsets.origin != 0:
        return 0
    rate, account = parse_content_type(state.format, AudioFormat()).rate, state.account
    lost = account.sums["lost"] or any(fate == "lost" for ranges in account.open for *_, fate in ranges)
    return 0 if lost or state.clock != (found.seq - 1) * rate else state.clock


class FilePayloads:
    """A ``PayloadSource``. Event loop only.

    Attributes:
        error: why the file could not be read to its end; None if it could.
    """

    idle = False

    def __init__(
        self,
        job: str,
        fmt: AudioFormat,
        frames: int | None,
        pieces: AsyncIterator[Piece],
        asked_at: datetime,
        found: Checkpoint,
    ) -> None:
        """Payloads from where ``found`` stands; ``frames`` is the length of the file, None if not known.

        ``pieces`` begin with ``first_frame(found)``.
        """
        self.error: MediaError | None = None
        self._job, self._frames, self._pieces, self._asked_at = job, frames, pieces, asked_at
        self._headers = {"Content-Type": fmt.content_type, "Audio-Session": job}
        self._frame_bytes = fmt.frame_bytes
        self._first = found.seq
        self._end_frame = first_frame(found)  # of the file, as far as it was read
        self._taken = found.seq - 1 if self._end_frame else 0  # payloads, those included that are passed over
        self._read_all = self._over = False

    @property
    def left(self) -> bool:
        """Whether all of it was taken."""
        return self._over

    async def next(self, timeout_s: float) -> Payload | None:  # noqa: ARG002 - a file is not silent
        """The next payload; None at the end.

        Raises:
            Whatever reading the file raises, but what is wrong with the audio.
        """
        while not self._over:
            payload = await self._read()
            if payload.seq >= self._first:
                return payload
        return None

    def leave(self) -> None:
        """Nothing waits elsewhere."""

    async def stay(self) -> None:
        """Nobody else can come."""

    async def acknowledge(self, seq: int) -> None:
        """The file stays until its job is done."""

    async def _read(self) -> Payload:
        self._taken += 1
        if not self._read_all:
            with suppress(StopAsyncIteration):
                try:
                    piece = await anext(self._pieces)
                except MediaError as error:
                    self._broken(error)
                    if isinstance(error, TruncatedError):
                        self._frames = error.frames
                    if self._end_frame >= (self._frames or 0):  # there will be no hole that tells of it
                        self._read_all = True
                        return self._missing(self._end_frame, str(error))
                else:
                    self._end_frame = piece.frame + len(piece.data) // self._frame_bytes
                    if piece.missing:
                        self._broken(MediaError(piece.missing))
                        return self._missing(piece.frame, piece.missing)
                    return self._payload(piece.data, piece.frame)
        self._over = True
        # What a broken file does not hold is a hole at its end; where nothing is missing, what the container claims is
        # a guess at best.
        end = max(self._end_frame, self._frames or 0) if self.error else self._end_frame
        return self._payload(b"", end, {"Audio-End": "1"})

    def _broken(self, error: MediaError) -> None:
        if not self._end_frame:
            raise error
        log.warning("a file cannot be read to its end: %s", error, extra={"job": self._job})
        self.error = error

    def _missing(self, frame: int, why: str) -> Payload:
        """What stands where something is missing, nobody knows how much."""
        return self._payload(b"", frame)._replace(missing=why)

    def _payload(self, data: bytes, frame: int, more: dict[str, str] | None = None) -> Payload:
        headers = self._headers | {"Audio-Offset": str(frame)} | (more or {})
        return Payload(self._taken, self._asked_at, data, headers)
