"""Lists of stored messages: whole, or an error; never a part that looks like all."""

import asyncio

import pytest

from tests.support.durable_streams import provisioned
from transcriber.bus.client_session import connected
from transcriber.bus.jetstream import stored_messages
from transcriber.bus.jetstream.client import JetStream
from transcriber.bus.jetstream.stored_messages import BATCH, CONSUMER, listed
from transcriber.config import load_settings
from transcriber.errors import UnansweredError

STORED = 3 * BATCH


@pytest.fixture
async def full(broker, monkeypatch):
    """JetStream, whose stream AUDIO holds more than a batch."""
    monkeypatch.setattr(stored_messages, "ANSWER_S", 0.5)
    await provisioned(broker, "radio-7")
    async with connected(load_settings(nats_url=broker.url), "lister") as connection:
        jetstream = JetStream(connection)
        for _ in range(STORED // 100):
            await asyncio.gather(*(jetstream.store("audio.radio-7", b"1234", {}) for _ in range(100)))
        yield jetstream


async def sequences(jetstream, after_first=None):
    found: list[int] = []
    async for one in listed(jetstream, "AUDIO", "audio.radio-7", STORED):
        if not found and after_first:
            await after_first()
        found.append(one.seq)
    return found


async def test_two_lists_of_one_subject_at_once_are_both_whole(full):
    one, other = await asyncio.gather(sequences(full), sequences(full))

    assert one == other == list(range(1, STORED + 1))


@pytest.mark.parametrize("lost", [10, 2 * BATCH], ids=["some", "the-rest"])
async def test_a_list_of_which_messages_were_lost_on_their_way_is_an_error(full, lost):
    async def others_take_them():
        subscription = await full.client.jetstream().pull_subscribe_bind(CONSUMER, "AUDIO")
        left = lost
        while left:
            left -= len(await subscription.fetch(left))
        await subscription.unsubscribe()

    with pytest.raises(UnansweredError, match="AUDIO is not listed"):
        await sequences(full, others_take_them)


async def test_a_list_whose_consumer_is_gone_says_so(full):
    async def gone():
        await full.call(f"CONSUMER.DELETE.AUDIO.{CONSUMER}")

    with pytest.raises(UnansweredError, match="AUDIO is not listed"):
        await sequences(full, gone)


async def test_what_is_removed_meanwhile_is_not_listed_and_no_error(full):
    async def removed():
        await full.call("STREAM.PURGE.AUDIO")

    found = await sequences(full, removed)

    assert found == list(range(1, len(found) + 1))
    assert BATCH <= len(found) < STORED
