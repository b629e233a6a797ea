"""Decoding off the event loop. In: functions that block, and files. Out: what they return, and pieces of PCM.

Clips share a few threads; live chunks share others, so that they wait for no clip; a file, which takes hours, has one of its
own. Threads are those of executors: a decoder that hangs cannot be stopped, so nothing waits for it, and the command line leaves
it behind when the process ends.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from transcriber.audio.media.open import open_media
from transcriber.audio.media.pieces import Media, Piece
from transcriber.audio.media.sources import Source
from transcriber.pipeline import DECODING_THREAD

THREADS = 2

_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file that a thread of its own decodes, one piece on demand.

    Attributes:
        media: its format and length.
        pieces: its audio; may be iterated once.
    """

    media: Media
    pieces: AsyncGenerator[Piece, None]


class DecoderPool:
    """Event loop only."""

    def __init__(self, threads: int = THREADS) -> None:
        self._pool = ThreadPoolExecutor(threads, f"{DECODING_THREAD}clips")

    async def run(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """What ``function`` returns, from a thread of the pool; a cancelled caller does not wait for it.

        Raises:
            RuntimeError: the pool is closed.
        """
        return await asyncio.wrap_future(self._pool.submit(function, *args, **kwargs))

    def close(self) -> None:
        """Cancel what waits; what runs is left behind."""
        self._pool.shutdown(wait=False, cancel_futures=True)


async def run_alone(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """What a slow ``function`` returns, from a thread of its own; a cancelled caller does not wait for it."""
    thread = ThreadPoolExecutor(1, f"{DECODING_THREAD}long")
    try:
        return await asyncio.wrap_future(thread.submit(function, *args, **kwargs))
    finally:
        thread.shutdown(wait=False)


@asynccontextmanager
async def open_file(source: Source, first: int = 0) -> AsyncIterator[OpenFile]:
    """Open a file on a thread of its own, which also reads ``source``; from frame ``first`` on, as in ``open_media``.

    Raises:
        MediaError: it cannot be decoded.
    """
    thread = ThreadPoolExecutor(1, f"{DECODING_THREAD}file")
    media: Media | None = None
    try:
        media = await asyncio.wrap_future(thread.submit(open_media, source, first))
        async with aclosing(_pieces(thread, media)) as pieces:
            yield OpenFile(media, pieces)
    finally:
        if media is not None:
            thread.submit(media.pieces.close)  # after the piece that it may be decoding
        thread.shutdown(wait=False)


async def _pieces(thread: ThreadPoolExecutor, media: Media) -> AsyncGenerator[Piece, None]:
    while piece := await asyncio.wrap_future(thread.submit(next, media.pieces, None)):
        yield piece
