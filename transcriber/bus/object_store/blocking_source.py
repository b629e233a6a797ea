"""An object of the store for a decoder, which blocks. In: offsets, in a thread. Out: bytes, fetched on the event loop."""

import asyncio
from concurrent.futures import CancelledError, Future
from threading import Lock

from transcriber.bus.object_store.reader import ObjectReader
from transcriber.errors import SourceClosedError

READ_BYTES = 2**18
"""A thread requests no less, as each request costs a switch between threads."""


class BlockingSource:
    """One object, read by one thread.

    Attributes:
        size: bytes.
    """

    def __init__(self, reader: ObjectReader) -> None:
        """Made on the event loop."""
        self.size: int | None = reader.info.size
        self._reader, self._loop = reader, asyncio.get_running_loop()
        self._lock = Lock()
        self._request: Future[bytes] | None = None
        self._closed = False
        self._start, self._bytes = 0, b""

    def read_at(self, offset: int, length: int) -> bytes:
        """In the thread: the bytes from ``offset`` on, at least one unless it is the end.

        Raises:
            SourceClosedError: ``close`` was called.
            As ``ObjectReader.read_at``.
        """
        if not self._start <= offset < self._start + len(self._bytes):
            self._bytes = b""
            self._bytes, self._start = self._fetch(offset, max(length, READ_BYTES)), offset
        return self._bytes[offset - self._start :][:length]

    def close(self) -> None:
        """From any thread: a ``read_at`` that waits, or is called later, raises at once."""
        with self._lock:
            self._closed = True
            request = self._request
        if request:
            request.cancel()

    def _fetch(self, offset: int, length: int) -> bytes:
        with self._lock:
            if self._closed:
                raise SourceClosedError("the file is closed")
            self._request = asyncio.run_coroutine_threadsafe(self._reader.read_at(offset, length), self._loop)
        try:
            return self._request.result()
        except CancelledError:
            raise SourceClosedError("the file is closed") from None
