"""``Audio-Flush`` in live mode: the open window ends at once, and whoever asked for it gets one answer."""

import asyncio
import signal

import pytest

from tests.support.audio import level, speak
from tests.support.daemon import Daemon
from tests.support.encoded_audio import SAFARI, encode as encode_mp4
from tests.support.file_jobs import before, stopped
from tests.support.stereo import STEREO, both
from tests.support.transcripts import until_heard
from tests.support.waiting import PATIENCE_S, settled, until
from tests.support.webm_ogg import encode, sliced
from transcriber.schema.messages import End, Final, Gap, Partial, Status
from transcriber.testing.speech import load_speech

RATE = 48_000
FLUSH = {"Audio-Flush": "1"}
NEVER = {"BUFFER_DURATION_SECS": 25, "HEARTBEAT_TIMEOUT_SECS": 100, "STREAM_IDLE_SECS": 300}
"""Windows do not end by themselves."""


@pytest.fixture
async def daemon(broker, tmp_path):
    async with Daemon(
        broker.url, tmp_path, **NEVER, SPEAKERS="channels", TRANSCRIPTION_QUEUE_CAPACITY=64, FAKE_FAIL_AT=400
    ) as running:
        yield running


def flushed(listener, stream):
    return [
        (m.type, m.start_frame, m.frames)
        for m in listener.messages
        if m.stream == stream and (getattr(m, "flushed", False) or getattr(m, "state", "") == "flushed")
    ]


async def ended(listener, stream):
    await until(lambda: any(end.stream == stream for end in listener.of(End)))
    listener.check_accounts()


async def test_the_final_comes_without_a_silence_or_a_full_window_and_the_session_goes_on(daemon, publisher, listener):
    await speak(publisher, "s", level(5, RATE))
    await speak(publisher, "s", level(5, 480), **FLUSH)
    await until(lambda: flushed(listener, "s"))
    assert [(final.text, final.flushed) for final in listener.of(Final, "s")] == [("5", True)]
    await speak(publisher, "s", level(6, RATE))
    await speak(publisher, "s", b"", **FLUSH)
    await speak(publisher, "s", level(7, RATE), end=1)
    await ended(listener, "s")

    assert [(f.text, f.start_frame, f.frames, f.flushed) for f in listener.of(Final, "s")] == [
        ("5", 0, RATE + 480, True),
        ("6", RATE + 480, RATE, True),
        ("7", 2 * RATE + 480, RATE, False),
    ]


async def test_with_nothing_new_there_is_one_answer_for_each_place(daemon, publisher, listener):
    await speak(publisher, "none", level(5, RATE), **FLUSH)
    await speak(publisher, "none", b"", **FLUSH)
    await speak(publisher, "none", level(5, 480), **FLUSH)
    await speak(publisher, "none", b"", **FLUSH)
    await speak(publisher, "none", b"", end=1)
    await ended(listener, "none")

    assert sorted(flushed(listener, "none")) == [("final", 0, RATE), ("status", RATE + 480, 0)]
    assert [status.state for status in listener.of(Status, "none")] == ["started", "flushed"]


async def test_one_with_every_payload_gives_no_more_than_four_windows_a_second(daemon, publisher, listener):
    for _ in range(100):
        await speak(publisher, "flood", level(5, 960), **FLUSH)
    await speak(publisher, "flood", b"", end=1)
    await ended(listener, "flood")

    answers = flushed(listener, "flood")
    assert sorted(start + frames for _, start, frames in answers) == [960 * n for n in range(1, 101)]
    assert 6 <= sum(kind == "final" for kind, *_ in answers) <= 8


async def test_both_channels_are_flushed(daemon, publisher, listener):
    await speak(publisher, "two", both(1, 2, 16_000), content_type=STEREO, **FLUSH)
    await speak(publisher, "two", b"", end=1)
    await ended(listener, "two")

    finals = sorted((f.speaker, f.text, f.flushed) for f in listener.of(Final, "two"))
    assert finals == [("0", "1", True), ("1", "2", True)]


async def test_one_on_a_payload_that_cannot_be_read_counts(daemon, publisher, listener):
    await speak(publisher, "bad", level(5, RATE))
    await speak(publisher, "bad", b"?", **FLUSH)
    await until(lambda: flushed(listener, "bad"))
    await speak(publisher, "bad", b"", end=1)
    await ended(listener, "bad")

    assert flushed(listener, "bad") == [("final", 0, RATE)]


async def test_a_window_that_fails_answers_as_a_gap(daemon, publisher, listener):
    await speak(publisher, "fails", level(400, RATE), **FLUSH)
    await until(lambda: flushed(listener, "fails"))
    await speak(publisher, "fails", level(5, RATE), end=1)
    await ended(listener, "fails")

    assert flushed(listener, "fails") == [("gap", 0, RATE)]
    assert [gap.reason for gap in listener.of(Gap, "fails")] == ["engine_error"]
    assert [(final.start_frame, final.text, final.flushed) for final in listener.of(Final, "fails")] == [
        (RATE, "5", False)
    ]


async def test_of_encoded_audio_what_is_decoded_by_then_is_answered(daemon, publisher, listener):
    pcm = load_speech()[0].pcm[: 2 * 4 * RATE]
    recordings = {
        "webm": (encode(pcm, live=1, cluster_time_limit=100), "audio/webm;codecs=opus"),
        "ogg": (encode(pcm, "ogg", page_duration=100_000), "audio/ogg"),
        "mp4-aac": (encode_mp4(pcm, "aac", **SAFARI), "audio/mp4"),
        "mp4-opus": (encode_mp4(pcm, "libopus", **SAFARI), "audio/mp4"),
        "adts": (encode_mp4(pcm, "aac", "adts"), "audio/aac"),
    }
    for stream, (data, content_type) in recordings.items():
        half, rest = data[: len(data) // 2], data[len(data) // 2 :]
        *before, last = sliced(half, [2_000])
        for chunk in before:
            await speak(publisher, stream, chunk, content_type=content_type)
        await speak(publisher, stream, last, content_type=content_type, **FLUSH)
        await until(lambda stream=stream: flushed(listener, stream), f"an answer on {stream}")
        await speak(publisher, stream, b"", **FLUSH)
        for chunk in sliced(rest, [2_000]):
            await speak(publisher, stream, chunk, content_type=content_type)
        await speak(publisher, stream, b"", end=1)
        await ended(listener, stream)

    assert not listener.of(Gap)
    for stream in recordings:
        ((kind, start, frames),) = flushed(listener, stream)
        others = [(final.start_frame, final.flushed) for final in listener.of(Final, stream)[1:]]
        (end,) = [end for end in listener.of(End) if end.stream == stream]
        assert (kind, start, others[0]) == ("final", 0, (frames, False)), stream
        assert 1.4 * RATE < frames < 2.6 * RATE, stream
        assert end.frames == end.transcribed_frames == pytest.approx(4 * RATE, abs=0.1 * RATE), stream


async def test_a_guess_gives_way_to_the_window_that_is_asked_for(broker, tmp_path, publisher, listener):
    for_ever = {"FAKE_SLOW_S": 10_000, "FAKE_WORD_S": 0.5, "PARTIAL_INTERVAL_SECS": 0.5}
    asked_for = before("pipeline.channel_state:ChannelState.partial_requested:1", "SIGSTOP")
    async with Daemon(broker.url, tmp_path, **NEVER, **for_ever, **asked_for) as daemon:
        await speak(publisher, "s", level(600, RATE))
        async with asyncio.timeout(PATIENCE_S):
            await until_heard(publisher, "s", lambda: stopped(daemon))
        await speak(publisher, "s", level(5, 2 * RATE), **FLUSH)
        await settled(publisher)
        daemon.process.send_signal(signal.SIGCONT)
        await until(lambda: flushed(listener, "s"))
        guessed = listener.of(Partial)
        await speak(publisher, "s", level(7, RATE))
        async with asyncio.timeout(PATIENCE_S):
            await until_heard(publisher, "s", lambda: listener.of(Partial))
        await speak(publisher, "s", b"", end=1)
        await ended(listener, "s")

    assert guessed == []
    assert [(f.segment, f.text, f.frames, f.flushed) for f in listener.of(Final)] == [
        (0, "600 600 5 5 5 5", 3 * RATE, True),
        (1, "7 7", RATE, False),
    ]
    assert {(p.segment, p.start_frame) for p in listener.of(Partial)} == {(1, 3 * RATE)}
