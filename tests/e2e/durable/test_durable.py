"""Durable mode: at least once in, exactly once out. What is stored is read back from the broker."""

import asyncio
import signal
import time

import numpy as np
import pytest

from tests.support.audio import level
from tests.support.daemon import PATIENT_STOP, Daemon, run
from tests.support.durable_streams import (
    ENV,
    RATE,
    WINDOW,
    Restarted,
    provisioned,
    store,
    store_windows,
    stored,
    until_acknowledged,
    until_ended,
    until_stored,
)
from tests.support.file_jobs import before, stopped
from tests.support.hostile_protocol import POISON, publication, publish_raw
from tests.support.stereo import STEREO, both
from tests.support.stopwatch import Stopwatch
from tests.support.transcripts import TranscriptListener
from tests.support.waiting import PATIENCE_S, until
from transcriber.schema.messages import End, Final, Gap, Partial
from transcriber.testing.broker import EmbeddedBroker


async def test_audio_that_was_stored_before_the_daemon_came_is_transcribed(broker, tmp_path, publisher):
    await provisioned(broker)
    await store_windows(publisher, "s", range(1, 7))
    await store(publisher, "s", b"", end=1)
    async with Daemon(broker.url, tmp_path, **ENV) as daemon:
        found = await until_ended(publisher)
        await until_acknowledged(publisher)
        status, _ = await daemon.stop()

    assert status == 0
    assert found.text == ["1", "2", "3", "4", "5", "6"]
    assert found.gaps == []
    found.check(6 * WINDOW)


async def test_a_backlog_is_read_once(broker, tmp_path, publisher):
    """A request that is answered in full is no reason to put the consumer back."""
    slice_, payloads = WINDOW // 10, 1010
    await provisioned(broker)
    for n in range(payloads):
        await store(publisher, "s", level(1 + n // 10, slice_), offset=n * slice_)
    await store(publisher, "s", b"", end=1)
    async with Daemon(broker.url, tmp_path, **ENV) as daemon:
        found = await until_ended(publisher)

    assert found.text == [str(n + 1) for n in range(101)]
    assert "consumer reset" not in daemon.log()


# Poison.


async def test_window_that_whisper_cannot_hear_is_a_gap_after_so_many_tries(broker, tmp_path, publisher):
    await provisioned(broker)
    await store_windows(publisher, "s", [1, 2, 300, 4, 5, 6])
    await store(publisher, "s", b"", end=1)
    async with Daemon(broker.url, tmp_path, **ENV, FAKE_FAIL_AT=300, MAX_ATTEMPTS=3) as daemon:
        found = await until_ended(publisher)

    assert found.text == ["1", "2", "4", "5", "6"]
    assert found.gaps == [("engine_error", 2 * WINDOW, WINDOW)]
    assert daemon.log().count("window retried") == 2
    found.check(6 * WINDOW)


async def test_window_that_kills_the_daemon_is_a_gap_after_so_many_daemons(broker, tmp_path, publisher):
    await provisioned(broker)
    async with Restarted(broker, tmp_path, **ENV, FAKE_CRASH_AT=300, MAX_ATTEMPTS=3) as place:
        for number in range(4):  # as often as a poisonous window may: these do not count
            await store_windows(publisher, "s", [number + 1], first=number)
            await until_stored(publisher, lambda found, number=number: len(found.text) == number + 1)
            await place.kill()
        # A backlog comes after it, of which nothing may be given up with it.
        await store_windows(publisher, "s", [300, *range(6, 16)], first=4)
        await store(publisher, "s", b"", end=1)
        found = await until_ended(publisher)

    assert place.deaths == 3
    assert found.text == [str(n) for n in range(1, 16) if n != 5]
    assert found.gaps == [("engine_error", 4 * WINDOW, WINDOW)]
    found.check(15 * WINDOW)


async def test_what_kills_a_daemon_that_only_guesses_is_a_gap_too(broker, tmp_path, publisher):
    """A window that is still open has no attempt on record; what died of it may only be tried as a window."""
    guesses = {"PARTIAL_INTERVAL_SECS": 0.1, "BUFFER_DURATION_SECS": 2, "HEARTBEAT_TIMEOUT_SECS": 1}
    await provisioned(broker)
    async with Restarted(broker, tmp_path, **ENV | guesses, FAKE_CRASH_AT=300, MAX_ATTEMPTS=2) as place:
        await store(publisher, "s", level(300, WINDOW), offset=0)
        found = await until_stored(publisher, lambda found: bool(found.gaps))

    assert found.gaps == [("engine_error", 0, WINDOW)]
    assert place.deaths == 3  # the first of them of a guess


async def test_what_others_send_to_where_audio_comes_ends_nothing(broker, tmp_path, publisher):
    """Whoever may see our requests knows where their answers go."""
    asked: list[str] = []

    async def note(message):
        asked.append(message.reply)

    await publisher.subscribe("$JS.API.CONSUMER.MSG.NEXT.AUDIO.transcriber-s", cb=note)
    async with Daemon(broker.url, tmp_path, **ENV) as daemon:
        await store_windows(publisher, "s", [1])
        await until_stored(publisher, lambda found: found.text == ["1"])
        for last in ("?", "1e3", "", "9" * 5000):
            await publisher.publish(asked[-1], b"", headers={"Status": "100", "Nats-Last-Consumer": last})
        for tokens in ("x", f"AUDIO.transcriber-s.1.{'9' * 30}.1.{'9' * 30}.0", "AUDIO.transcriber-s.a.b.c.d.e"):
            await publisher.publish(asked[-1], b"", reply=f"$JS.ACK.{tokens}")
        await store_windows(publisher, "s", [2], first=1)
        await store(publisher, "s", b"", end=1)
        found = await until_ended(publisher)
        status, _ = await daemon.stop()

    assert status == 0
    assert found.text == ["1", "2"]
    found.check(2 * WINDOW)


# Odd payloads.

FLOATS = f"audio/x-raw;format=F32LE;rate={RATE}"


def floats(thousandths, frames=WINDOW):
    return np.full(frames, thousandths / 1000, "<f4").tobytes()


async def test_samples_that_are_not_finite_are_dropped_once_across_crashes(broker, tmp_path, publisher):
    await provisioned(broker)
    async with Restarted(broker, tmp_path, **ENV) as place:
        for number, value in enumerate([1, np.nan, 3, np.inf, np.nan, 6]):
            await store(publisher, "s", floats(value), content_type=FLOATS, offset=number * WINDOW)
            await until_stored(publisher, lambda found, number=number: len(found.text) + len(found.gaps) == number + 1)
            await place.kill()
        await store(publisher, "s", b"", content_type="audio/mp4", end="true")
        found = await until_ended(publisher)

    assert found.text == ["1", "3", "6"]
    dropped = [("bad_input", number * WINDOW, WINDOW) for number in (1, 3, 4)]
    assert found.gaps == [*dropped, ("bad_input", 6 * WINDOW, 0)]
    assert found.of(Gap)[0].detail == "F32LE samples are not all finite"
    (end,) = found.of(End)
    assert (end.received_frames, end.transcribed_frames, end.dropped_frames) == (6 * WINDOW, 3 * WINDOW, 3 * WINDOW)
    found.check(6 * WINDOW)


# Messages that nats-py cannot read.


async def test_malformed_stored_messages_loop_nowhere(broker, tmp_path, publisher, listener):
    """At the very beginning, in the middle and at the end of what is stored; alone and in a row."""
    await provisioned(broker)
    blocks = [block for _, block in POISON if block]
    payloads = [publication(b"audio.s", block, level(500 + n, WINDOW)) for n, block in enumerate(blocks)]
    await publish_raw(broker, payloads[:2])
    await store_windows(publisher, "s", [1, 2, 3], offsets=False)
    for number, payload in enumerate(payloads[2:]):
        await publish_raw(broker, [payload])
        if number % 2:
            await store_windows(publisher, "s", [number], offsets=False)
    async with Daemon(broker.url, tmp_path, **ENV) as daemon:
        before = await until_stored(publisher, lambda found: len(found.text) >= 3 + len(payloads[2:]) // 2)
        await until_all_is_read(publisher, listener)
        await store_windows(publisher, "s", [601, 602, 603], offsets=False)
        await store(publisher, "s", b"", end=1)
        found = await until_ended(publisher)
        figures = listener.metrics[-1]

    heard = [text for text in found.text if int(text) < 500 or int(text) > 600]
    assert heard == ["1", "2", "3", "1", "3", "5", "7", "601", "602", "603"][: len(heard)], before.text
    assert heard[-3:] == ["601", "602", "603"]
    used = [text for text in found.text if 500 <= int(text) <= 600]
    assert used == sorted(used)
    # Each is transcribed or reported.
    reported = [gap for gap in found.of(Gap) if (gap.reason, gap.frames) == ("bad_input", 0)]
    assert found.of(Gap) == reported
    assert len(used) + len(reported) == len(payloads)
    found.check(len(found.text) * WINDOW)
    assert figures["transcriber.consumer.resets"] <= 3 * len(payloads)
    assert "Traceback" not in daemon.log()


async def until_all_is_read(publisher, listener):
    """Until no payload waits at the broker any more."""
    async with asyncio.timeout(PATIENCE_S):
        while (await publisher.jetstream().consumer_info("AUDIO", "transcriber-s")).num_pending:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await until(lambda: listener.metrics and listener.metrics[-1]["transcriber.lag_s"] == 0, "no lag")


# One daemon at a time.


async def test_a_streams_prompt_holds_on_through_kills(broker, tmp_path, publisher):
    await provisioned(broker)
    async with Restarted(broker, tmp_path, **ENV) as place:
        for number, headers in enumerate([{"Prompt": "Elbe 1"}, {}, {"Prompt": ""}, {}]):
            # Ahead of its window, and that is stored before anything more is said.
            await store(publisher, "s", level(1, WINDOW // 2), offset=number * WINDOW, **headers)
            await store(publisher, "s", level(1, WINDOW // 2), offset=number * WINDOW + WINDOW // 2)
            found = await until_stored(publisher, lambda found, number=number: len(found.text) == number + 1)
            assert found.of(Final)[-1].checkpoint.session.prompt == ("Elbe 1" if number < 2 else "")
            await place.kill()
        await store(publisher, "s", b"", end=1)
        found = await until_ended(publisher)

    assert [[word.word for word in final.words] for final in found.of(Final)] == [["Elbe", "1"]] * 2 + [[]] * 2
    found.check(4 * WINDOW)


async def test_the_next_daemon_knows_the_language_as_the_one_before_it_knew_it(broker, tmp_path, publisher):
    """Each window is too little to be sure of the language, and later of another."""
    await provisioned(broker)
    async with Restarted(broker, tmp_path, **ENV | {"BUFFER_DURATION_SECS": 2, "FAKE_DETECTS": 1}) as place:
        for number, heard in enumerate([1, 2, 3, 4, 5, 801, 802, 803, 804]):
            for name in ("alone", "killed"):
                await store(publisher, name, level(heard, 4 * WINDOW), offset=4 * number * WINDOW)
            if number in {1, 2, 5, 6, 7}:
                # The other one is the same stream, transcribed at once when all of it is there.
                await until_stored(publisher, lambda found, number=number: len(found.text) > number, "killed")
                await place.kill()
        for name in ("alone", "killed"):
            await store(publisher, name, b"", end=1)
        killed, alone = [(await until_ended(publisher, name)).of(Final) for name in ("killed", "alone")]

    states = [final.checkpoint.session.speakers[0].spoken for final in killed]
    assert [state.sure for state in states] == [False] * 3 + [True] * 6
    assert [final.language for final in killed] == ["en"] * 7 + ["de"] * 2
    assert states == [final.checkpoint.session.speakers[0].spoken for final in alone]
    assert [final.language for final in alone] == [final.language for final in killed]


async def test_words_that_were_left_to_the_next_window_are_published_once_across_crashes(broker, tmp_path, publisher):
    """The model transcribes a number each half second; each window has four seconds of left context."""
    await provisioned(broker)
    context = {"BUFFER_DURATION_SECS": 2, "LEFT_CONTEXT_SECS": 4, "HOLD_BACK_SECS": 0.5, "FAKE_WORD_S": 0.5}
    async with Restarted(broker, tmp_path, **ENV | context) as place:
        for number in range(24):
            await store(publisher, "s", level(number + 1, WINDOW), offset=number * WINDOW)
            if number % 5 == 4:
                # Four make a window, and it is over when something comes after it.
                await until_stored(publisher, lambda found, number=number: len(found.text) == number // 4)
                await place.kill()
        await store(publisher, "s", b"", end=1)
        found = await until_ended(publisher)

    assert place.deaths == 0
    assert [text.split() for text in found.text] == [
        ["1", "2", "3"],
        *[[str(number + n) for n in range(4)] for number in range(4, 20, 4)],
        ["20", "21", "22", "23", "24"],
    ]
    assert all(final.words[0].start == final.start - 0.5 for final in found.of(Final)[1:])
    found.check(24 * WINDOW)


async def test_second_daemon_waits_and_resumes_when_the_first_is_killed(broker, tmp_path, publisher, listener):
    await provisioned(broker)
    async with Daemon(broker.url, tmp_path, **ENV) as first:
        await store_windows(publisher, "s", [1, 2])
        await until_stored(publisher, lambda found: len(found.text) == 2)
        async with Daemon(broker.url, tmp_path, **ENV) as second:
            await until(lambda: "fenced off: another daemon transcribes this stream" in second.log(), "the fence")
            await until(
                lambda: (
                    listener.metrics[-1]["transcriber.streams.fenced"] == 1
                    or listener.metrics[-2]["transcriber.streams.fenced"] == 1
                )
            )
            await store_windows(publisher, "s", [3, 4], first=2)
            await until_stored(publisher, lambda found: len(found.text) == 4)
            assert "session resumed" not in second.log()

            watch = Stopwatch()
            await first.stop(signal.SIGKILL)
            await store_windows(publisher, "s", [5, 6], first=4)
            await until_stored(publisher, lambda found: len(found.text) == 6)
            took_s = watch.own_s
            await store(publisher, "s", b"", end=1)
            found = await until_ended(publisher)

    print(f"took over within {took_s:.1f} s")
    assert took_s < 12
    assert "fenced off" not in first.log()
    assert found.text == ["1", "2", "3", "4", "5", "6"]
    assert found.gaps == []
    found.check(6 * WINDOW)


async def test_daemon_that_stood_still_steps_back_when_another_has_taken_over(broker, tmp_path, publisher):
    await provisioned(broker)
    async with Daemon(broker.url, tmp_path, **ENV) as first:
        await store_windows(publisher, "s", [1, 2])
        await until_stored(publisher, lambda found: len(found.text) == 2)
        first.process.send_signal(signal.SIGSTOP)
        await store_windows(publisher, "s", [3, 4], first=2)
        async with Daemon(broker.url, tmp_path, **ENV) as second:
            await until_stored(publisher, lambda found: len(found.text) == 4)
            first.process.send_signal(signal.SIGCONT)
            await store_windows(publisher, "s", [5, 6, 7], first=4)
            await until(lambda: "fenced off: another daemon" in first.log(), "the first daemon to step back")
            await store_windows(publisher, "s", [8], first=7)
            await store(publisher, "s", b"", end=1)
            found = await until_ended(publisher)
            assert second.process.poll() is first.process.poll() is None

    assert found.text == ["1", "2", "3", "4", "5", "6", "7", "8"]
    assert found.gaps == []
    found.check(8 * WINDOW)


async def test_slow_owner_is_not_robbed(broker, tmp_path, publisher):
    """Its window lasts longer than the other one waits for a sign of life, and it has no room for more audio."""
    await provisioned(broker)
    job = tmp_path / "job_s"
    job.write_text("0")
    env = ENV | {"FAKE_JOB_FILE": job, "TRANSCRIPTION_QUEUE_CAPACITY": 1, "MAX_ATTEMPTS": 1}
    async with Daemon(broker.url, tmp_path, **env) as first:
        await store_windows(publisher, "s", [1])
        await until_stored(publisher, lambda found: found.text)
        async with Daemon(broker.url, tmp_path, **env) as second:
            await until(lambda: "fenced off" in second.log(), "the fence")
            job.write_text("7")
            for number in range(20, 620):
                await publisher.publish(
                    "audio.s", level(2, WINDOW // 20), headers={"Audio-Offset": f"{number * WINDOW // 20}"}
                )
            await until_stored(publisher, lambda found: len(found.text) == 2)
            fast = job.with_suffix(".new")
            fast.write_text("0")
            fast.replace(job)
            await store(publisher, "s", b"", end=1)
            found = await until_ended(publisher)

    assert "session resumed" not in second.log()
    assert "fenced off" not in first.log()
    assert found.text == ["1"] + 30 * ["2"]
    found.check(31 * WINDOW)


async def test_of_two_publishers_the_next_daemon_transcribes_the_same_one(broker, tmp_path, publisher):
    await provisioned(broker)
    async with Daemon(broker.url, tmp_path, **ENV) as first:
        await store(publisher, "s", level(1, WINDOW), session="old")
        await store(publisher, "s", level(2, WINDOW // 2), session="new")
        await until_stored(publisher, lambda found: found.of(End))
        first.process.send_signal(signal.SIGKILL)
        await first.ended()
    for _ in range(2):
        await store(publisher, "s", level(2, WINDOW // 2), session="new")
        await store(publisher, "s", level(3, WINDOW), session="old")
    await store(publisher, "s", b"", end=1)
    async with Daemon(broker.url, tmp_path, **ENV):
        found = await until_stored(publisher, lambda found: len(found.of(End)) == 2)

    assert found.text == ["1", "2", "2"]
    assert [(gap.start_frame, gap.frames, gap.reason) for gap in found.of(Gap)] == [(WINDOW, 0, "bad_input")]
    assert [end.received_frames for end in found.of(End)] == [WINDOW, WINDOW * 3 // 2]


async def test_stream_that_is_found_while_the_daemon_stops_is_the_next_ones(broker, tmp_path, publisher):
    """It would be served by nobody who drains it, and its windows would find a closed queue."""
    await provisioned(broker)
    await store_windows(publisher, "s", [1, 2, 3])
    await store(publisher, "s", b"", end=1)
    first = Daemon(
        broker.url, tmp_path, **ENV, **PATIENT_STOP, **before("bus.jetstream.provision:audio_subjects:1", "SIGSTOP")
    )
    first.start()
    await until(lambda: stopped(first), "its look for streams")
    first.process.send_signal(signal.SIGTERM)
    first.process.send_signal(signal.SIGCONT)
    assert await first.ended() == 0, first.log()
    async with Daemon(broker.url, tmp_path, **ENV):
        found = await until_ended(publisher)

    assert found.text == ["1", "2", "3"]
    assert found.gaps == []
    found.check(3 * WINDOW)


# Time.


async def test_sessions_and_pauses_are_where_the_stored_stamps_say(broker, tmp_path, publisher):
    """Half a window, a pause, half a window, a silence that ends the session, half a window.

    One stream has a daemon meanwhile, the other one only afterwards.
    """
    env = ENV | {"STREAM_IDLE_SECS": 2.5, "HEARTBEAT_TIMEOUT_SECS": 0.8}
    await provisioned(broker)
    names = ["meanwhile", "afterwards"]
    async with Daemon(broker.url, tmp_path, **env, AUDIO_SUBJECT="audio.meanwhile"):
        for value, pause_s in ((1, 1.4), (2, 3.2), (3, 0)):
            for name in names:
                await store(publisher, name, level(value, WINDOW // 2))
            await asyncio.sleep(pause_s)
        async with Daemon(broker.url, tmp_path, **env, AUDIO_SUBJECT="audio.afterwards"):
            sessions = [await until_ended(publisher, name, sessions=2) for name in names]

    for found in sessions:
        assert found.text == ["1", "2", "3"]
        assert found.sessions == [str(found.messages[0].first_seq), str(found.messages[0].first_seq + 4)]
        assert [message.start_frame for message in found.of(Final)] == [0, WINDOW // 2, 0]
        found.check(WINDOW, WINDOW // 2)


async def test_stream_that_is_silent_for_longer_than_a_request_ends(broker, tmp_path, publisher):
    async with Daemon(broker.url, tmp_path, **ENV, STREAM_IDLE_SECS=5.5) as daemon:
        await store_windows(publisher, "s", [1])
        watch, started_s = Stopwatch(), time.monotonic()
        found = await until_ended(publisher)
        waited_s, took_s = time.monotonic() - started_s, watch.own_s
        # Served again, as there was audio, but by nobody else.
        await store_windows(publisher, "s", [2])
        await until_stored(publisher, lambda found: len(found.text) == 2)

    assert waited_s > 5
    assert took_s < 11
    assert "fenced off" not in daemon.log()
    found.check(WINDOW)


async def test_session_is_named_by_its_first_payload_or_its_publisher(broker, tmp_path, publisher):
    await provisioned(broker)
    await store(publisher, "other", level(1, WINDOW))
    seq = await store(publisher, "s", level(1, WINDOW))
    await store(publisher, "s", b"", end=1)
    for value in (2, 3):  # an id that is used twice
        await store(publisher, "s", level(value, WINDOW), session="mine", offset=0)
        await store(publisher, "s", level(value, WINDOW), session="mine", offset=WINDOW)
        await store(publisher, "s", b"", end=1, session="mine")
    async with Daemon(broker.url, tmp_path, **ENV):
        found = await until_ended(publisher, sessions=3)

    assert seq == 2
    assert found.sessions == ["2", "mine"]
    assert found.text == ["1", "2", "2", "3", "3"]
    assert [(end.frames, end.transcribed_frames) for end in found.of(End)] == [(WINDOW, WINDOW)] + [
        (2 * WINDOW,) * 2
    ] * 2


# What is stored, and what is not.


async def test_partials_are_not_stored_and_know_nothing_of_it(broker, tmp_path, publisher, listener):
    await provisioned(broker)
    env = ENV | {"BUFFER_DURATION_SECS": 2, "PARTIAL_INTERVAL_SECS": 0.5, "FAKE_WORD_S": 0.25}
    async with Daemon(broker.url, tmp_path, **env):
        watch = Stopwatch()
        seqs = [await store(publisher, "s", level(7, WINDOW))]
        while not listener.of(Partial):
            await store(publisher, "s", b"")
            await asyncio.sleep(0.05)
        seqs += [await store(publisher, "s", level(7, WINDOW)) for _ in range(3)]
        await store(publisher, "s", b"", end=1)
        found = await until_ended(publisher)
        starved_s = watch.starved_s

    found.check(4 * WINDOW)
    (final,) = found.of(Final)
    assert (final.first_seq, final.last_seq) == (seqs[0], seqs[-1])
    (end,) = found.of(End)
    assert (end.checkpoint.seq, end.checkpoint.session) == (end.last_seq + 1, None)
    for message in found.messages:
        assert message.lag_s is not None
        assert message.lag_s < 5 + starved_s
        assert seqs[0] <= message.first_seq <= message.last_seq <= end.last_seq
        assert message.checkpoint is not None
    for partial in listener.of(Partial):
        assert (partial.first_seq, partial.last_seq, partial.lag_s, partial.checkpoint) == (None,) * 4


async def test_live_messages_know_nothing_of_storage(broker, tmp_path, publisher, listener):
    async with Daemon(broker.url, tmp_path, **ENV | {"DURABLE": 0}):
        await publisher.publish("audio.s", level(7, WINDOW))
        await publisher.publish("audio.s", b"", headers={"Audio-End": "1"})
        await listener.ends(1)

    for message in listener.messages:
        assert (message.first_seq, message.last_seq, message.lag_s, message.checkpoint) == (None,) * 4


# Backpressure.


async def test_long_lag_is_worked_off_in_little_memory(broker, tmp_path, publisher, listener):
    """Ten minutes of audio at 48 kHz, 58 MB; the daemon holds some seconds of it."""
    rate, chunk_s, total_s = 48_000, 0.5, 600
    await provisioned(broker)
    frames = int(rate * chunk_s)
    for number in range(int(total_s / chunk_s)):
        await publisher.publish("audio.s", level(7, frames), headers={"Audio-Offset": str(number * frames)})
    await store(publisher, "s", b"", end=1)
    env = ENV | {
        "INPUT_SAMPLE_RATE": rate,
        "BUFFER_DURATION_SECS": 5,
        "FAKE_JOB_S": 0.03,
        "TRANSCRIPTION_QUEUE_CAPACITY": 1,
    }
    async with Daemon(broker.url, tmp_path, **env) as daemon:
        least_mb = most_mb = daemon.rss_mb()
        lag_s = 0
        ending = asyncio.create_task(until_ended(publisher))
        while not ending.done():
            most_mb = max(most_mb, daemon.rss_mb())
            lag_s = max(lag_s, listener.metrics[-1]["transcriber.lag_s"] if listener.metrics else 0)
            await asyncio.sleep(0.02)
        found = await ending
        await until(lambda: listener.metrics and listener.metrics[-1]["transcriber.lag_s"] == 0, "no lag")

    print(f"{most_mb - least_mb:.0f} MB more, lag {lag_s:.1f} s")
    # Not by what the broker waits to be acknowledged: that grows with the time an acknowledgement takes on a busy machine.
    assert most_mb - least_mb < 20
    assert lag_s > 1
    assert found.gaps == []
    found.check(total_s * rate)


# Limits.


async def test_audio_that_expired_is_one_gap_of_its_length_with_offsets(broker, tmp_path, publisher):
    """A megabyte is kept, 32 s; in each stream a session is open when the daemon dies, and 60 s come meanwhile."""
    await provisioned(broker, audio_max_bytes=2**20)
    env = ENV | {"BUFFER_DURATION_SECS": 5, "AUDIO_MAX_BYTES": 2**20}
    for offsets in (True, False):
        stream = "offsets" if offsets else "plain"
        async with Daemon(broker.url, tmp_path, **env):
            await store_seconds(publisher, stream, 0, 7, offsets=offsets)
            await until_stored(publisher, lambda found: found.text, stream)
        await store_seconds(publisher, stream, 7, 60, offsets=offsets)
        kept = await publisher.jetstream().stream_info("AUDIO")
        first_s = kept.state.first_seq - (await first_seq(publisher, stream)) if offsets else None
        async with Daemon(broker.url, tmp_path, **env):
            await store(publisher, stream, b"", end=1)
            found = await until_ended(publisher, stream)
        if offsets:
            assert first_s is not None
            assert found.gaps == [("lost_input", 5 * RATE, found.of(Gap)[0].frames)]
            # What is left is contiguous: the gap ends where the first payload that is left begins.
            assert found.of(Gap)[0].frames == (first_s - 5) * RATE
            found.check(60 * RATE)
        else:
            assert found.gaps == [("lost_input", 5 * RATE, 0)]
            found.check(found.of(End)[0].frames)


async def first_seq(publisher, stream):
    """Of the first payload that there ever was."""
    return int((await stored(publisher, stream)).messages[0].first_seq)


async def store_seconds(publisher, stream, start_s, end_s, *, offsets):
    for second in range(start_s, end_s):
        await store(publisher, stream, level(7, RATE), **({"offset": second * RATE} if offsets else {}))


async def test_a_recreated_audio_stream_is_read_from_its_first_message(broker, tmp_path, publisher):
    await provisioned(broker)
    async with Daemon(broker.url, tmp_path, **ENV):
        await store_windows(publisher, "s", [1, 2])
        await until_stored(publisher, lambda found: len(found.text) == 2)
    await publisher.jetstream().delete_stream("AUDIO")
    await provisioned(broker)
    # More than there were before: sequences alone do not tell.
    await store_windows(publisher, "s", range(5, 10), first=4)
    async with Daemon(broker.url, tmp_path, **ENV) as daemon:
        await store(publisher, "s", b"", end=1)
        found = await until_ended(publisher)

    assert "the audio stream was recreated" in daemon.log()
    assert found.text == ["1", "2", "5", "6", "7", "8", "9"]
    assert found.gaps == [("lost_input", 2 * WINDOW, 2 * WINDOW)]
    found.check(9 * WINDOW)


async def test_transcripts_may_be_purged_while_the_daemon_runs(broker, tmp_path, publisher):
    await provisioned(broker)
    async with Daemon(broker.url, tmp_path, **ENV) as daemon:
        await store_windows(publisher, "s", [1, 2])
        await until_stored(publisher, lambda found: len(found.text) == 2)
        await publisher.jetstream().purge_stream("TRANSCRIPTS")
        await store_windows(publisher, "s", [3], first=2)
        await store(publisher, "s", b"", end=1)
        found = await until_ended(publisher)

    assert [message.type for message in found.messages] == ["final", "end"]
    assert found.of(End)[0].transcribed_frames == 3 * WINDOW
    assert "fenced" not in daemon.log()


async def test_garbage_among_the_transcripts_is_no_end(broker, tmp_path, publisher):
    await provisioned(broker)
    async with Daemon(broker.url, tmp_path, **ENV):
        await store_windows(publisher, "s", [1])
        await until_stored(publisher, lambda found: len(found.text) == 1)
    await publisher.jetstream().publish("transcripts.s.status", b"\xffno JSON")
    async with Daemon(broker.url, tmp_path, **ENV) as daemon, TranscriptListener(broker.url) as listener:
        await store_windows(publisher, "s", [2], first=1)
        await store(publisher, "s", b"", end=1)
        (end,) = await listener.ends(1)
        assert daemon.process.poll() is None

    # A daemon that finds no place to resume at begins a new session with what is not acknowledged.
    assert end.transcribed_frames >= WINDOW
    assert listener.of(Final)[-1].text == "2"


# Speakers.


async def test_speakers_tile_the_session_each_through_kills(broker, tmp_path, publisher):
    await provisioned(broker)
    env = ENV | {"SPEAKERS": "channels", "FAKE_JOB_S": 0.05, "MAX_ATTEMPTS": 50}
    async with Restarted(broker, tmp_path, **env) as place:
        for number in range(24):
            await store(
                publisher, "s", both(number + 1, 100 + number, WINDOW), content_type=STEREO, offset=number * WINDOW
            )
        for count in (6, 17, 33):
            await until_stored(publisher, lambda found, count=count: len(found.text) >= count)
            await place.kill()
        await store(publisher, "s", b"", end=1)
        found = await until_ended(publisher)

    assert [final.text for final in found.of(Final) if final.speaker == "0"] == [str(n + 1) for n in range(24)]
    assert [final.text for final in found.of(Final) if final.speaker == "1"] == [str(100 + n) for n in range(24)]
    assert found.gaps == []
    found.check(24 * WINDOW)


@pytest.mark.parametrize(("before", "after"), [("channels", "mix"), ("mix", "channels")])
async def test_session_keeps_its_speakers_when_the_setting_changes(broker, tmp_path, publisher, before, after):
    await provisioned(broker)
    for number in range(4):
        await store(publisher, "s", both(2, 4, WINDOW), content_type=STEREO, offset=number * WINDOW)
    async with Daemon(broker.url, tmp_path, **ENV, SPEAKERS=before) as daemon:
        await until_stored(publisher, lambda found: len(found.text) >= 4)
        await daemon.stop()
    async with Daemon(broker.url, tmp_path, **ENV, SPEAKERS=after):
        await store(publisher, "s", both(2, 4, WINDOW), content_type=STEREO, offset=4 * WINDOW)
        await store(publisher, "s", b"", end=1)
        await until_ended(publisher)
        await store(publisher, "s", both(2, 4, WINDOW), content_type=STEREO, offset=0)
        await store(publisher, "s", b"", end=1)
        found = await until_ended(publisher, sessions=2)

    found_speakers = {
        session: {final.speaker for final in found.of(Final) if final.session == session} for session in found.sessions
    }
    speakers = {"channels": {"0", "1"}, "mix": {None}}
    assert list(found_speakers.values()) == [speakers[before], speakers[after]]
    found.check(5 * WINDOW, WINDOW)


# What is missing.


async def test_without_its_streams_it_does_not_start(broker):
    status, said = run("serve", NATS_URL=broker.url, DURABLE=1, WHISPER_MODEL="demo")

    assert (status, said) == (
        3,
        "transcriber: there is no stream AUDIO: run `transcriber provision`, or set PROVISION=1",
    )


async def test_missing_consumer_costs_others_nothing_and_is_taken_when_it_comes(broker, tmp_path, publisher):
    await provisioned(broker, "b")
    for stream in ("a", "b", "c"):
        await store_windows(publisher, stream, [1])
        await store(publisher, stream, b"", end=1)
    await provisioned(broker, "c")
    async with Daemon(broker.url, tmp_path, **ENV | {"PROVISION": 0}) as daemon:
        for stream in ("b", "c"):
            (await until_ended(publisher, stream)).check(WINDOW)
        await until(
            lambda: "there is no consumer transcriber-a: run `transcriber provision a`" in daemon.log(), "a warning"
        )
        await provisioned(broker, "a")
        (await until_ended(publisher, "a")).check(WINDOW)


@pytest.mark.parametrize("provision", [1, 0])
async def test_consumer_that_was_deleted_is_made_again_or_asked_for(broker, tmp_path, publisher, provision):
    await provisioned(broker, "s")
    async with Daemon(broker.url, tmp_path, **ENV | {"PROVISION": provision}) as daemon:
        await store_windows(publisher, "s", [1, 2])
        await store(publisher, "s", level(3, WINDOW // 2), offset=2 * WINDOW)
        await until_stored(publisher, lambda found: len(found.text) == 2)
        await publisher.jetstream().delete_consumer("AUDIO", "transcriber-s")
        await store(publisher, "s", level(3, WINDOW // 2), offset=2 * WINDOW + WINDOW // 2)
        if not provision:
            await until(lambda: "cannot continue: there is no consumer transcriber-s" in daemon.log(), "a warning")
            await provisioned(broker, "s")
        await store_windows(publisher, "s", [4], first=3)
        await store(publisher, "s", b"", end=1)
        found = await until_ended(publisher)

    assert found.text == ["1", "2", "3", "4"]
    assert "fenced" not in daemon.log()
    found.check(4 * WINDOW)


async def test_audio_flows_again_soon_after_the_broker_was_killed(tmp_path, publisher_to):
    port_broker = EmbeddedBroker(store=tmp_path / "store")
    port_broker.start()
    try:
        await provisioned(port_broker, "s")
        publisher = await publisher_to(port_broker)
        async with Daemon(port_broker.url, tmp_path, **ENV):
            await store_windows(publisher, "s", [1, 2])
            await until_stored(publisher, lambda found: len(found.text) == 2)
            port = port_broker.port
            port_broker.process.kill()
            port_broker.stop()
            port_broker = EmbeddedBroker(store=tmp_path / "store", port=port)
            port_broker.start()
            watch = Stopwatch()
            await until(lambda: publisher.is_connected, "the connection")
            await store_windows(publisher, "s", [3, 4], first=2)
            await until_stored(publisher, lambda found: len(found.text) == 4)
            took_s = watch.own_s
            await store(publisher, "s", b"", end=1)
            found = await until_ended(publisher)
    finally:
        port_broker.stop()

    print(f"audio flows after {took_s:.1f} s")
    assert took_s < 10
    assert found.text == ["1", "2", "3", "4"]
    found.check(4 * WINDOW)
