"""The stored messages of one audio stream: each follows the last one, or is not stored.

In: messages. Out: the same in the stream of transcripts, once each, in order, whatever happens to broker and daemon. The
fence is JetStream's expected last sequence over all subjects of the audio stream; where an answer was lost on the way, the
last stored message shows whether it was ours.
"""

import asyncio
from datetime import datetime

from pydantic import BaseModel, ConfigDict, ValidationError

from transcriber.bus.jetstream.client import FENCE, WRONG_LAST_SEQUENCE, JetStream, Stored
from transcriber.bus.message_size import fitted
from transcriber.errors import FencedError, RefusedError, UnansweredError
from transcriber.pipeline.runtime import Runtime
from transcriber.schema.checkpoint import Checkpoint
from transcriber.schema.messages import AnyMessage
from transcriber.telemetry import Counters

RETRY_S = 0.2
FENCE_ROOM = 128
"""Bytes of the headers that change with each attempt."""


class _LastMessage(BaseModel):
    """Of the last stored message, what the next daemon needs."""

    model_config = ConfigDict(extra="ignore")

    checkpoint: Checkpoint | None = None


class TranscriptLog:
    """Event loop only.

    Attributes:
        last_seq: of the last message that is known to be stored.
        stored_at: when the message was stored that ``read`` found; None if it found none.
    """

    def __init__(self, jetstream: JetStream, name: str, runtime: Runtime, counters: Counters) -> None:
        settings = runtime.settings
        self._jetstream = jetstream
        self._name, self._instance = name, runtime.telemetry.instance
        self._stream = settings.transcript_stream
        self._prefix = f"{settings.transcript_subject_prefix}.{name}"
        self._subjects = f"{self._prefix}.*"
        self._warnings = runtime.warnings
        self._counters = counters
        self.last_seq = 0
        self.stored_at: datetime | None = None

    async def read(self) -> Checkpoint | None:
        """The checkpoint of the last stored message; None if there is none. What is appended next follows that message."""
        last = await self._last()
        self.last_seq, self.stored_at = (last.seq, last.stored_at) if last else (0, None)
        return read_checkpoint(last)

    async def append(self, message: AnyMessage, message_id: str, traceparent: str) -> AnyMessage:
        """Store ``message``, however long it takes; returns it as it is stored.

        Raises:
            FencedError: another daemon has stored something since.
            UnansweredError: this daemon has, since ``read``: what it read was old, or a request was still on its way.
        """
        headers = {"Nats-Msg-Id": message_id, "traceparent": traceparent, f"{FENCE}-Subject": self._subjects}
        room_bytes = self._jetstream.room(headers) - FENCE_ROOM
        message = fitted(message, room_bytes, lambda: self._counters, self._warnings)
        await self._store(f"{self._prefix}.{message.type}", message, headers)
        return message

    async def _store(self, subject: str, message: AnyMessage, headers: dict[str, str]) -> None:
        payload, message_id = message.model_dump_json(by_alias=True).encode(), headers["Nats-Msg-Id"]
        while True:
            headers[FENCE] = str(self.last_seq)
            try:
                stored = await self._jetstream.store(subject, payload, headers)
            except UnansweredError as error:
                self._counters.publish_retries += 1
                self._warnings.warning("store", "a %s is not stored yet: %s", message.type, error, stream=self._name)
                await asyncio.sleep(RETRY_S)
            except RefusedError as error:
                if error.code != WRONG_LAST_SEQUENCE:
                    raise
                if await self._is_ours(headers["Nats-Msg-Id"]):
                    return
            else:
                if not stored.duplicate:
                    self.last_seq = stored.seq
                    return
                if stored.seq > self.last_seq and not await self._is_purged(stored.seq):
                    # Servers before 2.12 look at the id first, and at the fence then.
                    if await self._is_ours(headers["Nats-Msg-Id"]):
                        return
                    continue
                # The id is that of an older message, perhaps of a purged one: its publisher uses one Audio-Session for
                # several recordings.
                headers["Nats-Msg-Id"] = f"{message_id}:{self.last_seq}"

    async def _is_purged(self, seq: int) -> bool:
        """Whether a message is stored no more; JetStream remembers its id for a while. False also if that is not known."""
        try:
            return await self._jetstream.message(self._stream, seq=seq) is None
        except UnansweredError:
            return False

    async def _is_ours(self, message_id: str) -> bool:
        """Whether the message that the fence met is the one to be stored, whose answer was lost; False: retry.

        Raises:
            FencedError: it is another daemon's.
            UnansweredError: it is an earlier request of this daemon's, which has to be read first: its audio is done.
        """
        try:
            last = await self._last()
        except UnansweredError:
            return False
        if last is None or last.seq <= self.last_seq:
            # The stream's limits removed what was the last; or a broker answers that was cut off from the others, for as long
            # as it takes itself for their leader.
            await asyncio.sleep(RETRY_S if last else 0)
            self.last_seq = last.seq if last else 0
            return False
        checkpoint = read_checkpoint(last)
        if checkpoint is None or checkpoint.instance != self._instance:
            raise FencedError(
                checkpoint.instance if checkpoint else "a client that is no daemon, or a daemon in live mode"
            )
        if last.headers.get("Nats-Msg-Id") != message_id:
            raise UnansweredError("more of its text is stored than was read: it is read again")
        self.last_seq = last.seq
        return True

    async def _last(self) -> Stored | None:
        return await self._jetstream.message(self._stream, last_by_subj=self._subjects)


def read_checkpoint(stored: Stored | None) -> Checkpoint | None:
    """Of a stored message; None if it has none, as one of live mode, or of another client."""
    try:
        return _LastMessage.model_validate_json(stored.payload).checkpoint if stored else None
    except ValidationError:
        return None
