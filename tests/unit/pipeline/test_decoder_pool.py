import asyncio
import threading

import pytest

from tests.support.media_files import Trickle, make
from tests.support.waiting import until
from transcriber.audio.media.open import open_media
from transcriber.errors import MediaError
from transcriber.pipeline import DECODING_THREAD
from transcriber.pipeline.decoder_pool import DecoderPool, open_file


class Stuck(Trickle):
    """A source that stops after its first bytes until it is let go."""

    def __init__(self, data: bytes, after: int) -> None:
        super().__init__(data)
        self.after = after
        self.waits = threading.Event()
        self.go = threading.Event()

    def read_at(self, offset: int, length: int) -> bytes:
        if self.given > self.after:
            self.waits.set()
            self.go.wait(60)
        return super().read_at(offset, length)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(DECODING_THREAD)]


@pytest.fixture
async def decoding():
    decoding = DecoderPool()
    yield decoding
    decoding.close()


async def test_a_clip_is_decoded_in_a_thread_of_the_pool(decoding):
    data = make("flac")

    def decode() -> tuple[str, list[object]]:
        return threading.current_thread().name, list(open_media(data).pieces)

    name, pieces = await decoding.run(decode)

    assert name.startswith(f"{DECODING_THREAD}clips")
    assert pieces == list(open_media(data).pieces)


async def test_an_error_arrives_as_it_was_raised(decoding):
    with pytest.raises(MediaError, match="no audio file"):
        await decoding.run(open_media, b"nothing of the kind")


async def test_a_file_has_a_thread_of_its_own_and_gives_a_piece_when_asked(decoding):
    source = Trickle(make("wav s16"))
    expected = list(open_media(make("wav s16")).pieces)

    async with open_file(source) as file:
        assert [name for name in threads() if "file" in name]
        first = await anext(file.pieces)
        given = source.given
        await decoding.run(str)  # the threads have had time to continue
        assert source.given == given < 150_000
        rest = [piece async for piece in file.pieces]

    assert [first, *rest] == expected
    await until(lambda: not [name for name in threads() if "file" in name])


async def test_who_is_cancelled_does_not_wait_for_the_decoder(decoding):
    source = Stuck(make("ogg flac"), after=60_000)
    decoding_it = asyncio.create_task(decoding.run(lambda: list(open_media(source).pieces)))
    await asyncio.to_thread(source.waits.wait, 60)

    decoding_it.cancel()
    with pytest.raises(asyncio.CancelledError):
        await decoding_it

    assert await decoding.run(str) == ""  # there is another thread
    source.go.set()


async def test_closing_cancels_what_waits_and_leaves_what_hangs(decoding):
    hanging = [Stuck(make("ogg flac"), after=60_000) for _ in range(2)]
    running = [asyncio.create_task(decoding.run(open_media, source)) for source in hanging]
    drained = [asyncio.create_task(decoding.run(lambda s=source: list(open_media(s).pieces))) for source in hanging]
    waiting = asyncio.create_task(decoding.run(str))
    for source in hanging:
        await asyncio.to_thread(source.waits.wait, 60)

    decoding.close()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.raises(RuntimeError):
        await decoding.run(str)
    for source in hanging:
        source.go.set()
    await asyncio.gather(*running, *drained, return_exceptions=True)
    await until(lambda: not threads())
