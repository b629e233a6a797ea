"""Three real brokers, of which one is cut off: it says that nothing is there, and is not believed."""

import asyncio
import contextlib
import time

import pytest

from bench.chaos.cluster import Cluster
from tests.support.waiting import PATIENCE_S, until
from transcriber.bus import isolation
from transcriber.bus.connection import Connection
from transcriber.bus.jetstream.certainty import surely
from transcriber.bus.jetstream.client import JetStream
from transcriber.bus.jetstream.file_streams import FILES_BUCKET
from transcriber.bus.jetstream.provision import provision
from transcriber.bus.object_store.bucket import Bucket
from transcriber.config import load_settings
from transcriber.errors import JetStreamError, RefusedError, UnansweredError


@contextlib.asynccontextmanager
async def bucket_at(url):
    connection = Connection()
    await connection.open(load_settings(nats_url=url), "test")
    try:
        yield Bucket(JetStream(connection), FILES_BUCKET)
    finally:
        await connection.close()


async def refusal(settings):
    """Why JetStream refuses what the settings need; empty if it is made. A young cluster does not know all its brokers yet."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                await provision(settings, (), check=False, say=str)
            except JetStreamError as error:
                if "offline" not in str(error):
                    return str(error)
            else:
                return ""


@pytest.mark.long
async def test_a_broker_that_is_cut_off_is_not_believed_that_something_is_gone(tmp_path):
    async with Cluster(tmp_path, parted=True) as cluster:
        url = ",".join(cluster.urls)
        settings = load_settings(nats_url=url, files=True, stream_replicas=3, transcript_max_bytes=2**20)
        assert "no room for the stream OBJ_AUDIO_FILES: FILES_MAX_BYTES=8589934592 is" in await refusal(settings)
        assert not await refusal(settings.model_copy(update={"files_max_bytes": 2**20}))
        leader = await cluster.leader_of("OBJ_AUDIO_FILES")
        async with bucket_at(cluster.url_of(leader)) as bucket:

            async def absent():
                return await surely(bucket.jetstream, bucket.stream, lambda: bucket.info("file"))

            assert await absent() is None
            async with cluster.parted(leader):
                deadline_s = time.monotonic() + PATIENCE_S
                answers: list[object] = []
                while "cut off" not in str(answers[-1:]):  # the others have answered it until now
                    assert time.monotonic() < deadline_s, answers
                    try:
                        answers.append(await absent())
                    except UnansweredError as error:
                        answers.append(error)
                    await asyncio.sleep(0.1)
                # It answers all the same: a daemon that asked it alone would give the file up.
                assert await bucket.info("file") is None


def at(connection, url):
    """Whether it is connected to that broker, or was last."""
    return not connection.connected or url.endswith(connection.server)


# It answers no store at once; questions it does, after some 20 s as one that knows no leader.
@pytest.mark.parametrize(
    "ask",
    [
        lambda js: js.store("audio.s", b"", {}, 1.0),
        lambda js: js.call("STREAM.INFO.AUDIO"),
        lambda js: js.call("CONSUMER.INFO.AUDIO.c"),
    ],
    ids=["store", "stream", "consumer"],
)
@pytest.mark.long
async def test_a_broker_that_is_cut_off_is_left_for_another(tmp_path, monkeypatch, ask):
    monkeypatch.setattr(isolation, "ISOLATED_S", 1.0)
    monkeypatch.setattr("random.shuffle", lambda _: None)  # the first address first
    async with Cluster(tmp_path, parted=True) as cluster:
        url = ",".join(cluster.urls)
        small = {"transcript_max_bytes": 2**20, "audio_max_bytes": 2**20}
        assert not await refusal(load_settings(nats_url=url, stream_replicas=3, **small))
        leader = await cluster.leader_of("AUDIO")
        connection = Connection()
        other = next(url for url in cluster.urls if url != cluster.url_of(leader))
        await connection.open(load_settings(nats_url=f"{cluster.url_of(leader)},{other}"), "test")
        try:
            assert at(connection, cluster.url_of(leader))
            async with cluster.parted(leader), asyncio.timeout(PATIENCE_S):
                while at(connection, cluster.url_of(leader)):
                    with contextlib.suppress(UnansweredError, RefusedError):
                        await ask(JetStream(connection))
                    await asyncio.sleep(0.05)
                await until(lambda: connection.connected, "the other broker")
                while True:  # the other two elect a leader
                    with contextlib.suppress(UnansweredError):
                        await JetStream(connection).store("audio.s", b"", {})
                        break
                    await asyncio.sleep(0.05)
        finally:
            await connection.close()
