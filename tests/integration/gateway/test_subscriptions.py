"""What the parts of the gateway leave subscribed, whether the broker is away or denies it, with a real nats-server."""

import asyncio
import types

import pytest

from tests.support.waiting import until
from transcriber.bus.client_session import connected
from transcriber.clients.jobs_api import Jobs
from transcriber.config import load_settings
from transcriber.errors import DeniedError, UnansweredError
from transcriber.gateway.models import INFO_SUBJECT, ModelNames
from transcriber.gateway.transcriptions.job import UploadedJob
from transcriber.gateway.transcriptions.options import SpeechOptions
from transcriber.testing.broker import EmbeddedBroker

DENYING = """authorization { users: [
    { user: "u", password: "p", permissions: { subscribe: { deny: "secret" } } }
] }"""


def subjects(connection):
    return sorted(one.subject for one in connection.client._subs.values())


async def take(_):
    """Nothing."""


async def test_what_is_denied_is_not_subscribed_to_again():
    with EmbeddedBroker(config=DENYING) as broker:
        settings = load_settings(nats_url=broker.url.replace("//", "//u:p@"))
        async with connected(settings, "test") as connection:
            before = subjects(connection)
            with pytest.raises(DeniedError):
                await connection.subscribe("secret", take)
            assert subjects(connection) == before


async def test_what_ends_while_the_broker_is_away_is_not_subscribed_to_again(broker):
    settings = load_settings(nats_url=broker.url)
    async with connected(settings, "test") as connection:
        jobs, asking = Jobs(connection, settings), asyncio.Event()

        class Refusing(Jobs):
            async def submit(self, *_, **__):
                asking.set()
                await until(lambda: not connection.connected)
                raise UnansweredError("the broker is away")

        key = types.SimpleNamespace(submitter="me")
        runtime = types.SimpleNamespace(connection=connection, settings=settings, jobs=Refusing(connection, settings))
        events = UploadedJob(runtime, key, "a.wav", "").events(SpeechOptions("transcribe", "demo"))  # type: ignore[arg-type]
        uploading = asyncio.ensure_future(anext(events))
        await connection.subscribe(INFO_SUBJECT, take)  # a daemon that does not answer
        models = asyncio.create_task(ModelNames(connection).all())
        async with jobs.watch("job-1", lambda *_: None):
            await asking.wait()
            await until(lambda: len(subjects(connection)) == 5)  # two of the upload's
            broker.stop()
            await until(lambda: not connection.connected)
        models.cancel()
        gone = await asyncio.gather(uploading, models, return_exceptions=True)
        left = subjects(connection)
        broker.start()

    assert [type(one) for one in gone] == [UnansweredError, asyncio.CancelledError]
    assert left == [INFO_SUBJECT]
