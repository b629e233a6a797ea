"""Encryption at rest, as ``docs/privacy.md`` configures it: a real encrypted store, and a durable daemon over a killed broker."""

import re
import signal
from pathlib import Path

from tests.support.audio import level
from tests.support.daemon import Daemon
from tests.support.durable_streams import ENV, WINDOW, provisioned, store, store_windows, until_ended, until_stored
from tests.support.waiting import PATIENCE_S
from transcriber.testing.broker import EmbeddedBroker

PAGE = Path(__file__).parents[3] / "docs/privacy.md"

NEEDLES = (level(321, WINDOW)[:400], b'"text":"321"')
"""Audio and text of one window."""


def configuration(folder):
    """The lines of the page, with a store of the test's own."""
    (lines,) = re.findall(r"^```\n(jetstream \{.*?\n)```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert "cipher: chacha" in lines
    return lines.replace("$NATS_STORE_DIR", f'"{folder}"')


def in_the_clear(folder):
    """Those of ``NEEDLES`` that are in any file."""
    files = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    assert sum(map(len, files)) > 10_000
    return [needle for needle in NEEDLES if any(needle in data for data in files)]


async def test_words_and_audio_are_nowhere_on_an_encrypted_disk_and_a_killed_broker_costs_nothing(
    tmp_path, monkeypatch, publisher_to
):
    monkeypatch.setenv("JS_KEY", '"a key of this test, as long as it is secret"')
    plain, encrypted = tmp_path / "plain", tmp_path / "encrypted"
    with EmbeddedBroker(store=plain) as broker:  # what is looked for is there if nothing is encrypted
        await provisioned(broker)
        publisher = await publisher_to(broker)
        await store_windows(publisher, "s", [321])
        await publisher.jetstream().publish("transcripts.s.final", b'{"text":"321"}')
    assert in_the_clear(plain) == list(NEEDLES)

    with EmbeddedBroker(config=configuration(encrypted)) as broker:
        await provisioned(broker)
        publisher = await publisher_to(broker)
        async with Daemon(broker.url, tmp_path, **ENV) as daemon:
            await store_windows(publisher, "s", [321, 322])
            await until_stored(publisher, lambda found: found.text == ["321", "322"])
            broker.process.send_signal(signal.SIGKILL)
            broker.process.wait(PATIENCE_S)
            with EmbeddedBroker(port=broker.port, config=configuration(encrypted)):
                await store_windows(publisher, "s", [323], first=2)
                await store(publisher, "s", b"", end=1)
                found = await until_ended(publisher)
                status, _ = await daemon.stop()
    assert status == 0
    assert (found.text, found.gaps) == (["321", "322", "323"], [])
    found.check(3 * WINDOW)
    assert in_the_clear(encrypted) == []
