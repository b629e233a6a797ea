"""Audio on a subject, text on a subject: the real daemon, a real broker, a fake model."""

import asyncio
import re
from datetime import datetime

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from tests.support.audio import level, speak
from tests.support.daemon import Daemon
from tests.support.waiting import until
from transcriber.asyncapi import message_schema
from transcriber.schema.messages import End, Final, Gap, Status

RATE = 48_000
WINDOW = RATE // 2


@pytest.fixture
async def daemon(broker, tmp_path):
    async with Daemon(broker.url, tmp_path, BUFFER_DURATION_SECS=0.5, TRANSCRIPTION_QUEUE_CAPACITY=256) as running:
        yield running


async def test_a_recording_becomes_finals_and_one_end(daemon, publisher, listener):
    for number in range(25):
        await speak(publisher, "radio-7", level(7, 2_400), offset=2_400 * number)
    await speak(publisher, "radio-7", b"", end=1)

    (end,) = await listener.ends(1)

    listener.check_accounts()
    assert listener.text("radio-7") == "7 7 7"
    assert [final.frames for final in listener.of(Final)] == [WINDOW, WINDOW, 12_000]
    assert (end.received_frames, end.lost_frames, end.segments) == (60_000, 0, 3)
    final = listener.of(Final)[1]
    assert (final.start, final.duration, final.rate) == (0.5, 0.5, RATE)
    assert final.timing.end_to_end_ms >= final.timing.handover_ms >= 0


async def test_every_message_fits_the_published_schema_and_ids_follow_the_contract(daemon, publisher, listener):
    await speak(publisher, "s", level(5, WINDOW), session="rec 1", offset=0)
    await speak(publisher, "s", b"?")
    await speak(publisher, "s", level(5, 100), offset=WINDOW + 4_000, end=1)
    await listener.ends(1)

    validator = Draft202012Validator(message_schema())
    for message in listener.messages:
        validator.validate(message.model_dump(mode="json", by_alias=True))
    assert {type(message) for message in listener.messages} == {Status, Final, Gap, End}
    assert "s:rec 1:0:0:final:0" in listener.ids
    assert f"s:rec 1:0:{WINDOW}:gap:0" in listener.ids
    assert "s:rec 1:0:0:end:0" in listener.ids


async def test_every_format_is_read_at_its_level(daemon, publisher, listener):
    payloads = {
        "format=S16LE;rate=16000": np.full(8_000, 4096, "<i2"),
        "format=S32LE;rate=44100": np.full(22_050, 2**28, "<i4"),
        "format=F32LE;rate=8000": np.full(4_000, 0.125, "<f4"),
        "format=U8;rate=11025": np.full(5_512, 144, "u1"),
        "format=MULAW;rate=8000": np.full(4_000, 0xAF, "u1"),
        "format=ALAW;rate=8000": np.full(4_000, 0x85, "u1"),
        "format=S16LE;rate=48000;channels=2": np.tile(np.array([8192, 0], "<i2"), 24_000),
        "format=S16LE;rate=192000": np.full(96_000, 4096, "<i2"),
    }
    for stream, (caps, payload) in enumerate(payloads.items()):
        await speak(publisher, str(stream), payload.tobytes(), content_type=f"audio/x-raw;{caps}", end=1)

    await listener.ends(len(payloads))

    for stream, caps in enumerate(payloads):
        (final,) = listener.of(Final, str(stream))
        assert int(final.text) == pytest.approx(125, abs=5), caps
        assert final.duration == pytest.approx(0.5, abs=1e-3), caps
    listener.check_accounts()


async def test_holes_echoes_and_restarts_are_reported_to_the_frame(daemon, publisher, listener):
    await speak(publisher, "s", level(1, 30_000), offset=1000)
    await speak(publisher, "s", level(1, 30_000), offset=1000)  # an echo
    await speak(publisher, "s", level(2, 30_000), offset=41_000)  # a hole of 10 000
    await speak(publisher, "s", level(3, RATE), offset=41_000 + 30_000 + 12 * RATE)
    await speak(publisher, "s", level(4, RATE), offset=0)  # began again
    await speak(publisher, "s", b"", offset=RATE + 480, end=1)

    first, second = await listener.ends(2)

    listener.check_accounts()
    assert (first.received_frames, first.lost_frames) == (60_000 + RATE, 10_000 + 12 * RATE)
    assert (second.received_frames, second.lost_frames) == (RATE, 480)
    assert first.session != second.session
    assert [(gap.start_frame, gap.frames, gap.reason) for gap in listener.of(Gap)] == [
        (30_000, 10_000, "lost_input"),
        (70_000, 12 * RATE, "lost_input"),
        (RATE, 480, "lost_input"),
    ]
    await until(lambda: listener.metrics[-1:] and listener.metrics[-1]["transcriber.chunks.dropped"]["overlap"] == 1)


@pytest.mark.parametrize("by", ["session", "content_type"])
async def test_of_two_publishers_on_one_stream_one_is_transcribed_and_no_other_stream_suffers(
    daemon, publisher, listener, by
):
    names = {"session": ("old", "new"), "content_type": (f"audio/x-raw;rate={RATE}", "audio/x-raw;rate=16000")}[by]
    for number in range(50):
        await speak(publisher, "both", level(1, 480), **{by: names[0]})
        await speak(publisher, "both", level(2, 480), **{by: names[1]})
        await speak(publisher, "good", level(3, RATE // 10), offset=number * RATE // 10)
    await speak(publisher, "good", b"", end=1)
    await speak(publisher, "both", b"", end=1)

    ends = await listener.ends(3)

    listener.check_accounts()
    assert sorted(end.received_frames for end in ends) == [480, 50 * 480, 5 * RATE]
    assert [status.state for status in listener.of(Status, "both")] == ["started", "started", "contended"]
    (gap,) = listener.of(Gap)
    assert (gap.stream, gap.frames, gap.reason) == ("both", 0, "bad_input")
    assert gap.detail.startswith("two publishers on one stream: ")
    await until(lambda: listener.metrics[-1:] and listener.metrics[-1]["transcriber.chunks.dropped"]["contended"] == 49)


async def test_fifty_streams_at_once_do_not_touch_each_other(daemon, publisher, listener):
    async def recording(number):
        for offset in range(0, 3 * WINDOW + 777, 4_800):
            payload = level(number, min(4_800, 3 * WINDOW + 777 - offset))
            await speak(publisher, f"s{number}", payload, offset=offset)
            await asyncio.sleep(0)
        await speak(publisher, f"s{number}", b"", end=1)

    await asyncio.gather(*(recording(number) for number in range(1, 51)))
    ends = await listener.ends(50)

    listener.check_accounts()
    for end in ends:
        assert listener.text(end.stream) == " ".join([end.stream[1:]] * 4)
        assert (end.received_frames, end.dropped_frames, end.segments) == (3 * WINDOW + 777, 0, 4)


async def test_traces_continue_and_each_session_has_one_of_its_own(daemon, publisher, listener):
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await speak(publisher, "traced", level(1, WINDOW), traceparent=parent, end=1)
    await speak(publisher, "plain", level(1, WINDOW), traceparent="rubbish", end=1)
    await listener.ends(2)

    traces = {
        name: {
            trace
            for message, trace in zip(listener.messages, listener.traceparents, strict=True)
            if message.stream == name
        }
        for name in ("traced", "plain")
    }

    assert parent in traces["traced"]
    assert len(traces["plain"]) == 1
    assert "rubbish" not in traces["plain"]


async def test_capture_time_and_language_come_from_the_headers(daemon, publisher, listener):
    noon = "2026-11-21T12:00:00+00:00"
    await speak(publisher, "s", level(1, 2 * WINDOW), **{"Audio-Time": noon, "Language": "de-CH"}, end=1)
    await speak(publisher, "other", level(1, WINDOW), Language="xx", end=1)
    await listener.ends(2)

    first, second = listener.of(Final, "s")
    assert first.captured_at == datetime.fromisoformat(noon)
    assert (second.captured_at - first.captured_at).total_seconds() == 0.5
    assert first.language == "de"
    assert listener.of(Final, "other")[0].language == "en"


async def test_another_language_in_the_middle_of_a_session_holds_from_the_next_window(daemon, publisher, listener):
    await speak(publisher, "s", level(1, WINDOW + 4_800), Language="en")
    for language in ("de", "de-CH", "xx", ""):
        await speak(publisher, "s", level(1, WINDOW), **({"Language": language} if language else {}))
    await speak(publisher, "s", b"", end=1)
    await listener.ends(1)

    finals = listener.of(Final)
    assert len({final.session for final in finals}) == 1
    assert [final.language for final in finals] == ["en", "de", "de", "de", "de", "de"]
    warnings = [line for line in daemon.log_lines() if line["level"] == "WARNING"]
    assert ["Language xx is none that the model knows" in line["msg"] for line in warnings] == [True]


async def test_a_language_that_is_not_allowed_is_passed_over_and_costs_no_audio(broker, tmp_path, publisher, listener):
    env = {"BUFFER_DURATION_SECS": 0.5, "WHISPER_LANGUAGES": "English"}
    async with Daemon(broker.url, tmp_path, **env) as daemon:
        await speak(publisher, "s", level(1, WINDOW), Language="de")
        await speak(publisher, "s", level(2, WINDOW), Language="en", end=1)
        (end,) = await listener.ends(1)
        await until(lambda: listener.metrics and listener.metrics[-1]["transcriber.chunks.odd"]["header"] == 1)

    assert [(final.text, final.language) for final in listener.of(Final)] == [("1", "en"), ("2", "en")]
    assert end.dropped_frames == 0
    warnings = [line["msg"] for line in daemon.log_lines() if line["level"] == "WARNING"]
    assert ["Language de is not in WHISPER_LANGUAGES" in line for line in warnings] == [True]


async def test_a_change_of_language_is_detected_counted_and_reported(broker, tmp_path, publisher, listener):
    long, env = 5 * RATE, {"BUFFER_DURATION_SECS": 5, "TRANSCRIPTION_QUEUE_CAPACITY": 16, "FAKE_DETECTS": 1}
    async with Daemon(broker.url, tmp_path, **env) as daemon:
        for number in (1, 2, 801, 802, 1, 2):
            await speak(publisher, "s", level(number, long // 2))
            await speak(publisher, "s", level(number, long // 2))
        await speak(publisher, "named", level(801, long // 2), Language="en")
        await speak(publisher, "named", level(801, long // 2), end=1)
        await speak(publisher, "s", b"", end=1)
        await listener.ends(2)
        await until(lambda: listener.metrics and listener.metrics[-1]["transcriber.language.changes"] == 2)

    assert [final.language for final in listener.of(Final, "s")] == ["en", "en", "en", "de", "de", "en"]
    assert [final.language for final in listener.of(Final, "named")] == ["en"]
    changes = [line for line in daemon.log_lines() if line["msg"] == "another language is spoken"]
    assert [(line["stream"], line["segment"], line["before"], line["language"]) for line in changes] == [
        ("s", 3, "en", "de"),
        ("s", 5, "de", "en"),
    ]


async def test_a_prompt_holds_from_the_next_window_on_until_there_is_another(daemon, publisher, listener):
    long = "x" * 1001
    await speak(publisher, "s", level(1, WINDOW // 4))  # a window is whole in the middle of a payload
    for prompt in ("Elbe 1", None, long, "Weser", "", None):
        await speak(publisher, "s", level(1, WINDOW), **({} if prompt is None else {"Prompt": prompt}))
    await speak(publisher, "s", b"", end=1)
    await listener.ends(1)

    words = [" ".join(word.word for word in final.words) for final in listener.of(Final)]
    assert words == ["Elbe 1", "Elbe 1", "Elbe 1", "Weser", "", "", ""]
    warnings = [line["msg"] for line in daemon.log_lines() if line["level"] == "WARNING"]
    assert ["Prompt is not a text of at most 1000 characters" in line for line in warnings] == [True]


async def test_text_that_is_not_believed_is_an_empty_final_with_its_reason_and_counted(daemon, publisher, listener):
    for thousandths in (1, 555, 2):
        await speak(publisher, "s", level(thousandths, WINDOW))
    await speak(publisher, "s", b"", end=1)
    (end,) = await listener.ends(1)

    finals = listener.of(Final)
    assert [(final.text, final.suppressed) for final in finals] == [("1", None), ("", "repetition"), ("2", None)]
    assert finals[1].words == ()
    assert finals[1].confidence > 0.5  # what the model thought of it
    assert (end.segments, end.transcribed_frames) == (3, 3 * WINDOW)
    listener.check_accounts()
    await until(
        lambda: listener.metrics[-1:] and listener.metrics[-1]["transcriber.text.suppressed"]["repetition"] == 1
    )
    assert sum(listener.metrics[-1]["transcriber.text.suppressed"].values()) == 1
    logged = " ".join(str(value) for line in daemon.log_lines() for key, value in line.items() if key != "ts")
    assert "ready" in logged
    assert not re.search(r"\b(?<![.:])555\b", logged)


async def test_a_first_payload_that_cannot_be_read_belongs_to_the_session_that_follows(daemon, publisher, listener):
    about = {"Audio-Session": "mine", "Content-Type": f"audio/x-raw;format=S16LE;rate={RATE};channels=2"}
    await speak(publisher, "s", b"?", **about)
    await speak(publisher, "s", bytes(4 * WINDOW), **about)
    await speak(publisher, "s", b"", end=1, **about)
    (end,) = await listener.ends(1)

    assert (end.session, end.frames) == ("mine", WINDOW)
    assert {message.session for message in listener.of(Gap)} == {"mine"}


async def test_last_words_that_nobody_can_have_said_are_left_out_and_counted(daemon, publisher, listener):
    for thousandths in (1, 556, 2):
        await speak(publisher, "s", level(thousandths, WINDOW))
    await speak(publisher, "s", b"", end=1)
    await listener.ends(1)

    finals = listener.of(Final)
    assert [(final.text, final.suppressed) for final in finals] == [("1", None), ("556", None), ("2", None)]
    assert [word.word for word in finals[1].words] == ["556"]
    await until(lambda: listener.metrics[-1:] and listener.metrics[-1]["transcriber.text.trimmed"] == 1)


def prompts(listener, stream):
    """The fake model gives the prompt as its words."""
    return [" ".join(word.word for word in final.words) for final in listener.of(Final, stream)]


async def test_a_streams_prompt_holds_from_the_next_window_until_another_one_comes(daemon, publisher, listener):
    said = ["Elbe Käpt'n", None, "日本 " * 200, "x" * 1001, "", None, "Weser"]
    for number, prompt in enumerate(said):
        frames = WINDOW if number else WINDOW + 4_800  # each closes a window
        await speak(publisher, "s", level(1, frames), **({} if prompt is None else {"Prompt": prompt}))
        await speak(publisher, "other", level(2, frames))
    await speak(publisher, "s", b"", end=1)
    await speak(publisher, "s", level(1, WINDOW), end=1)
    await listener.ends(2)

    long = " ".join(["日本"] * 200)
    assert prompts(listener, "s") == ["Elbe Käpt'n", "Elbe Käpt'n", long, long, "", "", "Weser", "Weser", ""]
    assert set(prompts(listener, "other")) == {""}
    await until(lambda: listener.metrics[-1:] and listener.metrics[-1]["transcriber.chunks.odd"]["header"] == 1)
    warnings = [line["msg"] for line in daemon.log_lines() if line["level"] == "WARNING"]
    assert ["Prompt is not a text of at most 1000 characters: 'x" in line for line in warnings] == [True]


async def test_a_streams_prompt_stands_before_what_was_said(broker, tmp_path, publisher, listener):
    async with Daemon(broker.url, tmp_path, BUFFER_DURATION_SECS=0.5, WHISPER_CONTEXT="prompt"):
        await speak(publisher, "s", level(1, WINDOW + 4_800), Prompt="Elbe")
        await speak(publisher, "s", level(1, WINDOW))
        await speak(publisher, "s", level(1, WINDOW), Prompt="")
        await speak(publisher, "s", b"", end=1)
        await listener.ends(1)

    assert prompts(listener, "s") == ["Elbe", "Elbe 1", "1 1", "1 1 1"]


async def test_context_is_off_unless_asked_for(daemon, publisher, listener):
    await speak(publisher, "s", level(1, 3 * WINDOW), end=1)
    await listener.ends(1)

    assert prompts(listener, "s") == ["", "", ""]


async def test_the_last_sure_text_is_the_prompt_until_a_loop_silence_or_a_gap(broker, tmp_path, publisher, listener):
    async with Daemon(broker.url, tmp_path, BUFFER_DURATION_SECS=0.5, WHISPER_CONTEXT="prompt"):
        for number, thousandths in enumerate((1, 2, 555, 3, 4, 0, 5, 6)):
            await speak(publisher, "s", level(thousandths, WINDOW), offset=number * WINDOW)
            await speak(publisher, "other", level(100 + thousandths, WINDOW))
        await speak(publisher, "s", level(7, WINDOW), offset=20 * WINDOW)
        await speak(publisher, "s", level(8, WINDOW), end=1)
        await listener.ends(1)

    assert prompts(listener, "s") == ["", "1", "", "", "3", "3 4", "", "5", "", "7"]
    assert prompts(listener, "other")[2] == "101 102"


async def test_bad_payloads_cost_nothing_but_themselves(daemon, publisher, listener):
    await speak(publisher, "s", level(3, 12_000))
    await speak(publisher, "s", b"1")
    await speak(publisher, "s", level(3, 100), content_type="audio/flac")
    await speak(publisher, "s", level(3, 12_000))
    await speak(publisher, "s", level(3, 100), content_type="audio/x-raw;rate=1", end="true")

    (end,) = await listener.ends(1)

    gaps = [(gap.start_frame, gap.frames, gap.reason) for gap in listener.of(Gap)]
    assert gaps == [(12_000, 0, "bad_input"), (24_000, 0, "bad_input")]
    assert (end.received_frames, end.transcribed_frames, end.lost_frames) == (24_000, 24_000, 0)
    assert listener.text("s") == "3"
    listener.check_accounts()
    await until(lambda: listener.metrics[-1:] and listener.metrics[-1]["transcriber.chunks.dropped"]["bad_input"] == 3)


ODD_HEADERS = [
    {"offset": "0.0"}, {"offset": "-1"}, {"Audio-Time": "2026-11-21T10:00:60Z"}, {"Audio-Time": "2026-11-21T10:00:00"},
    {"Language": "English"}, {"Language": ""}, {"Language": "xx"}, {"end": "no"}, {"end": "maybe"}, {"session": "\u00fc"},
    {"content_type": ""}, {"content_type": "application/octet-stream"}, {"content_type": "audio/wav"},
    {"content_type": "audio/x-raw, format=(string)S16LE, rate=(int)48000, channels=(int)1"},
]  # fmt: skip


async def test_an_odd_header_costs_no_audio(daemon, publisher, listener):
    for number, odd in enumerate(ODD_HEADERS):
        await speak(publisher, f"s{number}", level(3, WINDOW), **odd)
        await speak(publisher, f"s{number}", level(3, 100) + b"x", end="true")

    ends = await listener.ends(len(ODD_HEADERS))

    listener.check_accounts()
    assert not listener.of(Gap)
    assert {(end.frames, end.transcribed_frames) for end in ends} == {(WINDOW + 100, WINDOW + 100)}
    assert {listener.text(end.stream) for end in ends} == {"3 3"}
    # All of those that are not read as they are meant; and of the language that the model does not know, once more.
    said = {"header": 8 + 1, "bytes": len(ODD_HEADERS)}
    await until(lambda: listener.metrics[-1:] and listener.metrics[-1]["transcriber.chunks.odd"] == said)
    warned = {line["msg"].split()[1] for line in daemon.log_lines() if line["msg"].startswith("ignored: ")}
    assert warned >= {"Content-Type", "Audio-Offset", "Audio-Time", "Audio-Session", "Audio-End", "Language"}


async def test_samples_that_are_not_finite_are_received_and_dropped(daemon, publisher, listener):
    floats = "audio/x-raw;format=F32LE"
    for number, value in enumerate((0.25, np.nan, 0.25)):
        payload = np.full(WINDOW, value, "<f4").tobytes()
        await speak(publisher, "s", payload, content_type=floats, offset=WINDOW * number, end=number // 2)

    (end,) = await listener.ends(1)

    listener.check_accounts()
    (gap,) = listener.of(Gap)
    assert (gap.start_frame, gap.frames, gap.reason) == (WINDOW, WINDOW, "bad_input")
    assert gap.detail == "F32LE samples are not all finite"
    assert (end.received_frames, end.transcribed_frames, end.dropped_frames) == (3 * WINDOW, 2 * WINDOW, WINDOW)
    await until(lambda: listener.metrics[-1:] and listener.metrics[-1]["transcriber.chunks.dropped"]["bad_input"] == 1)


async def test_a_publisher_reads_in_a_gap_what_is_wrong_with_his_payloads(daemon, publisher, listener):
    for type_ in ("audio/flac", "nats://me:secret@host", "a\x7f\u20ac" * 200):
        await speak(publisher, "s", level(3, 100), content_type=type_)
        await speak(publisher, "s", level(3, 100))
    await speak(publisher, "s", b"", end=1)
    await listener.ends(1)

    first, masked, odd = (gap.detail or "" for gap in listener.of(Gap))
    assert first == "Content-Type is not audio/x-raw but 'audio/flac'"
    assert "secret" not in masked
    assert re.fullmatch(r"[ -~]{60,200}", odd)


async def test_a_daemon_for_one_stream_transcribes_no_other(broker, tmp_path, publisher, listener):
    async with Daemon(broker.url, tmp_path, AUDIO_SUBJECT="audio.mine", BUFFER_DURATION_SECS=0.5):
        await speak(publisher, "other", level(1, WINDOW), end=1)
        await speak(publisher, "mine", level(2, WINDOW), end=1)
        await listener.ends(1)

    assert {message.stream for message in listener.messages} == {"mine"}


async def test_streams_beyond_the_limit_are_counted_and_a_place_comes_free(broker, tmp_path, publisher, listener):
    async with Daemon(broker.url, tmp_path, MAX_STREAMS=2, BUFFER_DURATION_SECS=0.5):
        for name in ("a", "b", "c"):
            await speak(publisher, name, level(1, 100))
        await until(
            lambda: (
                listener.metrics[-1:] and listener.metrics[-1]["transcriber.chunks.dropped"]["too_many_streams"] == 1
            )
        )
        await speak(publisher, "a", b"", end=1)
        await listener.ends(1)
        await until(lambda: listener.metrics[-1]["transcriber.streams.active"] == 1)

        async def comes_in():
            while not listener.of(Status, "c"):
                await speak(publisher, "c", level(1, 100))
                await asyncio.sleep(0.1)

        await asyncio.wait_for(comes_in(), 20)

    assert {end.stream for end in listener.of(End)} == {"a"}
    assert [status.state for status in listener.of(Status, "c")] == ["started"]


async def test_states_are_published_stalled_resumed_silent_and_idle(broker, tmp_path, publisher, listener):
    def states():
        return [status.state for status in listener.of(Status)]

    times = {"HEARTBEAT_TIMEOUT_SECS": 0.5, "SILENCE_TIMEOUT_SECS": 1, "STREAM_IDLE_SECS": 3}
    async with Daemon(broker.url, tmp_path, BUFFER_DURATION_SECS=0.5, **times):
        await speak(publisher, "s", level(1, WINDOW))
        await until(lambda: "stalled" in states())
        await speak(publisher, "s", b"")
        await until(lambda: states()[-1] == "resumed")
        await speak(publisher, "s", level(0, 3 * WINDOW))
        await until(lambda: "silent" in states())
        await speak(publisher, "s", level(1, 2 * WINDOW))
        await until(lambda: states().count("resumed") >= 2)
        (end,) = await listener.ends(1)

    assert states()[0] == "started"
    assert end.received_frames == 6 * WINDOW
    listener.check_accounts()


async def test_what_was_said_before_a_stream_stalled_is_published_and_the_session_continues(
    broker, tmp_path, publisher, listener
):
    """A push-to-talk radio sends nothing between two calls."""
    env = {"BUFFER_DURATION_SECS": 5, "HEARTBEAT_TIMEOUT_SECS": 0.5, "STREAM_IDLE_SECS": 60}
    async with Daemon(broker.url, tmp_path, **env):
        for number, thousandths in enumerate((1, 2, 3)):
            await speak(publisher, "s", level(thousandths, WINDOW + 7), offset=number * (WINDOW + 7))
            await until(lambda n=number: len(listener.of(Final)) == n + 1, "the final of a stream that stalls")
        await speak(publisher, "s", level(4, 10), offset=3 * (WINDOW + 7), end=1)
        (end,) = await listener.ends(1)

    listener.check_accounts()
    assert [(f.text, f.segment, f.start_frame, f.frames) for f in listener.of(Final)] == [
        ("1", 0, 0, WINDOW + 7), ("2", 1, WINDOW + 7, WINDOW + 7), ("3", 2, 2 * (WINDOW + 7), WINDOW + 7),
        ("4", 3, 3 * (WINDOW + 7), 10),
    ]  # fmt: skip
    assert listener.of(Gap) == []
    assert (end.transcribed_frames, end.received_frames) == (3 * WINDOW + 31, 3 * WINDOW + 31)
    assert [status.state for status in listener.of(Status)] == [
        "started", "stalled", "resumed", "stalled", "resumed", "stalled",
    ]  # fmt: skip


async def test_a_stream_that_stalls_at_the_end_of_a_window_has_nothing_more_to_publish(
    broker, tmp_path, publisher, listener
):
    async with Daemon(broker.url, tmp_path, BUFFER_DURATION_SECS=0.5, HEARTBEAT_TIMEOUT_SECS=0.5) as daemon:
        await speak(publisher, "s", np.full(8_000, 33, "<i2").tobytes(), content_type="audio/x-raw;rate=16000")
        await until(lambda: [status.state for status in listener.of(Status)] == ["started", "stalled"], "the stall")
        assert (await daemon.stop())[0] == 0
        (end,) = await listener.ends(1)

    assert (end.segments, [final.frames for final in listener.of(Final)]) == (1, [8_000])
    listener.check_accounts()


async def test_heartbeats_keep_a_stream_from_stalling_but_not_from_ending(broker, tmp_path, publisher, listener):
    async with Daemon(broker.url, tmp_path, HEARTBEAT_TIMEOUT_SECS=1.5, STREAM_IDLE_SECS=3):
        await speak(publisher, "s", level(1, 100))
        while not listener.of(End):
            await speak(publisher, "s", b"")
            await asyncio.sleep(0.05)

    assert [status.state for status in listener.of(Status)] == ["started"]


async def test_workers_share_the_streams_and_each_stream_keeps_its_order(broker, tmp_path, publisher, listener):
    env = {"WHISPER_WORKERS": 3, "FAKE_JOB_S": 0.01, "BUFFER_DURATION_SECS": 0.5, "TRANSCRIPTION_QUEUE_CAPACITY": 64}
    async with Daemon(broker.url, tmp_path, **env) as daemon:
        for name in "abcdef":
            await speak(publisher, name, level(ord(name), 5 * WINDOW), end=1)
        await listener.ends(6)
        loaded = daemon.last_line("warmed up")

    listener.check_accounts()
    assert loaded["workers"] == 3
    assert all(listener.text(name) == " ".join([str(ord(name))] * 5) for name in "abcdef")
