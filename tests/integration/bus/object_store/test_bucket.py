"""Objects in a bucket of a real JetStream: ours, nats-py's, and what a decoder's thread reads of them."""

import asyncio
import hashlib
import io
import json
import random
import subprocess
import sys
import threading
from base64 import urlsafe_b64encode
from contextlib import asynccontextmanager

import nats
import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st

from tests.support.waiting import PATIENCE_S, until
from transcriber.bus.client_session import connected
from transcriber.bus.jetstream.client import JetStream
from transcriber.bus.object_store.blocking_source import BlockingSource
from transcriber.bus.object_store.bucket import Bucket, ObjectInfo
from transcriber.bus.object_store.reader import LEAP_CHUNKS, ObjectReader
from transcriber.bus.object_store.upload import CHUNK_BYTES
from transcriber.config import load_settings
from transcriber.errors import (
    DigestError,
    LinkError,
    MissingChunkError,
    ObjectError,
    RefusedError,
    SourceClosedError,
    UnansweredError,
)
from transcriber.tasks import AGAIN_S, cancel
from transcriber.testing.broker import EmbeddedBroker

SETUP = pytest.mark.usefixtures("theirs")


@pytest.fixture
async def theirs(broker):
    """The bucket, as nats-py has it."""
    client = await nats.connect(broker.url)
    yield await client.jetstream().create_object_store("FILES")
    await client.close()


@asynccontextmanager
async def opened(url):
    async with connected(load_settings(nats_url=url), "test") as connection:
        yield Bucket(JetStream(connection), "FILES")


@pytest.fixture
async def ours(broker, theirs):
    """The same bucket, as we have it."""
    async with opened(broker.url) as bucket:
        yield bucket


def noise(size, seed=1):
    return random.Random(seed).randbytes(size)


async def cut(data, piece=50_000):
    for start in range(0, len(data), piece):
        yield data[start : start + piece]


async def reader_of(bucket, name):
    info = await bucket.info(name)
    assert info is not None
    return ObjectReader(bucket, info)


async def read_all(bucket, name):
    reader = await reader_of(bucket, name)
    data = b"".join([piece async for piece in reader.pieces()])
    assert reader.verified
    return data


async def put_raw(bucket, name, pieces, at="raw", between=0, **meta):
    """An upload of chunks of any lengths, with others' messages between them."""
    for piece in pieces:
        await bucket.jetstream.store(bucket.chunk_subject(at), piece, {})
        for _ in range(between):
            await bucket.jetstream.store(bucket.chunk_subject("other"), b"x", {})
    data = b"".join(pieces)
    said = {"name": name, "nuid": at, "size": len(data), "chunks": len(pieces), "digest": digest_of(data)} | meta
    subject = f"$O.{bucket.name}.M.{urlsafe_b64encode(name.encode()).decode()}"
    await bucket.jetstream.store(subject, json.dumps(said).encode(), {"Nats-Rollup": "sub"})


def digest_of(data):
    return "SHA-256=" + urlsafe_b64encode(hashlib.sha256(data).digest()).decode()


async def messages(bucket):
    return (await bucket.jetstream.call(f"STREAM.INFO.{bucket.stream}"))["state"]["messages"]


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 20 * CHUNK_BYTES + 7])
async def test_what_we_store_nats_py_reads_and_the_other_way_round(ours, theirs, size):
    data = noise(size)
    sent: list[int] = []

    stored = await ours.put("a/ü b.mp3", cut(data), sent.append)
    await theirs.put("theirs", data)

    assert (await theirs.get("a/ü b.mp3")).data == data
    assert sent == sorted(sent)
    assert sent[-1:] == ([size] if size else [])
    assert await ours.info("a/ü b.mp3") == stored
    assert stored.digest == (await theirs.get_info("theirs")).digest
    assert [(await reader_of(ours, name)).info.size for name in ("a/ü b.mp3", "theirs")] == [size, size]
    if size:
        assert await read_all(ours, "theirs") == data


async def test_replaced_and_deleted_objects_leave_no_chunks(ours, theirs):
    await ours.put("x", cut(noise(500_000)))
    again = await ours.put("x", cut(noise(10, 2)))
    kept = await messages(ours)
    removed = await ours.delete("x"), await ours.delete("x")

    assert kept == 2  # one chunk, and what makes it an object
    assert again.size == 10
    assert removed == (True, False)
    assert await messages(ours) == 1
    assert await ours.info("x") is None
    assert await ours.info("never") is None
    with pytest.raises(nats.js.errors.ObjectNotFoundError):
        await theirs.get("x")


async def test_only_the_object_that_is_meant_is_deleted(ours):
    before = await ours.put("x", cut(b"before"))
    after = await ours.put("x", cut(b"after"))

    removed = await ours.delete("x", before.digest), await ours.delete("x", after.digest)

    assert removed == (False, True)


async def test_object_that_nats_py_deleted_is_gone_and_its_name_free(ours, theirs):
    await theirs.put("x", b"1")
    await theirs.delete("x")

    assert await ours.info("x") is None
    await ours.put("x", cut(b"2"))
    assert (await theirs.get("x")).data == b"2"


async def test_upload_that_fails_leaves_nothing_and_what_was_there_stays(ours):
    await ours.put("x", cut(b"before"))

    async def breaks():
        yield noise(3 * CHUNK_BYTES)
        raise ValueError("the microphone fell")

    with pytest.raises(ValueError, match="fell"):
        await ours.put("x", breaks())

    assert await messages(ours) == 2
    assert await read_all(ours, "x") == b"before"


async def test_upload_to_a_broker_that_dies_is_an_error_and_can_be_retried(tmp_path):
    broker = EmbeddedBroker(store=tmp_path / "store")
    broker.start()
    async with opened(broker.url) as bucket:
        client = await nats.connect(broker.url)
        await client.jetstream().create_object_store("FILES")
        await client.close()

        async def until_it_dies():
            yield noise(20 * CHUNK_BYTES)
            broker.process.kill()
            broker.process.wait()
            await until(lambda: not bucket.jetstream._connection.connected, "the loss")
            yield noise(CHUNK_BYTES)

        with pytest.raises(UnansweredError, match=r"the broker (is|was) away"):
            await bucket.put("x", until_it_dies())
        with EmbeddedBroker(store=tmp_path / "store", port=broker.port):
            await until(lambda: bucket.jetstream._connection.connected, "the broker")
            assert await bucket.info("x") is None
            await bucket.put("x", cut(b"again"))
            assert await read_all(bucket, "x") == b"again"
    broker.stop()


async def test_full_bucket_is_an_error_and_leaves_nothing(broker, ours, theirs):
    config = (await theirs.status()).stream_info.config
    await theirs._js.update_stream(config.evolve(max_bytes=2**20))

    with pytest.raises(UnansweredError, match="maximum bytes exceeded"):
        await ours.put("x", cut(noise(3 * 2**20)))

    assert await messages(ours) == 0


async def test_upload_that_is_cancelled_leaves_nothing_however_long_the_broker_takes(ours, monkeypatch):
    """Whoever cancels asks again every tenth of a second: what an upload began must not depend on that."""
    call, sent = ours.jetstream.call, asyncio.Event()

    async def slow(name, body=None):
        await asyncio.sleep(4 * AGAIN_S)
        return await call(name, body)

    async def endless():
        while True:
            yield noise(CHUNK_BYTES)

    monkeypatch.setattr(ours.jetstream, "call", slow)
    putting = asyncio.create_task(ours.put("x", endless(), lambda _: sent.set()))
    await sent.wait()
    await cancel([putting])
    monkeypatch.undo()

    async with asyncio.timeout(PATIENCE_S):
        while await messages(ours):  # noqa: ASYNC110 - the broker does not say
            await asyncio.sleep(0.01)


async def fill(bucket, theirs, left_bytes):
    """Make the bucket so large that what is in it leaves just so many bytes."""
    state = (await theirs.status()).stream_info
    await theirs._js.update_stream(state.config.evolve(max_bytes=state.state.bytes + left_bytes))


async def test_object_whose_name_finds_no_room_leaves_no_chunks(ours, theirs):
    await ours.put("before", cut(noise(1000)))
    await fill(ours, theirs, 300)

    with pytest.raises(UnansweredError, match="maximum bytes exceeded"):
        await ours.put("x", cut(noise(100)))

    assert await messages(ours) == 2


async def test_full_bucket_can_be_emptied(ours, theirs):
    await ours.put("x", cut(noise(1000)))
    await fill(ours, theirs, 0)

    assert await ours.delete("x")

    assert await ours.info("x") is None
    assert await messages(ours) == 1


async def test_bucket_that_is_gone_while_it_is_read_is_refused(ours):
    await ours.put("x", cut(noise(10 * CHUNK_BYTES)))
    reader = await reader_of(ours, "x")
    await reader.read_at(0, 10)
    await ours.jetstream.call("STREAM.DELETE.OBJ_FILES")

    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(RefusedError, match="stream not found"):
            await reader.read_at(0, 10 * CHUNK_BYTES)
    await reader.close()


async def test_bucket_that_is_not_there_is_refused(ours):
    with pytest.raises(RefusedError, match="stream not found"):
        await Bucket(ours.jetstream, "NONE").put("x", cut(b"1"))


@pytest.mark.parametrize(
    ("meta", "error"),
    [
        ({"options": {"link": {"bucket": "FILES", "name": "y"}}}, LinkError),
        ({"nuid": ">"}, ObjectError),
        ({"nuid": ""}, ObjectError),
        ({"size": -1}, ObjectError),
        ({"size": "many"}, ObjectError),
    ],
)
async def test_what_is_no_object_is_a_typed_error(ours, meta, error):
    await put_raw(ours, "x", [b"1"], **meta)

    with pytest.raises(error):
        await ours.info("x")


async def test_link_of_nats_py_s_making_can_be_replaced(ours, theirs):
    await put_raw(ours, "x", [b"1"], options={"link": {"bucket": "FILES"}})

    await ours.put("x", cut(b"2"))

    assert await read_all(ours, "x") == b"2"


@pytest.mark.parametrize(
    ("meta", "error"),
    [
        ({"digest": "SHA-256=" + "A" * 43 + "="}, DigestError),
        ({"digest": None}, DigestError),
        ({"digest": "MD5=?"}, DigestError),
        ({"size": 7}, MissingChunkError),
        ({"size": 5}, ObjectError),
    ],
)
async def test_bytes_that_are_not_what_they_should_be_are_a_typed_error(ours, meta, error):
    await put_raw(ours, "x", [b"123", b"456"], **meta)

    with pytest.raises(error):
        await read_all(ours, "x")


async def test_object_that_is_deleted_while_it_is_read_is_a_typed_error(ours):
    await ours.put("x", cut(noise(10 * CHUNK_BYTES)))
    reader = await reader_of(ours, "x")
    await reader.read_at(0, 10)
    await ours.delete("x")

    with pytest.raises(MissingChunkError):
        await reader.read_at(0, 10 * CHUNK_BYTES)
    await reader.close()


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A loop and a bucket that outlive the examples of Hypothesis."""
    with EmbeddedBroker(store=tmp_path_factory.mktemp("store")) as broker, asyncio.Runner() as runner:

        async def start():
            client = await nats.connect(broker.url)
            await client.jetstream().create_object_store("FILES")
            await client.close()
            context = opened(broker.url)
            return context, await context.__aenter__()

        context, bucket = runner.run(start())
        yield runner, bucket
        runner.run(context.__aexit__(None, None, None))


@given(
    count=st.integers(1, 60),
    longest=st.integers(1, 40),
    even=st.booleans(),
    between=st.integers(0, 3),
    reads=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 200)), min_size=1, max_size=12),
)
@hypothesis_settings(max_examples=100, deadline=None)
def test_any_read_of_any_upload_is_the_bytes_at_that_place(many, count, longest, even, between, reads):
    runner, bucket = many
    lengths = [longest if even else random.Random(i).randint(1, longest) for i in range(count)]
    chunks = [noise(length, place) for place, length in enumerate([*lengths, 1])]
    data = b"".join(chunks)

    async def check():
        nuid = hashlib.sha256(repr((lengths, between, reads)).encode()).hexdigest()
        await bucket.jetstream.call("STREAM.PURGE.OBJ_FILES")
        await put_raw(bucket, "x", chunks, nuid, between, options={"max_chunk_size": max(lengths)})
        reader = await reader_of(bucket, "x")
        for place, length in reads:
            offset = int(place * len(data))
            assert await reader.read_at(offset, length) == data[offset : offset + length]
        assert await reader.read_at(len(data), 5) == b""
        assert b"".join([piece async for piece in reader.pieces()]) == data
        assert reader.verified
        await reader.close()

    runner.run(check())


@pytest.mark.parametrize("between", [0, 3])
async def test_far_leap_costs_few_questions_where_the_chunks_are_even(ours, between, monkeypatch):
    chunks = [noise(100, place) for place in range(300)]
    await put_raw(ours, "x", chunks, between=between, options={"max_chunk_size": 100})
    data = b"".join(chunks)
    asked: list[dict[str, int]] = []
    direct = ours.jetstream.direct

    def counted(stream, **which):
        asked.append(which)
        return direct(stream, **which)

    monkeypatch.setattr(ours.jetstream, "direct", counted)
    reader = await reader_of(ours, "x")

    for offset in (29_950, 15_055, 0):
        assert await reader.read_at(offset, 40) == data[offset : offset + 40]

    assert len(asked) < 2 * LEAP_CHUNKS + 16
    await reader.close()


async def test_two_uploads_at_once_do_not_mix(ours):
    first, second = noise(2_000_000, 1), noise(2_000_000, 2)

    await asyncio.gather(ours.put("first", cut(first)), ours.put("second", cut(second)))

    assert [await read_all(ours, name) for name in ("first", "second")] == [first, second]
    reader = await reader_of(ours, "second")
    assert await reader.read_at(1_900_000, 1000) == second[1_900_000:1_901_000]
    await reader.close()


async def test_reader_waits_for_a_broker_that_was_killed(tmp_path):
    broker = EmbeddedBroker(store=tmp_path / "store")
    broker.start()
    data = noise(30 * CHUNK_BYTES)
    async with opened(broker.url) as bucket:
        client = await nats.connect(broker.url)
        await client.jetstream().create_object_store("FILES")
        await client.close()
        await bucket.put("x", cut(data))
        reader = await reader_of(bucket, "x")
        before = await reader.read_at(0, 10 * CHUNK_BYTES)
        broker.process.kill()
        broker.process.wait()

        reading = asyncio.create_task(reader.read_at(10 * CHUNK_BYTES, 20 * CHUNK_BYTES))
        await until(lambda: not bucket.jetstream._connection.connected, "the loss")
        assert not reading.done()
        with EmbeddedBroker(store=tmp_path / "store", port=broker.port):
            after = await reading

            assert before + after == data
            assert reader.verified
    broker.stop()


async def test_headers_of_an_uploader_s_own_mislead_nobody(ours):
    chunks = [noise(10, place) for place in range(40)]
    for chunk in chunks:
        lies = {"Nats-Sequence": "x", "Nats-Num-Pending": "7", "Nats-Time-Stamp": "?", "Status": "404"}
        await ours.jetstream.store(ours.chunk_subject("odd"), chunk, lies)
    data = b"".join(chunks)
    await put_raw(ours, "x", [], "odd", size=400, chunks=40, digest=digest_of(data), options={"max_chunk_size": 10})

    reader = await reader_of(ours, "x")
    late = await reader.read_at(305, 20)
    await reader.close()

    assert late == data[305:325]
    assert await read_all(ours, "x") == data


async def test_thread_reads_what_the_decoder_asks_for(ours):
    data = noise(5 * CHUNK_BYTES)
    await ours.put("x", cut(data))
    source = BlockingSource(await reader_of(ours, "x"))

    def read():
        file, place = io.BytesIO(), 0
        while piece := source.read_at(place, 40_000):
            file.write(piece)
            place += len(piece)
        return file.getvalue(), source.read_at(300_000, 5), source.read_at(len(data) + 9, 1)

    found = await asyncio.to_thread(read)

    assert source.size == len(data)
    assert found == (data, data[300_000:300_005], b"")


async def test_thread_that_waits_for_the_broker_is_let_go(tmp_path):
    broker = EmbeddedBroker(store=tmp_path / "store")
    broker.start()
    async with opened(broker.url) as bucket:
        info = ObjectInfo("x", "none", 5, 1, "")
        reader = ObjectReader(bucket, info)
        source = BlockingSource(reader)
        broker.process.kill()
        broker.process.wait()
        await until(lambda: not bucket.jetstream._connection.connected, "the loss")
        waits = threading.Event()

        def read():
            waits.set()
            source.read_at(0, 1)

        reading = asyncio.create_task(asyncio.to_thread(read))
        await until(waits.is_set, "the thread")
        source.close()

        with pytest.raises(SourceClosedError):
            await reading
        with pytest.raises(SourceClosedError):
            await asyncio.to_thread(source.read_at, 0, 1)
    broker.stop()


UPLOAD_AND_READ = """
import asyncio, resource, sys
from tests.integration.bus.object_store.test_bucket import opened, reader_of
async def zeros(megabytes):
    for _ in range(megabytes):
        yield bytes(2**20)
def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
async def main():
    async with opened(sys.argv[1]) as bucket:
        await bucket.put("small", zeros(8))
        async for _ in (await reader_of(bucket, "small")).pieces(): pass
        before = peak_mb()
        await bucket.put("large", zeros(300))
        reader = await reader_of(bucket, "large")
        assert sum([len(piece) async for piece in reader.pieces()]) == 300 * 2**20 and reader.verified
        print(peak_mb() - before)
asyncio.run(main())
"""


@SETUP
async def test_memory_does_not_grow_with_the_object(broker):
    run = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", UPLOAD_AND_READ, broker.url],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )

    assert run.returncode == 0, run.stderr
    assert float(run.stdout) < 15
