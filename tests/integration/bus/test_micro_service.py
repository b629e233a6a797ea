"""One-shot requests, by a plain client: text, errors, discovery, and what they cost live streams."""

import json

import nats
import pytest
from nats.errors import NoRespondersError

from tests.support.waiting import PATIENCE_S, until
from transcriber.bus.client_session import connected
from transcriber.bus.micro_service import Endpoint, MicroService
from transcriber.config import load_settings
from transcriber.testing.broker import EmbeddedBroker


async def test_a_reply_that_cannot_be_sent_is_said(broker, publisher, caplog):
    async def too_large(*_):
        return bytes(2**21)

    async with connected(load_settings(nats_url=broker.url), "test") as connection:
        service = MicroService(connection, {})
        await service.start({"large": Endpoint("large", too_large)})
        await publisher.publish("large", b"", reply=publisher.new_inbox())
        await until(lambda: "a reply was not sent: too large" in caplog.text, "the warning")
        await service.stop()
        await service.finish(1)


RIGHTS = """authorization {{ users: [
  {{ user: daemon, password: d, permissions: {{ publish: ">", subscribe: [{subscribe}] }} }}
  {{ user: client, password: c }} ] }}"""


async def test_an_endpoint_that_may_be_missing_costs_itself_alone_where_it_is_denied(tmp_path, caplog):
    async def echo(message, _):
        return message.data

    config = tmp_path / "nats.conf"
    config.write_text(RIGHTS.format(subscribe='"$SRV.>", "_INBOX.>", "submit q", "cancel q"'))
    endpoints = {
        "submit": Endpoint("submit", echo),
        "submit-urgent": Endpoint("submit.urgent", echo, optional=True),
        "cancel": Endpoint("cancel", echo),
    }
    with EmbeddedBroker("--config", str(config)) as guarded:
        client = await nats.connect(guarded.url, user="client", password="c")  # noqa: S106 - made up
        async with connected(load_settings(nats_url=guarded.url.replace("//", "//daemon:d@")), "test") as connection:
            service = MicroService(connection, {})
            await service.start(endpoints)
            answers = [(await client.request(subject, b"1", PATIENCE_S)).data for subject in ("submit", "cancel")]
            info = json.loads((await client.request("$SRV.INFO.transcriber", b"", PATIENCE_S)).data)
            stats = json.loads((await client.request("$SRV.STATS.transcriber", b"", PATIENCE_S)).data)
            with pytest.raises(NoRespondersError):
                await client.request("submit.urgent", b"1", PATIENCE_S)
            await service.stop()
            await service.finish(1)
        await client.close()

    assert answers == [b"1", b"1"]
    assert [[one["name"] for one in found["endpoints"]] for found in (info, stats)] == [["submit", "cancel"]] * 2
    warnings = [record.message for record in caplog.records if "denies" in record.message]
    assert warnings == ["submit-urgent is not served: the broker denies this user to subscribe to submit.urgent"]
