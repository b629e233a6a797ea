"""Windows go by what is said: the real daemon with its ear, and a fake model."""

import asyncio
import random

import numpy as np
import pytest

from tests.support.audio import speak
from tests.support.daemon import Daemon
from tests.support.stereo import interleaved
from tests.support.waiting import until
from transcriber.audio.vad.detector import FRAME_SAMPLES
from transcriber.audio.window_cutter import HELD_BACK_FRAMES
from transcriber.schema.messages import End, Final, Partial, Silence, Status
from transcriber.testing.speech import load_speech

RATE = 48_000
BLOCK = 2 * 4_800
"""Bytes of 0.1 s."""

ENV = {"BUFFER_DURATION_SECS": 5, "SPEECH_GATE": 1, "TRANSCRIPTION_QUEUE_CAPACITY": 64}


async def play(publisher, stream, pcm):
    for at in range(0, len(pcm), BLOCK):
        await speak(publisher, stream, pcm[at : at + BLOCK], offset=at // 2)


async def end(publisher, stream, pcm):
    await speak(publisher, stream, b"", offset=len(pcm) // 2, end=1)


def quiet(seconds):
    return bytes(2 * round(seconds * RATE))


FULL_S = 5 - HELD_BACK_FRAMES * FRAME_SAMPLES / 16_000
"""Seconds of a full window of silence: the next one begins a little earlier, in case speech has begun."""


def noise(seconds):
    samples = np.random.default_rng(7).normal(0, 300, round(seconds * RATE))
    return samples.astype("<i2").tobytes()


async def counted(listener, name, count):
    return await until(lambda: listener.metrics[-1:] and listener.metrics[-1][name] == count, f"{count} {name}")


@pytest.mark.parametrize("pcm", [quiet(12), noise(12)], ids=["digital silence", "noise"])
async def test_where_nobody_speaks_there_is_silence_and_no_final(broker, tmp_path, publisher, listener, pcm):
    async with Daemon(broker.url, tmp_path, **ENV, SILENCE_TIMEOUT_SECS=9, PARTIAL_INTERVAL_SECS=0.5):
        await play(publisher, "s", pcm)
        await end(publisher, "s", pcm)
        (ended,) = await listener.ends(1)
        await counted(listener, "transcriber.chunks.filtered", 3)

    assert listener.of(Final) == listener.of(Partial) == []
    assert [(s.start, s.speaker) for s in listener.of(Silence)] == [(0, None), (FULL_S, None), (2 * FULL_S, None)]
    assert (ended.silent_frames, ended.transcribed_frames, ended.segments) == (12 * RATE, 0, 0)
    assert [(status.state, status.start) for status in listener.of(Status)] == [("started", 0), ("silent", 2 * FULL_S)]
    assert listener.metrics[-1]["transcriber.jobs.enqueued"] == 0
    listener.check_accounts()


async def test_speech_after_silence_becomes_finals(broker, tmp_path, publisher, listener):
    recording = load_speech()[0]
    pcm = quiet(7) + recording.pcm
    async with Daemon(broker.url, tmp_path, **ENV):
        await play(publisher, "s", pcm)
        await end(publisher, "s", pcm)
        (ended,) = await listener.ends(1)
        await counted(listener, "transcriber.chunks.filtered", len(listener.of(Silence)))

    listener.check_accounts()
    assert listener.of(Silence)[0].start == 0
    assert 6 < listener.of(Final)[0].start < 7.5  # where speech begins, not where the clock says
    assert sum(final.duration for final in listener.of(Final)) > 0.9 * recording.duration_s
    assert ended.frames == ended.received_frames == len(pcm) // 2


async def test_a_final_is_published_when_speech_has_ended_while_the_stream_continues(
    broker, tmp_path, publisher, listener
):
    recording = load_speech()[0]
    pcm = recording.pcm + quiet(3)
    async with Daemon(broker.url, tmp_path, **ENV | {"BUFFER_DURATION_SECS": 30, "ENDPOINT_SILENCE_SECS": 0.5}):
        await play(publisher, "s", pcm)
        said = await until(
            lambda: [f for f in listener.of(Final) if f.start + f.duration > recording.duration_s - 1], "the last"
        )
        ends = list(listener.of(End))
        await end(publisher, "s", pcm)
        await listener.ends(1)

    assert ends == []
    assert said[0].speech_final
    assert said[0].duration < 30
    assert said[0].start + said[0].duration < recording.duration_s + 1
    assert sum(final.duration for final in listener.of(Final)) > 0.9 * recording.duration_s
    listener.check_accounts()


async def test_speech_that_ends_while_windows_wait_is_closed_once_they_are_done_though_no_audio_follows(
    broker, tmp_path, publisher, listener
):
    """As of a client that sends what it has at once, and waits for the text."""
    pcm, busy = load_speech()[0].pcm + quiet(0.7), tmp_path / "job_s"
    busy.write_text("0")
    held_up = {"BUFFER_DURATION_SECS": 2, "ENDPOINT_SILENCE_SECS": 0.5, "FAKE_JOB_FILE": busy}
    never = {"HEARTBEAT_TIMEOUT_SECS": 600, "STREAM_IDLE_SECS": 600, "MAX_LATENCY_SECS": 600}
    async with Daemon(broker.url, tmp_path, **ENV | held_up | never):
        busy.write_text("600")
        await play(publisher, "s", pcm)
        await speak(publisher, "later", quiet(0.1))
        await until(lambda: listener.of(Status, "later"), "the end of the burst")
        waiting = list(listener.of(Final))
        busy.write_text("0")
        said = await until(
            lambda: [final for final in listener.of(Final, "s") if final.speech_final], "its last window"
        )
        for stream in ("s", "later"):
            await speak(publisher, stream, b"", end=1)
        await listener.ends(2)

    assert waiting == []
    assert said[0].start + said[0].duration > len(pcm) / 2 / RATE - 0.6
    listener.check_accounts()


async def test_with_no_end_of_speech_asked_for_windows_are_filled(broker, tmp_path, publisher, listener):
    recording = load_speech()[0]
    pcm = recording.pcm + quiet(3)
    async with Daemon(broker.url, tmp_path, **ENV | {"BUFFER_DURATION_SECS": 30}):
        await play(publisher, "s", pcm)
        await end(publisher, "s", pcm)
        await listener.ends(1)

    (final,) = listener.of(Final)
    assert final.frames == len(pcm) // 2 - sum(silence.frames for silence in listener.of(Silence))
    assert not final.speech_final
    listener.check_accounts()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("speakers", ["mix", "channels"])
async def test_with_everything_switched_on_every_frame_of_every_speaker_is_accounted_for(
    broker, tmp_path, publisher, listener, seed, speakers
):
    """Two voices and pauses, with holes and echoes, at an engine too slow for them, which is stopped in their midst."""
    chance = random.Random(seed)
    voices = [np.frombuffer(recording.pcm, "<i2") for recording in load_speech()]
    left, right = (np.concatenate([np.zeros(chance.randrange(3 * RATE), "<i2"), *voices[at : at + 2]]) for at in (0, 2))
    payload = interleaved(left, right)
    env = {
        "SPEAKERS": speakers, "BUFFER_CUT": "quiet", "ENDPOINT_SILENCE_SECS": 0.3, "PARTIAL_INTERVAL_SECS": 0.3,
        "BUFFER_DURATION_SECS": 2, "TRANSCRIPTION_QUEUE_CAPACITY": 2, "FAKE_WORD_S": 0.3, "FAKE_JOB_S": 0.15,
    }  # fmt: skip
    async with Daemon(broker.url, tmp_path, **ENV | env, HEARTBEAT_TIMEOUT_SECS=0.5) as daemon:
        at, stop_at = 0, chance.randrange(8, 16) * RATE
        while at < stop_at:
            frames = chance.choice([480, 960, 4_800, RATE])
            await speak(
                publisher, "s", payload[4 * at : 4 * (at + frames)], offset=at, content_type=f"audio/x-raw;rate={RATE};channels=2"
            )  # fmt: skip
            at += frames + chance.choice([0] * 30 + [-1_000, 777, RATE])
            await asyncio.sleep(frames / RATE / 6)
        status, _ = await daemon.stop()
        (ended,) = await listener.ends(1)

    listener.check_accounts()
    assert status == 0
    assert ended.transcribed_frames > 0
    assert {message.speaker for message in listener.of(Final)} == ({"0", "1"} if speakers == "channels" else {None})
