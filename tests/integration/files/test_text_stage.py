"""How the text of one file ends when its daemon stops."""

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

from tests.support.file_jobs import file_client
from tests.support.waiting import PATIENCE_S
from transcriber.bus.jetstream.client import JetStream
from transcriber.config import load_settings
from transcriber.engine.job import Lane
from transcriber.engine.job_queue import JobQueue
from transcriber.engine.queue_slots import QueueSlots
from transcriber.files.text_stage import TextStage, file_settings
from transcriber.live_settings.live import StreamSettings
from transcriber.logs import RateLimited
from transcriber.schema.file_jobs import Submission
from transcriber.telemetry import Telemetry


class Silent:
    """Audio that does not come."""

    idle = exhausted = False

    def __init__(self):
        self.asked = asyncio.Event()

    async def next(self, timeout_s):
        self.asked.set()
        await asyncio.Event().wait()


async def test_a_stop_while_nothing_waits_to_be_stored_ends_it(broker):
    submission = Submission(job="job=1", object="a")
    settings = load_settings(nats_url=broker.url)
    runtime: Any = SimpleNamespace(
        settings=file_settings(settings, submission),
        stream=lambda _: StreamSettings(settings),
        network=None,
        telemetry=Telemetry(settings, "test"),
        warnings=RateLimited(logging.getLogger("test")),
    )
    worker: Any = SimpleNamespace(queue=JobQueue(1), on_room=[])
    audio: Any = Silent()

    async with file_client(broker) as desk:
        text = TextStage(submission, worker, QueueSlots(worker, Lane.FILE), JetStream(desk.connection), runtime)
        checkpoint = await text.checkpoint()
        assert checkpoint is not None
        running = asyncio.create_task(text.run(checkpoint, audio))
        await audio.asked.wait()

        assert text.stop()
        async with asyncio.timeout(PATIENCE_S):
            assert not await running
