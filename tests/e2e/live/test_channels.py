"""Two channels split: each has its own windows, label and account."""

import asyncio
from collections import defaultdict

import numpy as np
import pytest

from tests.support.audio import level, speak
from tests.support.daemon import Daemon
from tests.support.stereo import RATE, STEREO, both, interleaved
from tests.support.transcripts import until_heard
from tests.support.waiting import PATIENCE_S, until
from transcriber.schema.messages import Final, Gap, Partial, Silence
from transcriber.testing.speech import load_speech

WINDOW = RATE // 2
ENV = {"INPUT_SAMPLE_RATE": RATE, "BUFFER_DURATION_SECS": 0.5, "SPEAKERS": "channels"}


def texts(listener):
    """What each speaker said."""
    said = defaultdict(list)
    for final in listener.of(Final):
        said[final.speaker].append(final.text)
    return dict(said)


async def test_each_channel_has_its_own_finals_with_its_label(broker, tmp_path, publisher, listener):
    async with Daemon(broker.url, tmp_path, **ENV, TRANSCRIPTION_QUEUE_CAPACITY=64):
        for number in range(5):
            await speak(publisher, "s", both(1, 2, WINDOW // 2), content_type=STEREO, offset=number * WINDOW // 2)
        await speak(publisher, "s", b"", end=1)
        (end,) = await listener.ends(1)

    listener.check_accounts()
    assert texts(listener) == {"0": ["1", "1", "1"], "1": ["2", "2", "2"]}
    assert (end.segments, end.received_frames, end.transcribed_frames) == (6, 5 * WINDOW // 2, 5 * WINDOW // 2)
    assert {i.split(":", 2)[2] for i in listener.ids if ":final:" in i} == {
        f"{channel}:{start}:final:0" for channel in (0, 1) for start in (0, WINDOW, 2 * WINDOW)
    }


@pytest.mark.parametrize(("speakers", "channels"), [("channels", 1), ("mix", 2), ("mix", 1)])
async def test_without_channel_split_or_diarization_the_speaker_is_null(
    broker, tmp_path, publisher, listener, speakers, channels
):
    payload = both(3, 3, 2 * WINDOW) if channels == 2 else level(3, 2 * WINDOW)
    async with Daemon(broker.url, tmp_path, **ENV | {"SPEAKERS": speakers}):
        await speak(publisher, "s", payload, content_type=f"audio/x-raw;rate={RATE};channels={channels}", end=1)
        (end,) = await listener.ends(1)

    listener.check_accounts()
    assert texts(listener) == {None: ["3", "3"]}
    assert end.segments == 2


async def test_lost_input_is_lost_to_all_speakers_at_once(broker, tmp_path, publisher, listener):
    async with Daemon(broker.url, tmp_path, **ENV, TRANSCRIPTION_QUEUE_CAPACITY=64):
        await speak(publisher, "s", both(1, 2, WINDOW + 10), content_type=STEREO, offset=0)
        await speak(publisher, "s", both(3, 4, WINDOW), content_type=STEREO, offset=2 * WINDOW, end=1)
        (end,) = await listener.ends(1)

    (gap,) = listener.of(Gap)
    assert (gap.start_frame, gap.frames, gap.reason, gap.speaker) == (WINDOW + 10, WINDOW - 10, "lost_input", None)
    assert end.lost_frames == WINDOW - 10
    assert texts(listener) == {"0": ["1", "1", "3"], "1": ["2", "2", "4"]}
    listener.check_accounts()


@pytest.mark.parametrize("capacity", [1, 3])
async def test_windows_that_find_no_place_are_dropped_for_their_speaker_only(
    broker, tmp_path, publisher, listener, capacity
):
    async with Daemon(broker.url, tmp_path, **ENV, FAKE_JOB_S=1, TRANSCRIPTION_QUEUE_CAPACITY=capacity):
        await speak(publisher, "s", both(1, 2, 5 * WINDOW + 100), content_type=STEREO, end=1)
        (end,) = await listener.ends(1)

    gaps, finals = listener.of(Gap), listener.of(Final)
    assert {gap.reason for gap in gaps} == {"queue_full"}
    assert {gap.speaker for gap in gaps} == {"0", "1"}
    assert len(gaps) + len(finals) == 12
    assert end.segments == len(finals) >= capacity
    assert end.dropped_frames > 0
    listener.check_accounts()


async def test_a_silent_channel_is_silent_and_the_other_is_transcribed(broker, tmp_path, publisher, listener):
    recording = load_speech()[0]
    speech = np.frombuffer(recording.pcm, "<i2")
    async with Daemon(
        broker.url, tmp_path, **ENV | {"BUFFER_DURATION_SECS": 2, "SPEECH_GATE": 1, "TRANSCRIPTION_QUEUE_CAPACITY": 64}
    ):
        payload, size = interleaved(np.zeros(1, "<i2"), speech), 4 * 4_800
        for at in range(0, len(payload), size):
            await speak(publisher, "s", payload[at : at + size], content_type="audio/x-raw;rate=48000;channels=2")
        await speak(publisher, "s", b"", end=1)
        (end,) = await listener.ends(1)

    listener.check_accounts()
    assert {final.speaker for final in listener.of(Final)} == {"1"}
    assert sum(silence.frames for silence in listener.of(Silence) if silence.speaker == "0") == recording.frames
    heard = sum(final.frames for final in listener.of(Final))
    assert (end.transcribed_frames, end.silent_frames, end.dropped_frames) == (heard, recording.frames - heard, 0)


async def test_open_windows_of_all_channels_are_guessed_at(broker, tmp_path, publisher, listener):
    guesses = {"BUFFER_DURATION_SECS": 5, "PARTIAL_INTERVAL_SECS": 0.5, "FAKE_WORD_S": 0.25}
    async with Daemon(broker.url, tmp_path, **ENV | guesses), asyncio.timeout(PATIENCE_S):
        for number in (1, 2):
            await speak(publisher, "s", both(1, 2, WINDOW), content_type=STEREO)
            await until_heard(publisher, "s", lambda n=number: len(listener.of(Partial)) == 2 * n)
        await speak(publisher, "s", b"", end=1)
        await listener.ends(1)

    listener.check_accounts()
    partials = sorted((p.speaker, p.segment, p.rev, p.text) for p in listener.of(Partial))
    assert partials == [("0", 0, 1, "1 1"), ("0", 0, 2, "1 1 1 1"), ("1", 0, 1, "2 2"), ("1", 0, 2, "2 2 2 2")]
    assert len({i for i in listener.ids if ":partial:" in i}) == 4


async def test_a_stream_is_silent_only_when_all_its_channels_are(broker, tmp_path, publisher, listener):
    def states():
        return [message.state for message in listener.messages if message.type == "status"]

    async with Daemon(broker.url, tmp_path, **ENV, SILENCE_TIMEOUT_SECS=1, TRANSCRIPTION_QUEUE_CAPACITY=64):
        await speak(publisher, "s", both(0, 2, 4 * WINDOW), content_type=STEREO)
        await until(lambda: len(listener.of(Final)) == 8, "the finals")
        one_speaks = states()
        await speak(publisher, "s", both(0, 0, 3 * WINDOW), content_type=STEREO)
        await until(lambda: states()[-1] == "silent", "the silence")
        await speak(publisher, "s", both(1, 0, WINDOW), content_type=STEREO)
        await until(lambda: states()[-1] == "resumed", "the words")

    assert one_speaks == ["started"]
