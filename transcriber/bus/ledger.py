"""The stored messages of one audio stream: each follows upon the last one, or is not stored.

In: messages. Out: the same in the stream of transcripts, once each, in order, whatever happens to broker and daemon. The
fence is JetStream's expected last sequence over all subjects of the audio stream; where an answer was lost on the way, the
last stored message says whether it was ours.
"""

import asyncio

from pydantic import BaseModel, ConfigDict

from transcriber.bus.jetstream import WRONG_LAST_SEQUENCE, Confirmed, JetStream, Stored
from transcriber.bus.stream_report import Surroundings
from transcriber.errors import FencedError, RefusedError, UnansweredError
from transcriber.messages import AnyMessage, Checkpoint

RETRY_S = 0.2

_FENCE = "Nats-Expected-Last-Subject-Sequence"


class _Tail(BaseModel):
    """Of the last stored message, what matters to the next daemon."""

    model_config = ConfigDict(extra="ignore")

    checkpoint: Checkpoint | None = None


class Ledger:
    """Event loop only."""

    def __init__(self, jetstream: JetStream, name: str, around: Surroundings) -> None:
        settings = around.settings
        self._jetstream = jetstream
        self._name, self._instance = name, around.telemetry.instance
        self._stream = settings.transcript_stream
        self._prefix = f"{settings.transcript_subject_prefix}.{name}"
        self._subjects = f"{self._prefix}.*"
        self._warnings = around.warnings
        self._counters = around.telemetry.counters(name)
        self._last_seq = 0

    async def read(self) -> Checkpoint | None:
        """Where the last stored message says to go on; None if there is none. What is appended next follows upon it."""
        last = await self._last()
        self._last_seq = last.seq if last else 0
        return _checkpoint(last)

    async def append(self, message: AnyMessage, message_id: str, traceparent: str) -> int:
        """Store ``message``, however long it takes; returns its sequence.

        Raises:
            FencedError: another daemon has stored something since.
        """
        subject, payload = f"{self._prefix}.{message.type}", message.model_dump_json(by_alias=True).encode()
        headers = {"Nats-Msg-Id": message_id, "traceparent": traceparent, f"{_FENCE}-Subject": self._subjects}
        while True:
            headers[_FENCE] = str(self._last_seq)
            try:
                stored = await self._jetstream.store(subject, payload, headers)
            except UnansweredError as error:
                self._counters.publish_retries += 1
                self._warnings.warning("store", "a %s is not stored yet: %s", message.type, error, stream=self._name)
                await asyncio.sleep(RETRY_S)
            except RefusedError as error:
                if error.code != WRONG_LAST_SEQUENCE:
                    raise
                if await self._is_ours(message_id):
                    return self._last_seq
            else:
                if self._follows(stored):
                    self._last_seq = stored.seq
                    return stored.seq
                # The id is that of an older message: its publisher uses one Audio-Session for several recordings.
                headers["Nats-Msg-Id"] = f"{message_id}:{message.last_seq}"

    def _follows(self, stored: Confirmed) -> bool:
        return not stored.duplicate or stored.seq > self._last_seq

    async def _is_ours(self, message_id: str) -> bool:
        """Whether the message that is in the way is the one to be stored, whose answer was lost; False: try again.

        Raises:
            FencedError: it is another daemon's.
        """
        try:
            last = await self._last()
        except UnansweredError:
            return False
        if last is None or last.seq <= self._last_seq:  # the limits of the stream took what we knew as the last
            self._last_seq = last.seq if last else 0
            return False
        checkpoint = _checkpoint(last)
        if checkpoint is None or checkpoint.instance != self._instance:
            raise FencedError(checkpoint.instance if checkpoint else "a daemon in live mode")
        self._last_seq = last.seq
        return last.headers.get("Nats-Msg-Id", "").startswith(message_id)

    async def _last(self) -> Stored | None:
        return await self._jetstream.message(self._stream, last_by_subj=self._subjects)


def _checkpoint(stored: Stored | None) -> Checkpoint | None:
    return _Tail.model_validate_json(stored.payload).checkpoint if stored else None
