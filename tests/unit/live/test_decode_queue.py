"""What waits to be decoded: in order, bounded, and nobody else waits for it."""

import asyncio
import threading
from itertools import pairwise
from typing import Any

import pytest

from tests.support.webm_ogg import RATE, cluster, encode, opus_packets, simple_block, sliced, webm_head
from transcriber.audio.codecs.opus_decoder import OpusDecoder
from transcriber.audio.headers import AudioHeaders
from transcriber.live.decode_queue import CHUNK_BYTES, MAX_WAITING_BYTES, DecodeQueue
from transcriber.live.payload import LivePayload
from transcriber.pipeline.decoder_pool import DecoderPool
from transcriber.schema.arrival import Arrival
from transcriber.testing.speech import load_speech

OPUS = AudioHeaders(content_type="audio/opus")
WEBM = AudioHeaders(content_type="audio/webm")


class Notes:
    """Records what it is given."""

    def __init__(self):
        self.frames, self.began = 0, 0
        self.heard: list[Any] = []
        self.refused: list[Any] = []

    def handle(self, chunk):
        self.heard.append(chunk)
        if chunk.headers.content_type:
            self.frames += len(chunk.data) // 2

    def refuse(self, chunk, reason, fmt, *, count):
        self.refused.append((chunk, reason, count))

    def restart(self, chunk):
        self.began += 1


def chunk_of(payload, headers=OPUS, lost_before=None):
    return LivePayload(payload, headers, lost_before, Arrival.now(), 0.0)


@pytest.fixture
def notes():
    return Notes()


@pytest.fixture
def crashes():
    return []


@pytest.fixture
def decoding():
    pool = DecoderPool(threads=1)
    yield pool
    pool.close()


@pytest.fixture
def chunks(notes, crashes, decoding):
    return DecodeQueue(decoding, notes, lambda task: crashes.append(task.exception()), max_hole_s=600)


async def test_chunks_are_taken_in_order_while_others_continue(chunks, notes):
    packets = opus_packets(load_speech()[0].pcm)[:50]
    for number, packet in enumerate(packets):
        assert chunks.put(chunk_of(packet, AudioHeaders(content_type="audio/opus", offset=960 * number)))

    assert not notes.heard
    await chunks.drained()

    assert [chunk.headers.offset for chunk in notes.heard if chunk.data] == [960 * n for n in range(50)]
    assert notes.frames == 50 * 960
    assert not chunks.busy
    assert not chunks.idle
    chunks.put(chunk_of(b"", AudioHeaders(end=True)))
    await chunks.drained()
    assert chunks.idle
    assert notes.heard[-1].headers.end


async def test_what_waits_is_bounded_and_the_rest_is_refused(chunks, notes, decoding):
    """While nothing is decoded, as the thread is busy."""
    go = threading.Event()
    busy = asyncio.create_task(decoding.run(go.wait))
    size = MAX_WAITING_BYTES // 8 - CHUNK_BYTES

    taken = [chunks.put(chunk_of(bytes(size), WEBM)) for _ in range(10)]
    await asyncio.sleep(0)
    heartbeats = sum(chunks.put(chunk_of(b"")) for _ in range(10_000))

    assert taken == [True] * 8 + [False] * 2
    assert heartbeats == 0
    assert chunks.put(chunk_of(b"", AudioHeaders(end=True)), last=True)
    go.set()
    await busy
    await chunks.drained()
    assert notes.heard[-1].headers.end
    assert [count for _, _, count in notes.refused] == [True] * 8


async def test_one_chunk_may_always_wait(chunks):
    assert chunks.put(chunk_of(bytes(MAX_WAITING_BYTES + 1), WEBM))
    assert not chunks.put(chunk_of(b"x", WEBM))
    await chunks.drained()


async def test_why_something_was_lost_goes_with_the_samples_after_the_hole(chunks, notes):
    pieces = sliced(encode(load_speech()[0].pcm), [2_000])
    for number, piece in enumerate(pieces):
        if number != 3:
            chunks.put(chunk_of(piece, WEBM, "slow_consumer" if number == 4 else None))
    await chunks.drained()

    reasons = [chunk.lost_before for chunk in notes.heard if chunk.data]
    assert [reason for reason in reasons if reason] == ["slow_consumer"]
    (after,) = [number for number, reason in enumerate(reasons) if reason]
    decoded = [chunk for chunk in notes.heard if chunk.data]
    hole = decoded[after].headers.offset - decoded[after - 1].headers.offset - len(decoded[after - 1].data) // 2
    assert 0.2 * RATE < hole < RATE
    assert not notes.refused


@pytest.mark.parametrize("instead", ["a heartbeat", "a type that is not read"])
async def test_what_was_lost_is_missed_by_the_decoder_whatever_comes_first(chunks, notes, instead):
    """Else the bytes behind the hole would be read as those of the block before it."""
    pieces = sliced(encode(load_speech()[0].pcm), [2_000])
    hole = {
        "a heartbeat": chunk_of(b"", WEBM, "slow_consumer"),
        "a type that is not read": chunk_of(pieces[3], AudioHeaders(content_type="audio/flac")),
    }[instead]
    for number, piece in enumerate(pieces):
        chunks.put(hole if number == 3 else chunk_of(piece, WEBM))
    await chunks.drained()

    assert {chunk for chunk, _, _ in notes.refused} <= {hole}
    decoded = [chunk for chunk in notes.heard if chunk.data]
    holes = [after.headers.offset - one.headers.offset - len(one.data) // 2 for one, after in pairwise(decoded)]
    assert len([hole for hole in holes if hole]) == 1


async def test_what_is_given_up_is_counted(chunks, notes, decoding):
    go = threading.Event()
    busy = asyncio.create_task(decoding.run(go.wait))
    for _ in range(5):
        chunks.put(chunk_of(b"\xf8\xff\xfe"))
    await asyncio.sleep(0)

    left = chunks.cancel()
    go.set()
    await busy
    await chunks.drained()

    assert left == 5
    assert not notes.heard
    assert chunks.idle


async def test_a_listener_that_raises_is_no_silent_death(chunks, notes, crashes, monkeypatch):
    monkeypatch.setattr(notes, "handle", None)

    chunks.put(chunk_of(b"\xf8\xff\xfe"))
    await chunks.drained()
    await asyncio.sleep(0)

    assert [type(error) for error in crashes] == [TypeError]


async def test_what_decodes_to_much_more_is_taken_a_second_at_a_time(chunks, notes):
    """Packets of 120 ms in two bytes."""
    blocks = [simple_block(b"\xfb\x06", 120 * (number % 200)) for number in range(2_000)]
    clusters = [cluster(24_000 * number, *blocks[200 * number : 200 * (number + 1)]) for number in range(10)]
    chunks.put(chunk_of(webm_head() + b"".join(clusters), WEBM))

    turns = 0
    while chunks.busy:
        await asyncio.sleep(0)
        turns += 1

    assert notes.frames == 240 * RATE - 312
    assert max(len(chunk.data) for chunk in notes.heard) <= 2 * RATE
    assert turns > 240


async def test_a_fault_of_the_decoder_costs_the_chunk_and_not_the_daemon(chunks, notes, crashes, monkeypatch):
    packet = b"\xf8\xff\xfe"
    chunks.put(chunk_of(packet))
    await chunks.drained()
    with monkeypatch.context() as patched:
        patched.setattr(OpusDecoder, "decode", lambda *_: 1 // 0)
        chunks.put(chunk_of(packet))
        await chunks.drained()
    chunks.put(chunk_of(packet, AudioHeaders()))  # what it is was said with the first
    await chunks.drained()

    assert [reason for _, reason, _ in notes.refused] == ["it does not decode: ZeroDivisionError"]
    assert (notes.frames, notes.began) == (2 * 960, 1)
    assert crashes == [None] * 3
