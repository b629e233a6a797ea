"""``listen`` as a person sees it: partials in place on a terminal, and advice where nothing comes."""

import asyncio
import re
import signal
import termios
from datetime import UTC, datetime

import nats
import nats.micro
import pytest

from tests.support.client_commands import command, output
from tests.support.terminal import Terminal
from tests.support.waiting import until
from transcriber.bus.client_session import connected
from transcriber.clients.listen_advice import missing
from transcriber.config import load_settings
from transcriber.schema.messages import Final, Partial
from transcriber.testing.broker import EmbeddedBroker

COLUMNS = 44
INDENT = " " * len("[00:00] desk: ")


@pytest.fixture(scope="module")
def plain_broker():
    with EmbeddedBroker() as broker:
        yield broker


def said(kind, text):
    unknown = dict.fromkeys(
        ["suppressed", "words", "language", "confidence", "avg_logprob", "no_speech_prob", "speaker", "captured_at"]
    )
    timing = dict.fromkeys(["queue_ms", "processing_ms", "handover_ms", "end_to_end_ms", "rtf"], 0)
    place = {
        "stream": "desk",
        "session": "a",
        "rate": 1000,
        "start_frame": 0,
        "frames": 5000,
        "start": 0,
        "duration": 5,
    }
    window = {"segment": 0, "rev": 0, "speech_final": False, "model": "demo", "timing": timing}
    message = kind.model_validate(unknown | place | window | {"text": text, "received_at": datetime.now(UTC)})
    return f"transcripts.desk.{message.type}", message.model_dump_json(by_alias=True).encode()


async def test_on_a_terminal_a_final_replaces_its_partials_and_wraps_at_words(plain_broker):
    client = await nats.connect(plain_broker.url)
    with Terminal() as screen:
        termios.tcsetwinsize(screen.end, (24, COLUMNS))
        options = {"stdout": screen.end, "stderr": screen.end, "env": screen.environment}
        with command(plain_broker, "listen", "desk", **options) as process:
            screen.started()
            await screen.read(b"Ctrl-C ends it")
            opening = screen.shown.decode()
            await client.publish(*said(Partial, "wind nor"))
            await screen.read(b"wind nor")
            await client.publish(*said(Partial, "Wind northwest six to"))
            await screen.read(b"northwest six to")
            await client.publish(*said(Final, "Wind northwest six, increasing seven in the evening."))
            await screen.read(b"evening.")
            process.send_signal(signal.SIGINT)
            status = await asyncio.to_thread(process.wait, 30)
    await client.close()

    shown = screen.shown.decode()
    assert "listening to stream desk (transcripts.desk.*) at 127.0.0.1:" in opening
    assert status == 0
    assert re.search(r"(?s)wind nor.*\x1b\[2K.*northwest six to.*\x1b\[2K.*northwest six, inc", shown)
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown[shown.rindex("[00:00]") :])
    rows = [row.rstrip() for row in last.splitlines() if row.strip()]
    assert rows == ["[00:00] desk: Wind northwest six, increasing", f"{INDENT}seven in the evening."]


async def test_without_a_terminal_partials_are_left_out(plain_broker):
    client = await nats.connect(plain_broker.url)
    with command(plain_broker, "listen", "desk") as process:
        reading = asyncio.create_task(asyncio.to_thread(process.stdout.readline))
        while not reading.done():  # until it has subscribed
            await client.publish(*said(Partial, "wind nor"))
            await client.publish(*said(Final, "Wind northwest six, increasing seven in the evening."))
            await asyncio.wait({reading}, timeout=0.1)
        process.send_signal(signal.SIGINT)
        await output(process)
    await client.close()

    assert reading.result() == b"[00:00] desk: Wind northwest six, increasing seven in the evening.\n"


async def test_after_two_seconds_it_says_that_there_is_no_daemon_and_then_nothing_more(plain_broker):
    with command(plain_broker, "listen") as process:
        first = await asyncio.to_thread(process.stderr.readline)
        process.send_signal(signal.SIGINT)
        status, _, rest = await output(process)

    assert first.startswith(b"no daemon answers at 127.0.0.1:")
    assert first.endswith(b"waiting for transcripts.*.*\n")
    assert (status, rest) == (0, "")


async def test_with_a_daemon_it_says_that_there_is_no_stream():
    with EmbeddedBroker() as broker:
        settings = load_settings(nats_url=broker.url)
        client = await nats.connect(broker.url)
        await nats.micro.add_service(client, name="transcriber", version="1.0.0")
        async with connected(settings, "test") as connection:
            of_one = await missing(connection, settings, "desk")
            broker.process.kill()
            await until(lambda: not connection.connected)
            gone = await missing(connection, settings, "desk")
        await client.close()

    assert of_one.startswith("no stream yet: a daemon is there; waiting for transcripts.desk.*")
    assert of_one.endswith("audio on audio.desk")
    assert gone.startswith("no broker")
