"""One-shot requests, by a plain client: text, errors, discovery, and what they cost live streams."""

from tests.support.waiting import until
from transcriber.bus.client_session import connected
from transcriber.bus.micro_service import Endpoint, MicroService
from transcriber.config import load_settings


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
