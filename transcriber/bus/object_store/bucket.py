"""Objects of any size in a bucket (ADR-20), as of the ``nats`` tool and other clients.

In: pieces of bytes. Out: an object, of which never more than a few chunks are in memory. The name of an object, its size and
its digest are in one message, which is stored last: before it there is no object, only chunks.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from transcriber.bus.jetstream.client import STREAM_FULL, JetStream, Stored
from transcriber.bus.object_store.upload import DIGEST, Upload
from transcriber.errors import LinkError, ObjectError, RefusedError, UnansweredError
from transcriber.tasks import to_its_end
from transcriber.ulid import new_ulid

META_TRIES = 10
RETRY_S = 0.5


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """The description of an object.

    Attributes:
        name: any text.
        nuid: of this revision; the last token of its chunks' subject.
        size: bytes.
        chunks: messages that they are spread over.
        digest: ``SHA-256=`` and the base64 of it; may be empty.
        chunk_bytes: of the largest chunk; None where that is not known.
    """

    name: str
    nuid: str
    size: int
    chunks: int
    digest: str
    chunk_bytes: int | None = None

    @property
    def sha256(self) -> bytes:
        """Of the bytes; empty where the digest is none."""
        try:
            return base64.urlsafe_b64decode(self.digest[len(DIGEST) :])
        except ValueError:
            return b""


class _Options(BaseModel):
    model_config = ConfigDict(extra="ignore")

    link: dict[str, Any] | None = None
    max_chunk_size: int | None = None


class _Meta(BaseModel):
    """The message that describes an object, of any client. The nuid becomes a part of subjects, so it is validated."""

    model_config = ConfigDict(extra="ignore")

    name: str
    nuid: str = Field("", pattern=r"^[A-Za-z0-9_-]{0,64}$")
    size: int = Field(0, ge=0)
    chunks: int = Field(0, ge=0)
    digest: str | None = None
    deleted: bool | None = None
    options: _Options | None = None


class Bucket:
    """One bucket. Event loop only.

    Attributes:
        name: of the bucket.
        stream: that stores it.
        jetstream: of the connection to its broker.
    """

    def __init__(self, jetstream: JetStream, name: str) -> None:
        self.jetstream = jetstream
        self.name = name
        self.stream = stream_of(name)

    def chunk_subject(self, nuid: str) -> str:
        """Of the chunks of one revision of an object."""
        return f"$O.{self.name}.C.{nuid}"

    async def info(self, name: str) -> ObjectInfo | None:
        """The description of an object; None if there is none, also if it was deleted.

        Raises:
            LinkError: it is a link. ObjectError: its description cannot be read.
            UnansweredError, RefusedError: as when there is no such bucket.
        """
        meta = await self._meta(name)
        if meta is None or meta.deleted:
            return None
        if meta.options and meta.options.link:
            raise LinkError(f"{name!r} in {self.name} is a link: name the object itself")
        if not meta.nuid:
            raise ObjectError(f"{name!r} in {self.name} is no object: it names no chunks")
        largest = meta.options.max_chunk_size if meta.options else None
        return ObjectInfo(name, meta.nuid, meta.size, meta.chunks, meta.digest or "", chunk_bytes=largest)

    async def put(
        self, name: str, pieces: AsyncIterator[bytes], on_sent: Callable[[int], object] | None = None
    ) -> ObjectInfo:
        """Store the bytes of ``pieces``, cut anywhere, under ``name``; what had that name is replaced at the very end.

        ``on_sent`` is called with the bytes stored so far. When it fails, its chunks are removed, as far as the broker can be
        reached; the bucket's ``max_age`` removes the rest. It does not wait for a broker that is away: what was in flight
        then could be stored out of order. The caller may retry from the start.

        Raises:
            UnansweredError: the broker is away or has no room. RefusedError. ObjectError: chunks are out of order.
        """
        before = await self._meta(name)
        nuid = new_ulid()
        upload = Upload(self.jetstream, self.chunk_subject(nuid), on_sent)
        try:
            async for piece in pieces:
                await upload.add(piece)
            await upload.finish()
        except BaseException:
            await to_its_end(self._undo(upload, nuid))
            raise
        info = ObjectInfo(name, nuid, upload.size, upload.chunks, upload.digest, chunk_bytes=upload.chunk_bytes)
        try:
            await self._announce(info, options={"max_chunk_size": info.chunk_bytes})
        except UnansweredError as error:
            if error.code == STREAM_FULL and await self._meta(name) == before:  # else it may be stored all the same
                await to_its_end(self._undo(upload, nuid))
            raise
        if before:
            await self._purge(before.nuid)
        return info

    async def delete(self, name: str, digest: str = "") -> bool:
        """Remove an object, with a ``digest`` only the one that has it; False if there was none.

        Raises:
            UnansweredError, RefusedError.
        """
        meta = await self._meta(name)
        if meta is None or meta.deleted or (digest and meta.digest != digest):
            return False
        removed = ObjectInfo(name, meta.nuid, 0, 0, "")
        try:
            await self._announce(removed, deleted=True)
        except UnansweredError as error:
            if error.code != STREAM_FULL:
                raise
            await self._purge(meta.nuid)  # the message that deletes it needs room, too
            await self._announce(removed, deleted=True)
        await self._purge(meta.nuid)
        return True

    async def description(self, name: str) -> tuple[Stored, str] | None:
        """The stored message that describes an object, also one that was deleted, and its nuid; None if there is none.

        Raises:
            ObjectError: it cannot be read. UnansweredError, RefusedError.
        """
        stored = await self.jetstream.message(self.stream, last_by_subj=self._meta_subject(name))
        return (stored, _parsed(stored, name, self.name).nuid) if stored else None

    async def _meta(self, name: str) -> _Meta | None:
        # Of the stream's leader, not of any copy: it may have been stored just now.
        stored = await self.jetstream.message(self.stream, last_by_subj=self._meta_subject(name))
        return _parsed(stored, name, self.name) if stored else None

    async def _announce(self, info: ObjectInfo, **more: Any) -> None:
        """Store the message that makes an object, or deletes it. It may be stored without an answer, and a retry does no harm."""
        meta = {
            "name": info.name,
            "bucket": self.name,
            "nuid": info.nuid,
            "size": info.size,
            "mtime": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            "chunks": info.chunks,
            "digest": info.digest,
            **more,
        }
        payload, headers = json.dumps(meta).encode(), {"Nats-Rollup": "sub"}
        for left in reversed(range(META_TRIES)):
            try:
                await self.jetstream.store(self._meta_subject(info.name), payload, headers)
            except UnansweredError as error:
                if not left or error.code == STREAM_FULL:
                    raise
                await asyncio.sleep(RETRY_S)
            else:
                return

    async def _undo(self, upload: Upload, nuid: str) -> None:
        await upload.abandon()
        with suppress(RefusedError):  # the first error matters more
            await self._purge(nuid)

    async def _purge(self, nuid: str) -> None:
        """Remove the chunks of a deleted object; it may never have had any."""
        if not nuid:
            return
        with suppress(UnansweredError):  # the bucket's ``max_age`` removes them
            await self.jetstream.call(f"STREAM.PURGE.{self.stream}", {"filter": self.chunk_subject(nuid)})

    def _meta_subject(self, name: str) -> str:
        return f"$O.{self.name}.M.{base64.urlsafe_b64encode(name.encode()).decode()}"


def _parsed(stored: Stored, name: str, bucket: str) -> _Meta:
    try:
        return _Meta.model_validate_json(stored.payload)
    except ValidationError:
        raise ObjectError(f"{name!r} in {bucket} is no object: its description cannot be read") from None


def stream_of(bucket: str) -> str:
    """The stream of a bucket."""
    return f"OBJ_{bucket}"
