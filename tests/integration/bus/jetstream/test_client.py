"""Which answers of a broker say that no leader of JetStream's can be reached through it."""

import contextlib
import json

import pytest

from tests.support.waiting import until
from transcriber.bus import isolation
from transcriber.bus.client_session import connected
from transcriber.bus.jetstream.client import JetStream
from transcriber.config import load_settings
from transcriber.errors import RefusedError, UnansweredError
from transcriber.testing.broker import EmbeddedBroker


@pytest.fixture
def broker():
    """One without JetStream, whose part the tests play."""
    with EmbeddedBroker() as broker:
        yield broker


@contextlib.asynccontextmanager
async def asked(broker, said):
    """A connection by two addresses, and a JetStream that says ``said`` to all but direct requests; None: nothing answers."""
    port = broker.url.rpartition(":")[2]
    async with (
        connected(load_settings(nats_url=f"nats://127.0.0.1:{port},nats://localhost:{port}"), "test") as connection,
        connected(load_settings(nats_url=broker.url), "scripted") as leader,
    ):

        async def answer(message):
            await leader.publish(message.reply, json.dumps(said).encode())

        if said:
            await leader.subscribe("$JS.API.STREAM.>", answer)
        yield connection


async def ask(request):
    with contextlib.suppress(UnansweredError, RefusedError):
        await request


UNAVAILABLE = {"error": {"code": 503, "err_code": 10008, "description": "JetStream system temporarily unavailable"}}
WITHOUT_LEADER = {"config": {}, "cluster": {"name": "c", "replicas": [{"name": "n0", "current": False, "active": 0}]}}
NO_STREAM = {"error": {"code": 404, "err_code": 10059, "description": "stream not found"}}
WITH_LEADER = {"config": {}, "cluster": {"name": "c", "leader": "n0"}}


@pytest.mark.parametrize("said", [UNAVAILABLE, WITHOUT_LEADER, None])
async def test_a_broker_that_knows_no_leader_is_left_for_another(broker, monkeypatch, caplog, said):
    monkeypatch.setattr(isolation, "ISOLATED_S", 0.0)
    async with asked(broker, said) as connection:
        jetstream = JetStream(connection)
        await ask(jetstream.call("STREAM.INFO.AUDIO"))
        # What any copy answers, or the lack of a stream, does not count either way.
        await ask(jetstream.direct("AUDIO", seq=1))
        await ask(jetstream.store("audio.s", b"", {}))
        assert connection.reconnects == 0
        await ask(jetstream.call("STREAM.INFO.AUDIO"))

        await until(lambda: connection.reconnects, "another connection")

    assert "JetStream does not answer here" in caplog.text


@pytest.mark.parametrize("said", [NO_STREAM, WITH_LEADER, {"config": {}}])
async def test_a_leader_that_refuses_has_answered_and_so_has_a_broker_alone(broker, monkeypatch, caplog, said):
    monkeypatch.setattr(isolation, "ISOLATED_S", 0.0)
    async with asked(broker, said) as connection:
        for _ in range(3):
            await ask(JetStream(connection).call("STREAM.INFO.AUDIO"))
            await ask(JetStream(connection).direct("AUDIO", seq=1))
        assert connection.connected

    assert "JetStream does not answer here" not in caplog.text


async def test_what_another_connection_did_not_answer_is_not_held_against_the_next(broker, monkeypatch, caplog):
    monkeypatch.setattr(isolation, "ISOLATED_S", 0.0)
    async with asked(broker, None) as connection:
        await ask(JetStream(connection).call("STREAM.INFO.AUDIO"))
        connection.client.reconnect()
        await until(lambda: connection.reconnects and connection.connected, "another connection")

        await ask(JetStream(connection).call("STREAM.INFO.AUDIO"))

    assert "JetStream does not answer here" not in caplog.text
