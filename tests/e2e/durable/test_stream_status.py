"""The state of stored streams, from a real daemon; of a session that it resumes, too."""

import asyncio

from tests.support.daemon import Daemon
from tests.support.durable_streams import ENV, RATE, WINDOW, provisioned, store_windows
from tests.support.waiting import PATIENCE_S
from transcriber.schema.stream_figures import StreamFigures


async def test_figures_of_a_stored_session_go_on_with_the_next_daemon(broker, tmp_path, publisher):
    async def figure():
        reply = await publisher.request("transcriber.streams", timeout=PATIENCE_S)
        return next(iter(StreamFigures.model_validate_json(reply.data).streams), None)

    async def figure_at(frames):
        found = None
        while found is None or found.received_frames != frames or found.last_text_at is None:
            found = await figure()
        return found

    await provisioned(broker)
    await store_windows(publisher, "s", range(1, 4))
    async with Daemon(broker.url, tmp_path, **ENV) as daemon:
        first = await asyncio.wait_for(figure_at(3 * WINDOW), PATIENCE_S)
        await daemon.stop()
    await store_windows(publisher, "s", range(4, 7), first=3)
    async with Daemon(broker.url, tmp_path, **ENV):
        second = await asyncio.wait_for(figure_at(6 * WINDOW), PATIENCE_S)

    assert (first.stream, first.state, first.rate, first.lost_s) == ("s", "started", RATE, 0)
    assert (second.session, second.state) == (first.session, "resumed")
    assert second.lag_s >= 0
