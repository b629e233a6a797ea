"""A stream's audio and text, or those of one of its sessions. In: a ``Target``. Out: places; and its session ended, if it is to be.

A daemon that is at work on a session needs the audio that it has not acknowledged and the last message that it has stored. So while a
session is open and a daemon reads it, nothing of it is removed, but what ``before`` allows: acknowledged audio, and text but for
the last message. Where no daemon reads it, its state goes with it, and the next daemon begins with what comes.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from transcriber.bus.jetstream.admin import CONSUMER_NOT_FOUND, STREAM_NOT_FOUND
from transcriber.bus.jetstream.client import PIN_S, Stored
from transcriber.bus.jetstream.provision import consumer_name
from transcriber.bus.jetstream.stored_messages import Listed
from transcriber.config import Settings
from transcriber.errors import RefusedError
from transcriber.purge.places import Place, Shelves
from transcriber.purge.target import Target
from transcriber.schema.checkpoint import Checkpoint

LOOK_S = 0.2
END_S = 60.0
"""For a daemon to end a session, with what it has still to transcribe."""


class NotPurgedError(Exception):
    """Nothing was removed; one line says why."""


class _Text(BaseModel):
    """Of a stored message, what says which audio it is of."""

    model_config = ConfigDict(extra="ignore")

    type: str
    session: str
    state: str | None = None
    first_seq: int | None = None
    last_seq: int | None = None
    checkpoint: Checkpoint | None = None


class _Recording:
    """The audio of a session, from its first message to its ``end``: what follows, as a revision, is about the same audio."""

    def __init__(self) -> None:
        self._first_seq, self._last_seq, self._over = 0, -1, False

    def __contains__(self, seq: int) -> bool:
        return self._first_seq <= seq <= self._last_seq

    def add(self, found: _Text) -> None:
        """A message of the session; in live mode it names no audio, as none is stored."""
        if self._over or found.type == "revision" or found.first_seq is None or found.last_seq is None:
            return
        self._first_seq = min(found.first_seq, self._first_seq or found.first_seq)
        self._last_seq = max(found.last_seq, self._last_seq)
        if found.type == "end":
            self._over = True
            if found.checkpoint:
                self._last_seq = max(self._last_seq, found.checkpoint.seq - 1)


class StreamPurge:
    """Event loop only."""

    def __init__(
        self, shelves: Shelves, settings: Settings, target: Target, *, every: bool, before: datetime | None
    ) -> None:
        """``before``: only what was stored before that. ``every``: all recordings of a session's id, where there are several."""
        self._shelves, self._settings, self._target = shelves, settings, target
        self._every, self._before = every, before
        self._texts = f"{settings.transcript_subject_prefix}.{target.stream}.*"
        self._to_end: str | None = None

    async def check(self, *, end: bool) -> None:
        """Make sure that no daemon is at work on what is to be removed, or that its session may be ended.

        Raises:
            NotPurgedError: one is. UnansweredError, RefusedError.
        """
        checkpoint = await self._checkpoint()
        session = checkpoint.session.id if checkpoint and checkpoint.session else None
        if session is None or self._before is not None or self._target.session not in {None, session}:
            return
        name = f"{self._target.stream}/{session}"
        if not await self._is_read():
            if self._target.session is None:
                return
            # How much of the audio that waits is of this session, only a daemon finds out.
            raise NotPurgedError(
                f"{name} is open and no daemon reads it: start one, which ends it, or purge {self._target.stream}"
            )
        if not end:
            raise NotPurgedError(f"{name} is open and a daemon reads it: stop its publisher, and give --end to end it")
        self._to_end = session

    async def stop(self) -> list[Place]:
        """End the session that ``check`` found open, if any; nothing has to be removed before that.

        Raises:
            NotPurgedError: it does not end. UnansweredError, RefusedError.
        """
        if (session := self._to_end) is None:
            return []
        name = f"{self._target.stream}/{session}"
        await self._shelves.jetstream.store(
            f"{self._settings.audio_prefix}.{self._target.stream}", b"", {"Audio-End": "1"}
        )
        if not await until(lambda: self._is_over(session), END_S):
            raise NotPurgedError(f"{name} did not end within {END_S:g} s")
        if self._target.session is None and (after := await self._checkpoint()) and after.session:
            raise NotPurgedError(f"{name} is ended, but its publisher began {after.session.id} at once: stop it first")
        return []

    async def find(self) -> list[Place]:
        """Audio and text that are stored now.

        Raises:
            NotPurgedError: several recordings have the session's id. UnansweredError, RefusedError.
        """
        audio = Place("audio", self._settings.audio_stream)
        text = Place("text", self._settings.transcript_stream)
        if self._target.session is None:
            await self._find_all(audio, text)
        else:
            await self._find_session(self._target.session, audio, text)
        return [audio, text]

    async def _find_all(self, audio: Place, text: Place) -> None:
        before = self._before or datetime.max.replace(tzinfo=UTC)
        acknowledged_seq, last_text_seq = await self._still_needed() if self._before else (None, None)
        for subject in self._audio_subjects():
            async for one in self._shelves.listed(audio.stream, subject):
                if one.stored_at < before and (acknowledged_seq is None or one.seq < acknowledged_seq):
                    audio.add(one)
        async for one in self._shelves.listed(text.stream, self._texts):
            if one.stored_at < before and one.seq != last_text_seq:
                text.add(one)

    async def _find_session(self, session: str, audio: Place, text: Place) -> None:
        recordings: list[_Recording] = []
        async for one in self._shelves.listed(text.stream, self._texts, payloads=True):
            found = _parse(one)
            if found is None or found.session != session:
                continue
            text.add(one)
            if not recordings or (found.type == "status" and found.state == "started"):
                recordings.append(_Recording())
            recordings[-1].add(found)
        if len(recordings) > 1 and not self._every:
            raise NotPurgedError(
                f"{len(recordings)} recordings of {self._target.stream} have the session id {session!r}: --every purges them all"
            )
        for subject in self._audio_subjects():
            async for one in self._shelves.listed(audio.stream, subject):
                if any(one.seq in recording for recording in recordings):
                    audio.add(one)

    def _audio_subjects(self) -> tuple[str, str]:
        """With partitions and without: what was stored before ``PARTITIONS`` was changed is found, too."""
        prefix, stream = self._settings.audio_prefix, self._target.stream
        return f"{prefix}.{stream}", f"{prefix}.*.{stream}"

    async def _checkpoint(self) -> Checkpoint | None:
        stored = await self._shelves.last(self._settings.transcript_stream, self._texts)
        found = _parse(stored) if stored else None
        return found.checkpoint if found else None

    async def _still_needed(self) -> tuple[int | None, int | None]:
        """From which sequence on audio is not acknowledged, and the message that the next daemon needs; None: there is none."""
        stored = await self._shelves.last(self._settings.transcript_stream, self._texts)
        found = _parse(stored) if stored else None
        if stored and found and found.checkpoint:
            return found.checkpoint.seq, stored.seq if found.checkpoint.session else None
        info = await self._consumer_info()
        return (int(info["ack_floor"]["stream_seq"]) + 1 if info else None), None

    async def _is_over(self, session: str) -> bool | None:
        checkpoint = await self._checkpoint()
        return checkpoint is None or checkpoint.session is None or checkpoint.session.id != session or None

    async def _is_read(self) -> bool:
        """Whether a daemon has the stream: its request waits at the broker, or it stays pinned.

        The pin of one that is dead ends after ``PIN_S``. One that lags takes what there is, so that no request of its waits,
        and renews its pin.
        """
        return await until(self._has_reader, PIN_S + 2) is not False

    async def _has_reader(self) -> bool | None:
        """None: that will show."""
        info = await self._consumer_info()
        if info is None:
            return False
        groups = info.get("priority_groups") or [{}]
        return True if info.get("num_waiting") else None if groups[0].get("pinned_client_id") else False

    async def _consumer_info(self) -> dict[str, Any] | None:
        call = f"CONSUMER.INFO.{self._settings.audio_stream}.{consumer_name(self._target.stream)}"
        try:
            return await self._shelves.jetstream.call(call)
        except RefusedError as error:
            if error.code not in {STREAM_NOT_FOUND, CONSUMER_NOT_FOUND}:
                raise
            return None


def _parse(stored: Stored | Listed) -> _Text | None:
    """None: no daemon has stored it.

    Raises:
        NotPurgedError: a daemon has, and its checkpoint cannot be read, nor therefore which audio is of which session.
    """
    try:
        return _Text.model_validate_json(stored.payload)
    except ValidationError as error:
        if any(one["loc"][:1] == ("checkpoint",) for one in error.errors(include_url=False, include_input=False)):
            raise NotPurgedError(
                f"message {stored.seq} of its text cannot be read: a newer version stored it, or it is damaged"
            ) from None
        return None


async def until(found: Callable[[], Awaitable[bool | None]], patience_s: float) -> bool | None:
    """What is ``found``, once that is known; None: not within that time."""
    deadline_s = time.monotonic() + patience_s
    while (answer := await found()) is None and time.monotonic() < deadline_s:  # noqa: ASYNC110 - the broker does not say
        await asyncio.sleep(LOOK_S)
    return answer
