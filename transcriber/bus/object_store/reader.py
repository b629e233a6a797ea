"""The bytes of an object, anywhere in it. In: offsets. Out: bytes, of which only a few chunks are kept, however long it is.

Chunks are fetched one by one, the next one while the current one is used. Other uploads lie in between, so a chunk's place in
the stream is not known before it was seen; it is remembered. A leap forward is taken by the count of chunks that follow, which
the broker gives with each, where all chunks are equally long; else all that lies between is read.
"""

import asyncio
import hashlib
import logging
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import suppress

from transcriber.bus.jetstream.client import Stored
from transcriber.bus.object_store.bucket import Bucket, ObjectInfo
from transcriber.errors import DigestError, MissingChunkError, ObjectError, UnansweredError

log = logging.getLogger(__name__)

CACHE_CHUNKS, CACHE_BYTES = 8, 2**20
"""What is kept of what was read; the last chunk always, however large it is."""

LEAP_CHUNKS = 8
"""So far ahead is read; farther is leapt."""

RETRY_S, RETRY_MAX_S = 0.2, 5.0


class ObjectReader:
    """One object. Event loop only; one reads at a time.

    Attributes:
        info: the object.
        verified: whether all of it was read, in whatever order, and adds up to its digest.
    """

    def __init__(self, bucket: Bucket, info: ObjectInfo) -> None:
        self.info = info
        self.verified = False
        self._jetstream, self._stream = bucket.jetstream, bucket.stream
        self._subject = bucket.chunk_subject(info.nuid)
        self._starts, self._seqs = array("Q", [0]), array("Q", [1])
        """The chunk that starts there is the first of the object's from that sequence on."""
        self._cache: OrderedDict[int, bytes] = OrderedDict()
        self._ahead: tuple[int, asyncio.Task[Stored]] | None = None
        self._hash = hashlib.sha256()
        self._hashed = 0
        self._even: bool | None = None  # whether all chunks but the last are equally long; None: not looked yet

    async def read_at(self, offset: int, length: int) -> bytes:
        """The bytes from ``offset`` on, fewer at the end. Waits while the broker is away.

        Raises:
            MissingChunkError, DigestError, ObjectError: it cannot be read.
            RefusedError: there is no such bucket, or it is not ours to read.
        """
        parts, end = [], min(offset + length, self.info.size)
        while offset < end:
            start, chunk = await self._chunk_at(offset)
            parts.append(chunk[offset - start : end - start])
            offset += len(parts[-1])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def pieces(self) -> AsyncIterator[bytes]:
        """All of it, in order.

        Raises:
            As ``read_at``.
        """
        offset = 0
        while offset < self.info.size:
            start, chunk = await self._chunk_at(offset)
            yield chunk[offset - start :]
            offset = start + len(chunk)

    async def close(self) -> None:
        """Forget what is under way."""
        if self._ahead:
            _, task = self._ahead
            self._ahead = None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _chunk_at(self, offset: int) -> tuple[int, bytes]:
        """The chunk in which ``offset`` lies, and where it starts."""
        for start, chunk in self._cache.items():
            if start <= offset < start + len(chunk):
                self._cache.move_to_end(start)
                self._digest(start, chunk)
                return start, chunk
        start, seq = self._mark(offset)
        if offset - start > LEAP_CHUNKS * (self.info.chunk_bytes or self.info.size):
            start, seq = await self._leap(offset, start, seq)
        while True:
            found = await self._take(start, seq)
            end = start + len(found.payload)
            if offset < end:
                return start, found.payload
            start, seq = end, found.seq + 1

    def _mark(self, offset: int) -> tuple[int, int]:
        """The last known chunk that does not start behind ``offset``."""
        place = bisect_right(self._starts, offset) - 1
        return self._starts[place], self._seqs[place]

    async def _take(self, start: int, seq: int) -> Stored:
        """Fetch a chunk, remember it, and have the next one come."""
        if self._ahead and self._ahead[0] == start:
            (_, task), self._ahead = self._ahead, None
            found = await task
        else:
            await self.close()
            found = await self._fetch(seq=seq, next_by_subj=self._subject)
        self._keep(start, found)
        end = start + len(found.payload)
        if end < self.info.size:
            self._ahead = (end, asyncio.create_task(self._fetch(seq=found.seq + 1, next_by_subj=self._subject)))
        return found

    def _keep(self, start: int, found: Stored) -> None:
        end = start + len(found.payload)
        if end > self.info.size:
            raise ObjectError(f"{self.info.name!r} is longer than the {self.info.size} bytes that it says")
        self._learn(start, found.seq)
        if end < self.info.size:
            self._learn(end, found.seq + 1)
        self._cache[start] = found.payload
        while len(self._cache) > CACHE_CHUNKS or (len(self._cache) > 1 and self._cached_bytes() > CACHE_BYTES):
            self._cache.popitem(last=False)
        self._digest(start, found.payload)

    def _cached_bytes(self) -> int:
        return sum(map(len, self._cache.values()))

    def _learn(self, start: int, seq: int) -> None:
        place = bisect_right(self._starts, start)
        if self._starts[place - 1] == start:
            self._seqs[place - 1] = max(seq, self._seqs[place - 1])
        else:
            self._starts.insert(place, start)
            self._seqs.insert(place, seq)

    def _digest(self, start: int, chunk: bytes) -> None:
        """Each chunk counts once, when all before it were read."""
        if start != self._hashed or self.verified:
            return
        self._hash.update(chunk)
        self._hashed += len(chunk)
        if self._hashed == self.info.size:
            if self._hash.digest() != self.info.sha256:
                raise DigestError(f"{self.info.name!r} is not what was stored: its digest is another one")
            self.verified = True

    async def _leap(self, offset: int, start: int, seq: int) -> tuple[int, int]:
        """A chunk shortly before ``offset``, or the one at ``start`` where no other can be found."""
        if self._even is None:
            self._even = await self._look_even()
        chunk_bytes = self.info.chunk_bytes
        if not self._even or not chunk_bytes:
            return start, seq
        place = bisect_right(self._starts, offset)
        if place == len(self._starts):
            return self._mark(offset)
        target, halve = offset // chunk_bytes, False
        low, low_seq = start // chunk_bytes, seq  # it is not before that sequence,
        high, high_seq = self._starts[place] // chunk_bytes, self._seqs[place]  # and this one not behind that
        while target - low > LEAP_CHUNKS and low_seq < high_seq:
            guess = (low_seq + high_seq) // 2
            if not halve:  # right at once where nothing lies between the chunks
                guess = min(high_seq, low_seq + (target - low) * (high_seq - low_seq) // max(1, high - low))
            halve = not halve
            found = await self._fetch(seq=guess, next_by_subj=self._subject, batch=1)
            number = self._number(found)
            if number is None:
                break
            self._learn(number * chunk_bytes, found.seq)
            if number > target:
                high, high_seq = number - 1, guess - 1
            else:
                low, low_seq = number, max(found.seq, low_seq + 1)
        return self._mark(offset)

    async def _look_even(self) -> bool:
        """Whether all chunks but the last are equally long.

        So it is if none may be longer than the first, and the last has no more bytes than that leaves it.
        """
        size, chunks, chunk_bytes = self.info.size, self.info.chunks, self.info.chunk_bytes
        if not chunk_bytes or chunks != -(-size // chunk_bytes):
            return False
        first = await self._fetch(seq=1, next_by_subj=self._subject)
        last = await self._fetch(last_by_subj=self._subject)
        if len(first.payload) != chunk_bytes or len(last.payload) != size - (chunks - 1) * chunk_bytes:
            return False
        self._learn(0, first.seq)
        self._learn((chunks - 1) * chunk_bytes, last.seq)
        return True

    def _number(self, found: Stored) -> int | None:
        """Of a chunk, counted from 0, by how many come after it; None where that is not said."""
        try:
            number = self.info.chunks - 1 - int(found.headers["Nats-Num-Pending"])
        except (LookupError, ValueError):
            return None
        return number if 0 <= number < self.info.chunks else None

    async def _fetch(self, **which: str | int) -> Stored:
        """One chunk, however long the broker is away."""
        wait_s = RETRY_S
        leaders = {name: value for name, value in which.items() if name != "batch"}
        while True:
            try:
                found = None
                with suppress(UnansweredError):
                    found = await self._jetstream.direct(self._stream, **which)
                # A copy of the stream may not have yet what its leader has, and only the leader says that there is no stream.
                found = found or await self._jetstream.message(self._stream, **leaders)
            except UnansweredError as error:
                log.debug("%s: %s", self._subject, error)
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, RETRY_MAX_S)
                continue
            if found is None:
                raise MissingChunkError(f"a part of {self.info.name!r} is gone: it was deleted, replaced, or too old")
            return found
