"""Several channels as one: each is transcribed, whatever the others hold."""

import numpy as np

from tests.support.audio import level, speak
from tests.support.clip_requests import ask, text
from tests.support.daemon import Daemon
from tests.support.waiting import until
from tests.support.wav_files import RATE, wav
from transcriber.schema.messages import Final

# The daemon.


def crossed(frames: int) -> bytes:
    left = np.frombuffer(level(7, frames), "<i2")
    return np.stack([left, -left], axis=1).tobytes()


async def test_a_stream_with_crossed_wires_is_transcribed_and_reported_once(broker, tmp_path, publisher, listener):
    async with Daemon(broker.url, tmp_path, BUFFER_DURATION_SECS=0.5, SPEECH_GATE=0) as daemon:
        for _ in range(20):
            await speak(publisher, "s", crossed(4_800), content_type="audio/x-raw;rate=48000;channels=2")
        await speak(publisher, "s", b"", end=1)
        await listener.ends(1)

    assert set(listener.text("s").split()) == {"7"}
    assert daemon.log().count("negative of another") == 1


async def test_a_clip_with_crossed_wires_is_transcribed_and_reported(broker, tmp_path, publisher):
    samples = np.frombuffer(crossed(2 * RATE), "<i2").reshape(-1, 2)

    async with Daemon(broker.url, tmp_path, SPEECH_GATE=0) as daemon:
        two = await ask(publisher, wav(samples))
        four = await ask(publisher, wav(np.hstack([samples, samples])))

    assert (text(two), text(four)) == ("7", "7")
    assert "negative of another" in daemon.log()


async def test_floats_that_nobody_scaled_are_bad_input_and_the_reason_is_reported(
    broker, tmp_path, publisher, listener
):
    async with Daemon(broker.url, tmp_path, BUFFER_DURATION_SECS=0.5) as daemon:
        payload = (np.arange(4_800) % 200 * 100).astype("<f4").tobytes()
        await speak(publisher, "s", payload, content_type="audio/x-raw;format=F32LE;rate=48000", end=1)
        await until(lambda: "full scale is 1" in daemon.log(), "the reason")

    assert not listener.of(Final)
