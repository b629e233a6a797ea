"""Messages that the broker has room for, and what is left out of those that are too large."""

import nats
import pytest

from tests.support.audio import level, speak
from tests.support.daemon import Daemon
from tests.support.durable_streams import ENV, RATE, provisioned, store, until_ended
from tests.support.transcripts import TranscriptListener
from tests.support.waiting import until
from transcriber.schema.messages import Final
from transcriber.testing.broker import EmbeddedBroker

HEADER_ROOM = 4096


@pytest.fixture
def small(tmp_path):
    """A broker that takes little more than audio at once."""
    config = tmp_path / "small.conf"
    config.write_text(f"max_payload: {HEADER_ROOM + 8192}")
    with EmbeddedBroker("-c", str(config), store=tmp_path / "store") as broker:
        yield broker


WORDY = {"INPUT_SAMPLE_RATE": RATE, "BUFFER_DURATION_SECS": 2, "LEFT_CONTEXT_SECS": 0, "PARTIAL_INTERVAL_SECS": 0}


@pytest.mark.parametrize(("word_s", "whole"), [(0.01, True), (0.0005, False)])
async def test_live_text_above_max_payload_comes_without_its_words_and_no_longer_than_may_be(
    small, tmp_path, word_s, whole
):
    client = await nats.connect(small.url)
    async with (
        TranscriptListener(small.url) as listener,
        Daemon(small.url, tmp_path, **WORDY, FAKE_WORD_S=word_s) as daemon,
    ):
        for _ in range(20):
            await speak(client, "s", level(500, RATE // 10))
        await speak(client, "s", b"", end=1)
        await listener.ends(1)
        figures = await until(lambda: listener.metrics and listener.metrics[-1], "figures")
        log = daemon.log()
    await client.close()

    (said,) = listener.of(Final)
    assert said.words is None
    assert said.suppressed == (None if whole else "max_payload")
    assert len(said.text.split()) == 200 if whole else 3000 < len(said.text) < 8192
    assert figures["transcriber.messages.unsent"] == 0
    assert "too large for the broker" in log


@pytest.mark.parametrize(("word_s", "whole"), [(0.01, True), (0.0005, False)])
async def test_stored_text_above_max_payload_is_stored_at_once(small, tmp_path, word_s, whole):
    client = await nats.connect(small.url)
    await provisioned(small)
    for _ in range(20):
        await store(client, "s", level(500, RATE // 10))
    await store(client, "s", b"", end=1)
    async with Daemon(small.url, tmp_path, **ENV | WORDY, FAKE_WORD_S=word_s):
        found = await until_ended(client)
    await client.close()

    (said,) = found.of(Final)
    assert said.words is None
    assert said.suppressed == (None if whole else "max_payload")
    assert len(said.text.split()) == 200 if whole else 3000 < len(said.text) < 8192
    found.check(2 * RATE)
