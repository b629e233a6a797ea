"""A durable pull consumer as a feed of payloads, on a real JetStream: in order, each once, none missing."""

import asyncio
import contextlib
from datetime import UTC, datetime

import pytest

from tests.support.durable_streams import provisioned
from tests.support.hostile_protocol import publication, publish_raw
from tests.support.stopwatch import Stopwatch
from tests.support.waiting import PATIENCE_S, settled
from transcriber.bus.connection import Connection
from transcriber.bus.jetstream import client as jetstream_module
from transcriber.bus.jetstream.provision import consumer_name
from transcriber.config import load_settings
from transcriber.durable import pull_request
from transcriber.durable.consumer import Consumer
from transcriber.durable.delivery_order import Delivery, DeliveryOrder
from transcriber.durable.payload_source import Payload
from transcriber.errors import RefusedError
from transcriber.testing.broker import EmbeddedBroker


class Edge:
    """The client's edge: what is delivered passes through here, and may be dropped or kept back.

    Attributes:
        drop: which deliveries never arrive, by stream sequence.
        hold: whether they are kept back.
    """

    def __init__(self, feed):
        self.feed = feed
        self.drop = set()
        self.hold = False
        self.held = []

    async def pass_on(self, message):
        ack = message.reply.split(".")
        seq = int(ack[5]) if message.reply.startswith("$JS.ACK.") else None
        if seq in self.drop:
            self.drop.discard(seq)
        elif self.hold:
            self.held.append(message)
        else:
            self.feed.deliver(message)


@contextlib.asynccontextmanager
async def feeding(broker, start=1):
    """A feed of the stream ``s``, and the edge before it."""
    connection = Connection()
    await connection.open(load_settings(nats_url=broker.url), name="test")
    inbox = connection.client.new_inbox()
    feed = Consumer(connection, f"{inbox}.s", "AUDIO", consumer_name("s"), "audio.s")
    edge = Edge(feed)
    # Payloads come with their own subject, heartbeats with that of the request.
    await connection.subscribe(f"{inbox}.*.*", edge.pass_on)
    connection.on_back = feed.connection_lost
    feed.start(start)
    try:
        yield feed, edge
    finally:
        await connection.close()


async def published(publisher, first, last, subject="audio.s"):
    for number in range(first, last + 1):
        await publisher.jetstream().publish(subject, str(number).encode())


async def taken(feed, count):
    """The next so many payloads."""
    found: list[Payload] = []
    async with asyncio.timeout(PATIENCE_S):
        while len(found) < count:
            if payload := await feed.next(0.5):
                found.append(payload)
    return found


def numbers(payloads):
    return [int(payload.data) for payload in payloads]


async def floor(publisher):
    return (await publisher.jetstream().consumer_info("AUDIO", "transcriber-s")).ack_floor.stream_seq


@pytest.mark.parametrize("old_server", [False, True], ids=["reset", "made again"])
async def test_dropped_delivery_is_delivered_again_before_what_follows(broker, publisher, monkeypatch, old_server):
    if old_server:
        monkeypatch.setattr(jetstream_module, "RESET_SINCE", (99, 0))
    await provisioned(broker, "s")
    await published(publisher, 1, 30)
    async with feeding(broker) as (feed, edge):
        edge.drop = {5, 17, 30}
        payloads = await taken(feed, 30)
        assert await feed.next(0.1) is None

    assert numbers(payloads) == list(range(1, 31))
    assert [payload.seq for payload in payloads] == list(range(1, 31))
    assert 1 <= feed.resets <= 3


async def test_others_payloads_are_no_holes(broker, publisher):
    await provisioned(broker, "s")
    for number in range(1, 6):
        await published(publisher, number, number)
        await published(publisher, 100, 102, "audio.other")
    async with feeding(broker) as (feed, _):
        assert numbers(await taken(feed, 5)) == [1, 2, 3, 4, 5]
        assert feed.resets == 0


async def test_stale_deliveries_after_a_reset_are_passed_over(broker, publisher):
    """The connection stays, but all that was delivered comes after the consumer was reset, and then comes again."""
    await provisioned(broker, "s")
    await published(publisher, 1, 20)
    async with feeding(broker) as (feed, edge):
        assert numbers(await taken(feed, 3)) == [1, 2, 3]
        edge.hold, rest = True, []
        feed.connection_lost()
        async with asyncio.timeout(PATIENCE_S):
            while len(edge.held) < 20:  # the consumer was reset, and it delivers again
                rest += [payload] if (payload := await feed.next(0.05)) else []
        feed.connection_lost()
        edge.hold = False
        for message in edge.held:
            feed.deliver(message)
        await published(publisher, 21, 22)
        rest += await taken(feed, 22 - feed.taken_seq)

    assert numbers(rest) == list(range(4, 23))


async def test_hidden_messages_are_asked_for_by_name_and_never_loop(broker, publisher):
    await provisioned(broker, "s")
    bad = b"NATS/1.0\r\nno colon\xff\r\n\r\n"
    await publish_raw(broker, [publication(b"audio.s", bad, b"1"), publication(b"audio.s", bad, b"2")])
    await published(publisher, 3, 4)
    await publish_raw(broker, [publication(b"audio.s", bad, b"5")])
    async with feeding(broker) as (feed, _):
        assert numbers(await taken(feed, 5)) == [1, 2, 3, 4, 5]
        await feed.acknowledge(6)
        resets = feed.resets
        await published(publisher, 6, 8)
        assert numbers(await taken(feed, 3)) == [6, 7, 8]
        assert await feed.next(2.5) is None
        assert feed.resets <= resets + 1 <= 8
        assert feed.idle


async def test_starting_over_hides_nothing(broker, publisher):
    await provisioned(broker, "s")
    await publish_raw(broker, [publication(b"audio.s", b"NATS/1.0 \xff\r\n\r\n", b"1")])
    await published(publisher, 2, 3)
    async with feeding(broker) as (feed, _):
        assert numbers(await taken(feed, 3)) == [1, 2, 3]
        feed.start(1)
        assert numbers(await taken(feed, 3)) == [1, 2, 3]


async def test_nothing_is_acknowledged_but_what_was_published(broker, publisher):
    await provisioned(broker, "s")
    await published(publisher, 1, 10)
    async with feeding(broker) as (feed, edge):
        await taken(feed, 10)
        assert await floor(publisher) == 0
        await feed.acknowledge(5)
        async with asyncio.timeout(PATIENCE_S):
            while await floor(publisher) != 4:  # noqa: ASYNC110 - the broker's
                await asyncio.sleep(0.01)
        # Put back, by a hole or by another daemon, it stays.
        edge.drop = {11}
        await published(publisher, 11, 12)
        assert numbers(await taken(feed, 2)) == [11, 12]
        assert await floor(publisher) == 4


async def test_long_backlog_needs_no_reset(broker, publisher):
    await provisioned(broker, "s")
    for number in range(1, 1001):
        await publisher.publish("audio.s", str(number).encode())
    await settled(publisher)
    async with feeding(broker) as (feed, _):
        assert numbers(await taken(feed, 1000)) == list(range(1, 1001))
        assert feed.resets == 0


async def test_what_lies_ready_is_bounded_in_bytes(broker, publisher):
    await provisioned(broker, "s")
    for _ in range(40):
        await publisher.jetstream().publish("audio.s", bytes(200_000))
    async with feeding(broker) as (feed, _):
        most = 0
        for _ in range(30):
            await taken(feed, 1)
            await asyncio.sleep(0.01)
            most = max(
                most,
                (await publisher.jetstream().consumer_info("AUDIO", "transcriber-s")).delivered.stream_seq
                - feed.taken_seq,
            )
    print("ahead", most)
    assert most * 200_000 < 2 * pull_request.BATCH_BYTES


async def test_no_silence_is_certain_while_the_broker_is_away(tmp_path, publisher_to):
    broker = EmbeddedBroker(store=tmp_path / "store")
    broker.start()
    try:
        await provisioned(broker, "s")
        await published(await publisher_to(broker), 1, 1)
        async with feeding(broker) as (feed, _):
            await taken(feed, 1)
            async with asyncio.timeout(PATIENCE_S):
                while not feed.idle:
                    await feed.next(0.1)
            broker.process.kill()
            async with asyncio.timeout(PATIENCE_S):
                while feed.idle:
                    await feed.next(0.1)
            assert await feed.next(0.5) is None
            assert not feed.idle
    finally:
        broker.stop()


async def test_missing_consumer_is_refused_at_once(broker, publisher):
    await provisioned(broker)
    async with feeding(broker) as (feed, _):
        watch = Stopwatch()
        with pytest.raises(RefusedError, match="consumer not found"):
            await feed.next(PATIENCE_S)
        assert watch.own_s < 1


async def test_feed_that_leaves_lets_its_request_run_out(broker, publisher, monkeypatch):
    monkeypatch.setattr(pull_request, "PULL_S", 0.5)
    monkeypatch.setattr(pull_request, "HEARTBEAT_S", 0.2)
    monkeypatch.setattr("transcriber.durable.consumer.HEARTBEAT_S", 0.2)
    await provisioned(broker, "s")
    await published(publisher, 1, 1)
    async with feeding(broker) as (feed, _):
        await taken(feed, 1)
        feed.stop_pulling()
        async with asyncio.timeout(PATIENCE_S):
            while not feed.exhausted:
                assert await feed.next(0.1) is None
        assert (await feed.info())["num_waiting"] == 0


def delivery(number, seq):
    return Delivery(number, seq, datetime.now(UTC), 0)


def counting(from_seq=1):
    """The order of deliveries after a reset."""
    order = DeliveryOrder()
    order.start(from_seq)
    with order.resetting(from_seq):
        order.expect_first(from_seq)
    return order


def test_nothing_is_accepted_before_a_reset():
    order = DeliveryOrder()
    order.start(1)

    assert order.lost
    assert not order.accept(delivery(1, 1), same_reader=True)
    assert not counting().lost


@pytest.mark.parametrize(
    ("number", "seq", "same_reader"), [(3, 3, True), (1, 1, True), (2, 2, False)], ids=["hole", "again", "other reader"]
)
def test_delivery_that_is_not_the_next_one_loses_the_count_until_the_next_reset(number, seq, same_reader):
    order = counting()
    assert order.accept(delivery(1, 1), same_reader=True)

    assert not order.accept(delivery(number, seq), same_reader=same_reader)

    assert order.lost
    assert not order.accept(delivery(2, 2), same_reader=True)


def test_order_is_idle_from_a_heartbeat_that_counts_as_we_do_to_the_next_delivery():
    order = counting()
    order.accept(delivery(1, 1), same_reader=True)
    idle = [order.idle]
    for all_taken in (False, True):
        order.heartbeat(1, all_taken=all_taken)
        idle.append(order.idle)
    order.accept(delivery(2, 2), same_reader=True)

    assert [*idle, order.idle] == [False, False, True, False]


def test_heartbeat_that_counts_more_deliveries_loses_the_count():
    order = counting()
    order.accept(delivery(1, 1), same_reader=True)
    order.heartbeat(2, all_taken=True)

    assert order.lost
    assert not order.idle


def test_connection_that_breaks_during_a_reset_needs_another_one():
    order = DeliveryOrder()
    order.start(1)
    with order.resetting(1):
        order.mark_lost()

    assert order.lost
    assert order.was_reset


def test_deliveries_from_before_a_reset_are_ignored_while_it_is_under_way():
    order = DeliveryOrder()
    order.start(5)
    with order.resetting(5):
        order.expect_first(5)
        stale = order.accept(delivery(7, 11), same_reader=True), order.accept(delivery(1, 1), same_reader=True)

    assert stale == (False, False)
    assert order.accept(delivery(1, 5), same_reader=True)
