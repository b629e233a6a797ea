"""The audio of one file as numbered payloads, from any of them on: a ``PayloadSource``.

In: decoded pieces, always the same for the same file. Out: payloads with their offsets, and one at the end with the length.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import suppress

from transcriber.audio.format import AudioFormat, parse_content_type
from transcriber.audio.media.pieces import Piece
from transcriber.durable.payload_source import Payload
from transcriber.errors import MediaError, TruncatedError
from transcriber.schema.checkpoint import Checkpoint
from transcriber.schema.file_jobs import JobRecord

log = logging.getLogger(__name__)


def first_frame(checkpoint: Checkpoint) -> int:
    """The frame with which reading begins: 0 unless all pieces before follow each other, and are a second long each.

    Where there may be a hole among them, their number of frames alone does not show that.
    """
    state = checkpoint.session
    if state is None or state.offsets is None or state.offsets.origin != 0:
        return 0
    rate, account = parse_content_type(state.format, AudioFormat()).rate, state.account
    lost = account.sums["lost"] or any(outcome == "lost" for ranges in account.open for *_, outcome in ranges)
    return 0 if lost or state.clock != (checkpoint.seq - 1) * rate else state.clock


class FilePayloads:
    """A ``PayloadSource``. Event loop only.

    Attributes:
        error: why the file could not be read to its end; None if it could.
    """

    idle = False

    def __init__(
        self,
        fmt: AudioFormat,
        frames: int | None,
        pieces: AsyncIterator[Piece],
        record: JobRecord,
        checkpoint: Checkpoint,
    ) -> None:
        """Payloads from ``checkpoint`` on; ``frames`` is the length of the file, None if not known.

        ``pieces`` begin with ``first_frame(checkpoint)``.
        """
        self.error: MediaError | None = None
        self._job, self._submitted_at = record.submission.job, record.submitted_at
        self._frames, self._pieces = frames, pieces
        self._headers = {"Content-Type": fmt.content_type, "Audio-Session": self._job}
        if record.traceparent:
            self._headers["traceparent"] = record.traceparent
        self._frame_bytes = fmt.frame_bytes
        self._first = checkpoint.seq
        self._end_frame = first_frame(checkpoint)  # of the file, as far as it was read
        self._read_seq = checkpoint.seq - 1 if self._end_frame else 0  # of the last one, those skipped included
        self._read_all = self._exhausted = False

    @property
    def exhausted(self) -> bool:
        """Whether all of it was taken."""
        return self._exhausted

    async def next(self, timeout_s: float) -> Payload | None:  # noqa: ARG002 - a file is not silent
        """The next payload; None at the end.

        Raises:
            Whatever reading the file raises, but what is wrong with the audio.
        """
        while not self._exhausted:
            payload = await self._read()
            if payload.seq >= self._first:
                return payload
        return None

    def stop_pulling(self) -> None:
        """Nothing waits at a broker."""

    async def keepalive(self) -> None:
        """The job's lease is extended elsewhere."""

    async def acknowledge(self, before_seq: int) -> None:
        """The file stays until its job is done."""

    async def _read(self) -> Payload:
        self._read_seq += 1
        if not self._read_all:
            with suppress(StopAsyncIteration):
                try:
                    piece = await anext(self._pieces)
                except MediaError as error:
                    self._note_error(error)
                    if isinstance(error, TruncatedError):
                        self._frames = error.frames
                    if self._end_frame >= (self._frames or 0):  # there will be no hole that shows it
                        self._read_all = True
                        return self._missing(self._end_frame, str(error))
                else:
                    self._end_frame = piece.frame + len(piece.data) // self._frame_bytes
                    if piece.missing:
                        self._note_error(MediaError(piece.missing))
                        return self._missing(piece.frame, piece.missing)
                    return self._payload(piece.data, piece.frame)
        self._exhausted = True
        # What a broken file does not hold is a hole at its end; where nothing is missing, what the container claims is
        # a guess at best.
        end = max(self._end_frame, self._frames or 0) if self.error else self._end_frame
        return self._payload(b"", end, {"Audio-End": "1"})

    def _note_error(self, error: MediaError) -> None:
        if not self._end_frame:
            raise error
        log.warning("a file cannot be read to its end: %s", error, extra={"job": self._job})
        self.error = error

    def _missing(self, frame: int, why: str) -> Payload:
        """In place of something that is missing, of unknown length."""
        return self._payload(b"", frame)._replace(missing=why)

    def _payload(self, data: bytes, frame: int, more: dict[str, str] | None = None) -> Payload:
        headers = self._headers | {"Audio-Offset": str(frame)} | (more or {})
        return Payload(self._read_seq, self._submitted_at, data, headers)
