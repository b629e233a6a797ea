"""The bytes of an object, at any offset. In: offsets. Out: bytes, of which only a few chunks are kept, however long it is.

Chunks are fetched one by one, the next one while the current one is used. Other uploads are in between, so the sequence of a
chunk is known only once it was read, and is remembered then. Where all chunks have the same size, a seek forward searches by the
count of chunks that follow, which the broker gives with each; otherwise all chunks in between are read.
"""

import asyncio
import hashlib
import logging
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial

from transcriber.bus.jetstream.certainty import surely
from transcriber.bus.jetstream.client import Stored
from transcriber.bus.object_store.bucket import Bucket, ObjectInfo
from transcriber.errors import DigestError, MissingChunkError, ObjectError, UnansweredError

log = logging.getLogger(__name__)

CACHE_CHUNKS, CACHE_BYTES = 8, 2**20
"""Of what was read, so much is cached; the last chunk always, however large it is."""

LEAP_CHUNKS = 8
"""Up to so far ahead chunks are read; beyond, the reader seeks."""

RETRY_S, RETRY_MAX_S = 0.2, 5.0


class ObjectReader:
    """One object. Event loop only; one call at a time.

    Attributes:
        info: the object.
        verified: whether all of it was read and has its digest.
    """

    def __init__(self, bucket: Bucket, info: ObjectInfo, *, certain: bool = False) -> None:
        """``certain``: that a chunk is gone must be certain, which needs the right to STREAM.INFO of the bucket's stream."""
        self.info = info
        self._certain = certain
        self.verified = False
        self._jetstream, self._stream = bucket.jetstream, bucket.stream
        self._subject = bucket.chunk_subject(info.nuid)
        self._starts, self._seqs = array("Q", [0]), array("Q", [1])
        """The chunk that starts at an offset is the first of the object's from a sequence on."""
        self._cache: OrderedDict[int, bytes] = OrderedDict()
        self._ahead: tuple[int, asyncio.Task[Stored]] | None = None
        self._hash = hashlib.sha256()
        self._hashed = 0
        self._even: bool | None = None  # whether all chunks but the last have the same size; None: not checked yet

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
        """Cancel the chunk in flight."""
        if self._ahead:
            _, task = self._ahead
            self._ahead = None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _chunk_at(self, offset: int) -> tuple[int, bytes]:
        """The chunk that holds ``offset``, and where it starts."""
        for start, chunk in self._cache.items():
            if start <= offset < start + len(chunk):
                self._cache.move_to_end(start)
                self._digest(start, chunk)
                return start, chunk
        start, seq = self._last_known(offset)
        if offset - start > LEAP_CHUNKS * (self.info.chunk_bytes or self.info.size):
            start, seq = await self._seek(offset, start, seq)
        while True:
            found = await self._take(start, seq)
            end = start + len(found.payload)
            if offset < end:
                return start, found.payload
            start, seq = end, found.seq + 1

    def _last_known(self, offset: int) -> tuple[int, int]:
        """Start and sequence of the last known chunk that does not start after ``offset``."""
        place = bisect_right(self._starts, offset) - 1
        return self._starts[place], self._seqs[place]

    async def _take(self, start: int, seq: int) -> Stored:
        """Fetch a chunk, remember it, and request the next one."""
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
            raise ObjectError(f"{self.info.name!r} is longer than its {self.info.size} bytes")
        self._remember(start, found.seq)
        if end < self.info.size:
            self._remember(end, found.seq + 1)
        self._cache[start] = found.payload
        while len(self._cache) > CACHE_CHUNKS or (len(self._cache) > 1 and self._cached_bytes() > CACHE_BYTES):
            self._cache.popitem(last=False)
        self._digest(start, found.payload)

    def _cached_bytes(self) -> int:
        return sum(map(len, self._cache.values()))

    def _remember(self, start: int, seq: int) -> None:
        place = bisect_right(self._starts, start)
        if self._starts[place - 1] == start:
            self._seqs[place - 1] = max(seq, self._seqs[place - 1])
        else:
            self._starts.insert(place, start)
            self._seqs.insert(place, seq)

    def _digest(self, start: int, chunk: bytes) -> None:
        """Hash each chunk once, when all before it were read."""
        if start != self._hashed or self.verified:
            return
        self._hash.update(chunk)
        self._hashed += len(chunk)
        if self._hashed == self.info.size:
            if self._hash.digest() != self.info.sha256:
                raise DigestError(f"{self.info.name!r} is not what was stored: its digest differs")
            self.verified = True

    async def _seek(self, offset: int, start: int, seq: int) -> tuple[int, int]:
        """A chunk shortly before ``offset``, or the one at ``start`` where no other can be found."""
        if self._even is None:
            self._even = await self._check_even()
        chunk_bytes = self.info.chunk_bytes
        if not self._even or not chunk_bytes:
            return start, seq
        place = bisect_right(self._starts, offset)
        if place == len(self._starts):
            return self._last_known(offset)
        target, halve = offset // chunk_bytes, False
        low, low_seq = start // chunk_bytes, seq  # it is not before that sequence,
        high, high_seq = self._starts[place] // chunk_bytes, self._seqs[place]  # and this one not behind that
        while target - low > LEAP_CHUNKS and low_seq < high_seq:
            guess = (low_seq + high_seq) // 2
            if not halve:  # right at once where nothing is between the chunks
                guess = min(high_seq, low_seq + (target - low) * (high_seq - low_seq) // max(1, high - low))
            halve = not halve
            found = await self._fetch(seq=guess, next_by_subj=self._subject, batch=1)
            number = self._chunk_number(found)
            if number is None:
                break
            self._remember(number * chunk_bytes, found.seq)
            if number > target:
                high, high_seq = number - 1, guess - 1
            else:
                low, low_seq = number, max(found.seq, low_seq + 1)
        return self._last_known(offset)

    async def _check_even(self) -> bool:
        """Whether all chunks but the last have the same size.

        They do if the first has the largest size, and the last has exactly the rest.
        """
        size, chunks, chunk_bytes = self.info.size, self.info.chunks, self.info.chunk_bytes
        if not chunk_bytes or chunks != -(-size // chunk_bytes):
            return False
        first = await self._fetch(seq=1, next_by_subj=self._subject)
        last = await self._fetch(last_by_subj=self._subject)
        if len(first.payload) != chunk_bytes or len(last.payload) != size - (chunks - 1) * chunk_bytes:
            return False
        self._remember(0, first.seq)
        self._remember((chunks - 1) * chunk_bytes, last.seq)
        return True

    def _chunk_number(self, found: Stored) -> int | None:
        """Of a chunk, counted from 0, by how many follow it; None where the broker does not say."""
        try:
            number = self.info.chunks - 1 - int(found.headers["Nats-Num-Pending"])
        except (LookupError, ValueError):
            return None
        return number if 0 <= number < self.info.chunks else None

    async def _fetch(self, **which: str | int) -> Stored:
        """One chunk, however long the broker is away."""
        wait_s = RETRY_S
        of_leader = {name: value for name, value in which.items() if name != "batch"}
        while True:
            try:
                found = None
                with suppress(UnansweredError):
                    found = await self._jetstream.direct(self._stream, **which)
                # A copy may not have yet what its leader has, and only a leader says what there is not.
                if found is None:
                    of_the_leader = partial(self._jetstream.message, self._stream, **of_leader)
                    found = await (
                        surely(self._jetstream, self._stream, of_the_leader) if self._certain else of_the_leader()
                    )
            except UnansweredError as error:
                log.debug("%s: %s", self._subject, error)
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, RETRY_MAX_S)
                continue
            if found is None:
                raise MissingChunkError(f"a part of {self.info.name!r} is gone: it was deleted, replaced, or too old")
            return found
