"""Languages with real weights: a stream that begins in noise and changes its language. Skipped where weights or voices cannot be had."""

import numpy as np
import pytest

from bench.lib.speech.noise import pink
from bench.lib.speech.spoken_languages import Reader
from tests.support.audio import speak
from tests.support.daemon import Daemon
from tests.support.real_weights import real_model
from tests.support.waiting import until
from transcriber.engine.job import WHISPER_SAMPLE_RATE
from transcriber.schema.messages import Final, Silence

PAYLOAD_BYTES = 3_200
WINDOW_S = 5.0
SAID_FORMAT = "audio/x-raw;format=S16LE;rate=16000;channels=1"
DETECTING = {
    "WHISPER_LANGUAGE": "auto", "TRANSCRIPTION_QUEUE_CAPACITY": 64, "PARTIAL_INTERVAL_SECS": 0,
    # However slow the machine is, while the next ten seconds wait.
    "MAX_LATENCY_SECS": 600, "STREAM_IDLE_SECS": 600, "HEARTBEAT_TIMEOUT_SECS": 600,
}  # fmt: skip


@pytest.fixture(scope="module")
def reader():
    try:
        return Reader()
    except OSError as error:
        pytest.skip(f"no synthesisers: {error}")


async def played(publisher, listener, stream, samples):
    """Ten seconds at a time: a busy machine has its time for each of them."""
    pcm = (32767 * np.clip(samples, -1, 1)).astype("<i2").tobytes()
    for at in range(0, len(pcm), PAYLOAD_BYTES):
        await speak(publisher, stream, pcm[at : at + PAYLOAD_BYTES], content_type=SAID_FORMAT)
        if at % (100 * PAYLOAD_BYTES) == 0:
            due_s = at / 2 / WHISPER_SAMPLE_RATE - 2 * WINDOW_S
            await until(lambda due_s=due_s: published_s(listener) >= due_s)
    await speak(publisher, stream, b"", end=1)
    await listener.ends(1)
    listener.check_accounts()
    return [(final.start, final.language) for final in listener.of(Final) if final.text]


def published_s(listener):
    return max((one.start + one.duration for one in (*listener.of(Final), *listener.of(Silence))), default=0.0)


async def test_a_change_of_language_is_found_and_noise_has_none(broker, tmp_path, publisher, listener, reader):
    noise = np.float32(0.02) * pink(np.random.default_rng(7), 10 * WHISPER_SAMPLE_RATE)
    german, english = reader.talk("de", 10.0, ("",)), reader.talk("en", 15.0, ("",))
    async with Daemon(broker.url, tmp_path, fake=False, WHISPER_MODEL_PATH=real_model("base"), **DETECTING) as daemon:
        found = await played(publisher, listener, "s", np.concatenate((noise, german, english)))

    print(found)
    assert {language for start, language in found if start < 16} == {"de"}
    later = [language for start, language in found if start > 20]
    assert later, found
    assert later[-1] == "en"
    changes = [line for line in daemon.log_lines() if line["msg"] == "another language is spoken"]
    assert (changes[-1]["before"], changes[-1]["language"]) == ("de", "en"), changes


async def test_of_two_languages_that_may_be_spoken_the_right_one_is_found_at_once(
    broker, tmp_path, publisher, listener, reader
):
    """base takes this French for Thai."""
    env = {"WHISPER_MODEL_PATH": real_model("base"), "WHISPER_LANGUAGES": "en,fr"}
    async with Daemon(broker.url, tmp_path, fake=False, **env, **DETECTING):
        found = await played(publisher, listener, "s", reader.talk("fr", 10.0, ("",)))

    assert found
    assert {language for _, language in found} == {"fr"}
