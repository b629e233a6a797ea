"""Live settings in several daemons at once."""

import asyncio
import contextlib
import time

from tests.support.audio import level
from tests.support.daemon import Daemon
from tests.support.live_settings import BUCKET, provision_bucket, put, taken
from tests.support.waiting import until
from transcriber.schema.messages import Final

WINDOW = 8_000
ENV = {
    "CONFIG_BUCKET": BUCKET,
    "INPUT_SAMPLE_RATE": 16_000,
    "BUFFER_DURATION_SECS": 0.5,
    "HEARTBEAT_TIMEOUT_SECS": 0.5,  # of a window that is just full the resampler still has a bit
}
STREAMS = ("s0", "s1", "s2")


async def test_a_change_reaches_all_daemons_and_a_bad_one_changes_nothing_anywhere(
    broker, tmp_path, publisher, listener, record_property
):
    """The window that is open keeps what it began with."""
    await provision_bucket(broker)
    daemons = [Daemon(broker.url, tmp_path, **ENV, AUDIO_SUBJECT=f"audio.{name}") for name in STREAMS]

    async def say(number, text):
        """A window to each; all of them publish the same text."""
        for name in STREAMS:
            await publisher.publish(f"audio.{name}", level(number, WINDOW))
        await until(lambda: all(len(listener.of(Final, name)) == number for name in STREAMS), f"window {number}")
        assert {listener.of(Final, name)[-1].text for name in STREAMS} == {text}

    async def change(key, value, message="setting changed"):
        """Returns the seconds until all daemons have said so."""
        began_s = time.monotonic()
        revision = await put(publisher, key, value)
        await until(lambda: all(taken(daemon, revision, message) for daemon in daemons), f"{key}={value!r}")
        return time.monotonic() - began_s

    async with contextlib.AsyncExitStack() as stack:
        await asyncio.gather(*map(stack.enter_async_context, daemons))
        await say(1, "1")
        record_property("reached_s", await change("global.whisper_prompt", "names"))
        await change("global.speech_threshold", "high", "setting refused: SPEECH_THRESHOLD='high'")
        await say(2, "2")
        await say(3, "names")
        await change("global.whisper_prompt", "x" * 1001, "setting refused: WHISPER_PROMPT")
        await change("stream.=.whisper_threads", "2", "setting refused: WHISPER_THREADS needs a restart")
        await say(4, "names")
        await put(publisher, "global.whisper_prompt", None)
        await until(lambda: all(daemon.log().count('"setting changed"') == 2 for daemon in daemons), "what is below")
        await say(5, "names")
        await say(6, "6")
        listener.metrics.clear()
        await until(lambda: len(listener.metrics) >= 2 * len(daemons), "figures")

    assert {figures["transcriber.config.refused"] for figures in listener.metrics} == {2}
    assert {figures["transcriber.config.changes"] for figures in listener.metrics} == {2}
