"""``Audio-Flush`` in live mode: the open window ends at once, and whoever asked for it gets one answer."""

import pytest

from tests.support.audio import level, speak
from tests.support.daemon import Daemon
from tests.support.stereo import STEREO, both
from tests.support.waiting import until
from transcriber.schema.messages import End, Final, Status

RATE = 48_000
FLUSH = {"Audio-Flush": "1"}


@pytest.fixture
async def daemon(broker, tmp_path):
    never = {"BUFFER_DURATION_SECS": 25, "HEARTBEAT_TIMEOUT_SECS": 100, "STREAM_IDLE_SECS": 300}
    async with Daemon(broker.url, tmp_path, **never, SPEAKERS="channels", TRANSCRIPTION_QUEUE_CAPACITY=64) as running:
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
