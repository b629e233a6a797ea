"""A bucket and a file are followed, as long as they can be read."""

import asyncio
import contextlib
import logging

import pytest

from tests.support.live_settings import BUCKET, provision_bucket, put
from tests.support.waiting import until
from transcriber.bus.client_session import connected
from transcriber.bus.config_bucket import ConfigBucket, followed
from transcriber.bus.connection import Connection
from transcriber.bus.jetstream.client import JetStream
from transcriber.config import load_settings
from transcriber.errors import RequestError, UnansweredError
from transcriber.live_settings import watch
from transcriber.live_settings.live import LiveSettings
from transcriber.live_settings.watch import BucketSource, FileSource, SettingsWatch
from transcriber.logs import RateLimited
from transcriber.testing.broker import EmbeddedBroker

KEY = "global.whisper_prompt"


def watched(source):
    """A daemon's settings, and what follows ``source``."""
    live = LiveSettings(load_settings(config_bucket=BUCKET), "pod-1", lambda _: True)
    return live, SettingsWatch(source, live, RateLimited(logging.getLogger("transcriber")))


def prompt(live):
    return live.stream("s").now.whisper_prompt


async def test_while_the_bucket_is_away_all_stays_as_it_is(broker, publisher, monkeypatch, tmp_path):
    """It is not there yet; it has a value; its broker is gone; it was made anew, and counts from 1 again."""
    monkeypatch.setattr(watch, "FIRST_S", 0.5)
    settings = load_settings(nats_url=broker.url)
    async with connected(settings, "test") as connection:
        source = BucketSource(ConfigBucket(JetStream(connection), BUCKET))
        live, watching = watched(source)
        await watching.begin()
        assert (prompt(live), live.refused) == (None, 1)

        await provision_bucket(broker)
        await put(publisher, KEY, "first")
        await put(publisher, KEY, "names")
        await watching.begin()
        assert (prompt(live), live.refused) == ("names", 0)
        assert [one.entry.revision for one in live.layers.held.values()] == [2]
        assert await source.changed() is None

        broker.stop()
        await until(lambda: not connection.connected, "the end of the connection")
        await watching.begin()
        assert (prompt(live), live.refused) == ("names", 1)

        with EmbeddedBroker(store=tmp_path / "store", port=broker.port):
            await until(lambda: connection.connected and publisher.is_connected, "the broker")
            await publisher.jetstream().delete_key_value(BUCKET)
            await watching.begin()
            assert (prompt(live), live.refused) == ("names", 1)

            await provision_bucket(broker)
            await put(publisher, KEY, "others")
            await watching.begin()
            assert (prompt(live), live.refused) == ("others", 0)
            await put(publisher, KEY, None)
            await watching.begin()
            assert prompt(live) is None


async def test_following_a_bucket_says_nothing_of_whether_a_broker_is_cut_off(broker, monkeypatch):
    """Live audio goes on without JetStream, and a bucket's one copy may be on the broker that is cut off."""
    answered = []
    monkeypatch.setattr(Connection, "jetstream_answered", lambda _, by_leader: answered.append(by_leader))
    for provisioned in (False, True):
        if provisioned:
            await provision_bucket(broker)
            answered.clear()
        async with connected(load_settings(nats_url=broker.url), "test") as connection:
            live, watching = watched(BucketSource(ConfigBucket(followed(connection), BUCKET)))
            await watching.begin()
            assert live.refused == int(not provisioned)
    with EmbeddedBroker() as without_jetstream:
        async with connected(load_settings(nats_url=without_jetstream.url), "test") as connection:
            live, watching = watched(BucketSource(ConfigBucket(followed(connection), BUCKET)))
            await watching.begin()
            assert live.refused == 1
            assert answered == []
            with contextlib.suppress(UnansweredError):
                await JetStream(connection).call("INFO")
            assert answered == [False]


async def test_values_of_a_key_are_kept_when_it_is_deleted_and_gone_when_it_is_purged(broker, publisher):
    await provision_bucket(broker)
    bucket = await publisher.jetstream().key_value(BUCKET)
    async with connected(load_settings(nats_url=broker.url), "test") as connection:
        source = BucketSource(ConfigBucket(followed(connection), BUCKET))
        live, watching = watched(source)
        for value in ("Ada Lovelace", "Grace Hopper"):
            await put(publisher, KEY, value)
        await put(publisher, KEY, None)
        assert [one.value for one in await bucket.history(KEY)] == [b"Ada Lovelace", b"Grace Hopper", b""]

        await bucket.purge(KEY)

        assert [one.value for one in await bucket.history(KEY)] == [b""]
        await watching.begin()
        assert (prompt(live), live.refused) == (None, 0)


async def test_who_changed_a_key_is_known_if_they_say_so(broker, publisher):
    await provision_bucket(broker)
    async with connected(load_settings(nats_url=broker.url), "test") as connection:
        bucket = ConfigBucket(JetStream(connection), BUCKET)
        await bucket.put(KEY, "names", by="ada")
        await bucket.put(KEY, None, by="bob")
        await put(publisher, KEY, "more")

        said = await bucket.changed()

    assert said == [(KEY, "names", 1, "ada"), (KEY, None, 2, "bob"), (KEY, "more", 3, "")]


@pytest.mark.parametrize(("history", "warnings"), [(1, 1), (64, 0)])
async def test_a_bucket_that_keeps_too_few_values_is_said_once(broker, publisher, caplog, history, warnings):
    await publisher.jetstream().create_key_value(bucket=BUCKET, history=history)
    async with connected(load_settings(nats_url=broker.url), "test") as connection:
        bucket = ConfigBucket(JetStream(connection), BUCKET)
        await bucket.changed()
        await bucket.changed()

    assert sum("keeps 1 of the values of a key, not 64" in one.getMessage() for one in caplog.records) == warnings


async def test_a_file_is_followed_also_behind_a_symbolic_link(tmp_path):
    """As a ConfigMap is mounted: a link to a folder that is replaced."""
    path = tmp_path / "data" / "live.toml"

    def mount(version, text):
        folder, link = tmp_path / version, tmp_path / "new"
        folder.mkdir()
        (folder / "live.toml").write_text(text)
        link.symlink_to(folder)
        link.rename(tmp_path / "data")

    live, watching = watched(FileSource(path))
    await watching.begin()
    assert live.refused == 1
    mount("v1", 'global.speech_threshold = 0.6\n[stream."s="]\nwhisper_prompt = "names"\n')
    await watching.begin()
    assert (live.stream("s").now.speech_threshold, prompt(live), live.refused) == (0.6, "names", 0)
    mount("v2", 'global.speech_threshold = 6\nglobal.speech_gate = false\n[stream."s="]\nwhisper_prompt = "more"\n')
    await watching.begin()
    assert (live.stream("s").now.speech_threshold, prompt(live), live.refused) == (0.6, "more", 1)
    assert not live.stream("s").now.speech_gate
    mount("v3", "global.speech_threshold = ")
    await watching.begin()
    assert (live.stream("s").now.speech_threshold, prompt(live), live.refused) == (0.6, "more", 2)
    mount("v4", "")
    await watching.begin()
    assert (live.stream("s").now, live.refused) == (live.base, 0)


async def test_another_model_is_asked_for_once_and_again_while_a_swap_is_under_way(tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "POLL_S", 0.01)
    path = tmp_path / "live.toml"
    path.write_text('global.whisper_model = "base.en"\n')
    live, watching = watched(FileSource(path))
    asked: list[str] = []

    def swap(name):
        asked.append(name)
        if len(asked) == 1:
            raise RequestError(409, "a swap is under way")
        return asyncio.get_running_loop().create_future()

    await watching.begin()
    following = asyncio.create_task(watching.run(swap))
    await until(lambda: len(asked) == 2, "the second attempt")
    path.write_text('global.whisper_model = "../base.en"\n')
    await until(lambda: live.refused == 1, "a refusal")
    path.write_text("")
    await until(lambda: len(asked) == 3, "the model of the environment")
    following.cancel()

    assert asked == ["base.en", "base.en", ""]
