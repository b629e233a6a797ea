"""Whole files: submitted, transcribed, resumed, cancelled, refused, accounted for to the frame."""

import asyncio
import json
import re
import signal
from pathlib import Path

import nats
import numpy as np
import pytest

import transcriber.testing
from bench.lib.media_files import KINDS, encode
from tests.support.audio import level, speak
from tests.support.clip_requests import ask, clip
from tests.support.daemon import PATIENT_STOP, Daemon
from tests.support.file_jobs import (
    ENV,
    QUICK,
    RATE,
    SLOW,
    file_client,
    finals,
    more_text,
    stepped_levels,
    submit_unanswered,
    wav,
)
from tests.support.media_files import make, without_packets
from tests.support.stopwatch import Stopwatch
from tests.support.transcripts import TranscriptListener
from tests.support.waiting import until
from transcriber.audio.media.open import open_media
from transcriber.schema.file_jobs import RESULT_FORMS
from transcriber.schema.messages import End, Final, Gap, Progress
from transcriber.testing.broker import EmbeddedBroker

SPEECH = Path(transcriber.testing.__file__).parent / "speech"


async def first_submission(desk, daemon, audio):
    daemon.start()
    await until(daemon.ready_or_dead, "readiness")
    return await desk.submit(audio)


async def test_a_file_becomes_text_results_and_a_record(broker, tmp_path):
    speech = (SPEECH / "06_bulletin.flac").read_bytes()
    async with (
        file_client(broker) as desk,
        TranscriptListener(broker.url) as listener,
        Daemon(broker.url, tmp_path, fake=False, FILES=1),
    ):
        job = await desk.submit(speech, by="test")
        record = await desk.over(job)

        assert (record.state, record.error, record.submission.by) == ("done", None, "test")
        assert record.results == tuple(f"{job}.{form}" for form in RESULT_FORMS)
        assert record.total_s == pytest.approx(17.23, abs=0.01)
        whole = await desk.result(job)
        assert whole["duration"] == pytest.approx(17.23, abs=0.01)
        assert "bulletin" in whole["text"].lower() or len(whole["text"].split()) > 20
        assert (await desk.result(job, "vtt")).startswith("WEBVTT")
        assert " --> " in await desk.result(job, "srt")
        assert (await desk.result(job, "txt")).split() == whole["text"].split()
        assert await desk.inputs.info(record.submission.object) is None
        await until(lambda: [p for p in listener.of(Progress, job) if p.state == "done"], "the last progress")
        assert max(final.duration for final in listener.of(Final, job)) > 10
        listener.check_accounts()


async def test_what_is_held_back_of_a_file_is_in_its_results_and_its_record(broker, tmp_path):
    env = {**ENV, "FAKE_WORD_S": 0}
    async with file_client(broker) as desk, Daemon(broker.url, tmp_path, **env):
        job = await desk.submit(clip(555, 5.0))
        record = await desk.over(job)
        whole = await desk.result(job)

    assert record.state == "done"
    assert whole["suppressed"] == [held.model_dump() for held in record.suppressed]
    assert {held.reason for held in record.suppressed} == {"repetition"}
    assert (record.suppressed[0].start, record.suppressed[-1].end) == (0, 5)
    assert (whole["text"], whole["segments"]) == ("", [])


@pytest.mark.usefixtures("quick")
async def test_killed_three_times_the_result_is_that_of_an_undisturbed_run(broker, tmp_path):
    audio = wav(stepped_levels(120))
    async with file_client(broker) as desk:
        async with Daemon(broker.url, tmp_path, **ENV, **QUICK) as daemon:
            undisturbed = await desk.submit(audio)
            expected = await desk.over(undisturbed)
        assert expected.state == "done"
        daemon = Daemon(broker.url, tmp_path, **ENV, **QUICK, FAKE_JOB_S=0.05)
        async with TranscriptListener(broker.url) as listener:
            job = await first_submission(desk, daemon, audio)
            for kill in range(3):
                await more_text(listener, job, 8, f"text before kill {kill}")
                daemon.process.kill()
                daemon.process.wait()
                daemon.start()
            record = await desk.over(job)
            await daemon.stop()

            assert record.state == "done"
            assert listener.of(End, job)[0].received_frames == 120 * RATE
            listener.check_accounts()
        for form in RESULT_FORMS:
            assert await desk.result(job, form) == await desk.result(undisturbed, form), form


@pytest.mark.usefixtures("slow")
async def test_a_daemon_that_stops_gives_its_file_to_another(broker, tmp_path):
    async with file_client(broker) as desk, TranscriptListener(broker.url) as listener:
        async with Daemon(broker.url, tmp_path, **ENV, **SLOW, FAKE_JOB_S=0.1) as first:
            job = await desk.submit(wav(stepped_levels(60)))
            await until(lambda: len(listener.of(Final, job)) > 3, "some text")
            async with Daemon(broker.url, tmp_path, **ENV, **SLOW):
                status, _ = await first.stop(signal.SIGTERM)
                record = await desk.over(job)

        assert status == 0
        assert (record.state, record.attempts) == ("done", 1)
        listener.check_accounts()


@pytest.mark.parametrize("running", [True, False], ids=["running", "queued"])
async def test_a_cancelled_job_ends_and_its_file_goes(broker, tmp_path, running):
    async with file_client(broker) as desk, TranscriptListener(broker.url) as listener:
        async with Daemon(broker.url, tmp_path, **ENV, FAKE_JOB_S=0.2) as daemon:
            if not running:
                await desk.submit(wav(stepped_levels(20)))
            job = await desk.submit(wav(stepped_levels(300)))
            if running:
                await until(lambda: listener.of(Final, job), "some text")
            await desk.ask("cancel", json.dumps({"job": job}).encode())
            record = await desk.over(job)
            assert record.state == "cancelled"
            await gone(desk, record.submission.object)
            after = await desk.submit(wav(stepped_levels(1)))
            assert (await desk.over(after)).state == "done"
            assert "file started" in daemon.log()

        assert len(listener.of(Final, job)) < 50
        assert bool(listener.of(Final, job)) == running


async def gone(desk, name):
    while await desk.inputs.info(name):  # noqa: ASYNC110 - the broker does not say
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("data", "error"), [(b"nothing that anybody could hear" * 100, ""), (b"", "")], ids=["no audio", "empty"]
)
async def test_what_cannot_be_read_fails_with_one_line_and_is_kept(broker, tmp_path, data, error):
    async with (
        file_client(broker) as desk,
        TranscriptListener(broker.url) as listener,
        Daemon(broker.url, tmp_path, **ENV) as daemon,
    ):
        job = await desk.submit(data)
        record = await desk.over(job)

        assert record.state == "failed"
        assert record.error
        assert "\n" not in record.error
        assert "Traceback" not in daemon.log()
        assert await desk.inputs.info(record.submission.object)
        await until(lambda: [p for p in listener.of(Progress, job) if p.state == "failed"], "the last progress")


async def test_a_truncated_file_says_what_is_missing(broker, tmp_path):
    audio = encode(KINDS["flac"], np.random.default_rng(1).integers(-9000, 9000, (20 * RATE, 1), np.int16), RATE)
    async with (
        file_client(broker) as desk,
        TranscriptListener(broker.url) as listener,
        Daemon(broker.url, tmp_path, **ENV),
    ):
        job = await desk.submit(audio[: len(audio) // 2])
        record = await desk.over(job)

        assert record.state == "done"
        assert record.error
        end = listener.of(End, job)[0]
        assert end.frames == 20 * RATE
        assert end.lost_frames == pytest.approx(10 * RATE, abs=5000)
        assert (await desk.result(job))["gaps"][-1]["reason"] == "lost_input"
        listener.check_accounts()


async def test_what_a_clip_or_a_file_lacks_is_in_its_text_and_in_no_figure_of_streams(broker, tmp_path):
    """Alerts are about streams, and so are the 300 series that there can be."""
    noise = (np.random.default_rng(1).normal(0, 6_000, (6 * RATE, 1))).clip(-32_768, 32_767).astype(np.int16)
    whole = encode(KINDS["flac"], noise, RATE)
    holed = whole[: len(whole) // 2] + whole[len(whole) * 2 // 3 :]
    otel = {"METRICS_PER_STREAM": 1, "OTEL_METRICS_EXPORTER": "console"}  # what there is at the end
    async with (
        file_client(broker) as desk,
        TranscriptListener(broker.url) as listener,
        Daemon(broker.url, tmp_path, **ENV, **otel, **PATIENT_STOP) as daemon,
    ):
        reply = json.loads((await ask(desk.client, holed, response_format="verbose_json")).data)
        job = await desk.submit(holed)
        await desk.over(job)
        result = await desk.result(job)
        await speak(listener.client, "live", level(5, RATE), end=1)
        await until(lambda: listener.of(End, "live"), "the end of the stream")
        reports = len(listener.metrics)
        await until(lambda: len(listener.metrics) > reports + 1, "figures of all that")
        status, _ = await daemon.stop()
        windows = len(listener.of(Final, job))

    assert status == 0
    assert {gap["reason"] for gap in reply["gaps"]} == {gap["reason"] for gap in result["gaps"]} == {"lost_input"}
    assert set(re.findall(r'"attributes": {\s*"stream": "([^"]*)"', daemon.log())) == {"live"}
    assert set(listener.metrics[-1]["transcriber.gaps"].values()) == {0}
    assert set(listener.metrics[-1]["transcriber.chunks.dropped"].values()) == {0}
    assert listener.metrics[-1]["transcriber.chunks.received"] == 1
    assert daemon.last_line("stopped")["jobs_enqueued"] == 2 * windows + 1


async def test_a_header_that_claims_more_than_there_is_is_reported_and_no_length(broker, tmp_path):
    audio = wav(stepped_levels(20))
    async with (
        file_client(broker) as desk,
        TranscriptListener(broker.url) as listener,
        Daemon(broker.url, tmp_path, **ENV),
    ):
        job = await desk.submit(audio[: len(audio) // 2])
        record = await desk.over(job)

        assert (record.state, record.total_s) == ("done", pytest.approx(10, abs=0.01))
        assert record.error == "its header claims 20.0 s, and there are 10.0 s"
        (gap,) = listener.of(Gap, job)
        assert (gap.reason, gap.frames, gap.detail) == ("bad_input", 0, record.error)
        assert listener.of(End, job)[0].lost_frames == 0
        listener.check_accounts()


async def test_what_lies_behind_a_file_is_transcribed_and_what_cannot_be_read_of_it_is_reported(broker, tmp_path):
    """The second of them breaks off, the third has a codec that is not read, the fourth another rate."""
    flac = encode(KINDS["ogg flac"], stepped_levels(5), RATE)
    noise = encode(KINDS["ogg flac"], np.random.default_rng(1).integers(-9000, 9000, (5 * RATE, 1), np.int16), RATE)
    speex = b"OggS\0\2" + bytes(8) + b"spx1" + bytes(8) + b"\1\x50Speex   1.2" + bytes(70)
    last = encode(KINDS["ogg flac"], stepped_levels(5, 8000), 8000)
    async with (
        file_client(broker) as desk,
        TranscriptListener(broker.url) as listener,
        Daemon(broker.url, tmp_path, **ENV),
    ):
        job = await desk.submit(flac + noise[: len(noise) // 2] + speex + last)
        record = await desk.over(job)
        result = await desk.result(job)

        assert record.state == "done"
        assert record.error
        (gap,) = listener.of(Gap, job)
        assert (gap.reason, gap.frames) == ("bad_input", 0)
        assert 5 <= gap.start <= 9
        assert listener.of(End, job)[0].frames == pytest.approx((gap.start + 5) * RATE, abs=RATE // 10)
        words = result["text"].split()
        assert [word for word in words if words.count(word) > 1]
        listener.check_accounts()


async def test_a_click_that_is_lost_costs_a_file_nothing(broker, tmp_path):
    """A short hole lies within a window: its frames are reported twice, and none is missing."""
    audio = without_packets(make("webm opus"), "webm", range(30, 38))
    async with (
        file_client(broker) as desk,
        TranscriptListener(broker.url) as listener,
        Daemon(broker.url, tmp_path, **ENV),
    ):
        job = await desk.submit(audio)
        record = await desk.over(job)

        (gap,) = listener.of(Gap, job)
        assert (gap.reason, gap.duration) == ("lost_input", pytest.approx(0.16, abs=0.01))
        assert (record.state, record.error) == ("done", None)
        assert (await desk.result(job))["duration"] == pytest.approx(2.1, abs=0.05)


async def until_over_whatever_dies(desk, job, daemon):
    """The record of a job whose daemon is started again and again."""
    while not (record := (await desk.desk.record(job)).record).over:
        if daemon.process.poll() is not None:
            daemon.start()
        await asyncio.sleep(0.05)
    return record


@pytest.mark.usefixtures("quick")
async def test_a_window_that_kills_daemons_becomes_a_gap_and_the_file_continues(broker, tmp_path):
    levels = stepped_levels(12)
    levels[6 * RATE : 8 * RATE] = round(700 * 32.768)  # two windows
    env = ENV | QUICK | {"FAKE_WORD_S": 0, "FAKE_KILL_AT": 700, "MAX_ATTEMPTS": 1}
    daemon = Daemon(broker.url, tmp_path, **env)
    async with file_client(broker) as desk, TranscriptListener(broker.url) as listener:
        job = await submit_unanswered(desk, wav(levels))
        daemon.start()
        record = await until_over_whatever_dies(desk, job, daemon)
        assert (record.state, record.attempts) == ("done", 5)
        await until(lambda: listener.of(End, job), "the end")
        await daemon.stop()
        assert [gap.reason for gap in listener.of(Gap, job)] == ["engine_error"] * 2
        listener.check_accounts()


@pytest.mark.usefixtures("quick")
async def test_file_that_kills_with_every_window_is_given_up(broker, tmp_path):
    """Here the thread dies, and the process ends as on SIGTERM: that counts, too."""
    levels = np.full((12 * RATE, 1), round(700 * 32.768), np.int16)
    daemon = Daemon(broker.url, tmp_path, **ENV | {"FAKE_WORD_S": 0}, **QUICK, FAKE_CRASH_AT=700, MAX_ATTEMPTS=1)
    async with file_client(broker) as desk:
        job = await submit_unanswered(desk, wav(levels))
        daemon.start()
        record = await until_over_whatever_dies(desk, job, daemon)
        await daemon.stop()

        assert (record.state, record.attempts) == ("failed", 5)
        assert record.error == "given up after 5 attempts: a worker died over it"


async def test_two_channels_are_two_speakers(broker, tmp_path):
    two = np.concatenate((stepped_levels(10), stepped_levels(10)[::-1]), axis=1)
    async with (
        file_client(broker) as desk,
        TranscriptListener(broker.url) as listener,
        Daemon(broker.url, tmp_path, **ENV),
    ):
        job = await desk.submit(wav(two), speakers="channels")
        record = await desk.over(job)

        assert record.state == "done"
        assert {final.speaker for final in listener.of(Final, job)} == {"0", "1"}
        assert "Speaker 1" in await desk.result(job, "srt")
        listener.check_accounts()


async def test_a_file_with_crossed_wires_is_transcribed_and_reported(broker, tmp_path):
    steps = stepped_levels(4)
    many = np.concatenate((steps, -steps, steps, -steps), axis=1)
    async with file_client(broker) as desk, Daemon(broker.url, tmp_path, **ENV) as daemon:
        texts = []
        for channels in (1, 2, 4):
            job = await desk.submit(wav(many[:, :channels]))
            assert (await desk.over(job)).state == "done"
            texts.append(await desk.result(job, "txt"))
            said = [line for line in daemon.log_lines() if "negative of another" in line["msg"]]
            assert job in str(said) if channels == 4 else len(said) == channels - 1

    assert texts[0].split()
    assert texts[1:] == texts[:1] * 2


async def test_what_is_asked_for_reaches_whisper(broker, tmp_path):
    async with (
        file_client(broker) as desk,
        TranscriptListener(broker.url) as listener,
        Daemon(broker.url, tmp_path, **ENV | {"FAKE_WORD_S": 0}),
    ):
        job = await desk.submit(wav(stepped_levels(4)), language="de", prompt="Berth Quay", keep=True)
        record = await desk.over(job)

        assert record.state == "done"
        finals = listener.of(Final, job)
        assert {final.language for final in finals} == {"de"}
        assert [word.word for word in finals[0].words] == ["Berth", "Quay"]
        assert await desk.inputs.info(record.submission.object)


async def test_live_text_beside_a_file_waits_for_one_window_of_it_at_most(broker, tmp_path):
    env = {"AUDIO_SUBJECT": "audio.*", "BUFFER_DURATION_SECS": 0.5, "INPUT_SAMPLE_RATE": RATE}
    daemon = Daemon(broker.url, tmp_path, **ENV | env, FAKE_JOB_S=1)
    async with file_client(broker) as desk, TranscriptListener(broker.url) as listener, daemon:
        job = await desk.submit(wav(stepped_levels(120)))
        await until(lambda: listener.of(Final, job), "some text of the file")
        publisher = await nats.connect(broker.url)
        watch = Stopwatch()
        for number in range(4):
            await speak(publisher, "live", level(100 + number, RATE // 2))
            await finals(listener, "live", number + 1)
        starved_s = watch.starved_s
        await publisher.close()
        assert not listener.of(Gap)
        assert not listener.of(End, job)
        for final in listener.of(Final, "live"):
            assert final.timing.queue_ms < 1000 * (2 + starved_s)
        await desk.ask("cancel", json.dumps({"job": job}).encode())


async def test_a_broker_that_dies_in_the_middle_costs_nothing(broker, tmp_path):
    async with (
        file_client(broker) as desk,
        TranscriptListener(broker.url) as listener,
        Daemon(broker.url, tmp_path, **ENV, FAKE_JOB_S=0.05),
    ):
        job = await desk.submit(wav(stepped_levels(60)))
        await until(lambda: len(listener.of(Final, job)) > 5, "some text")
        broker.process.kill()
        broker.process.wait()
        with EmbeddedBroker(store=tmp_path / "store", port=broker.port):
            record = await desk.over(job)

            assert record.state == "done"
            whole = await desk.result(job)
            assert whole["duration"] == 60
            assert not whole["gaps"]


async def test_two_voices_are_two_speakers_in_the_results(broker, tmp_path):
    low, high = ((SPEECH / f"{name}.flac").read_bytes() for name in ("01_gale_warning", "02_berth"))
    both = wav(np.concatenate([samples_of(clip) for clip in (low, high, low)]), 48_000)
    async with (
        file_client(broker) as desk,
        TranscriptListener(broker.url) as listener,
        Daemon(broker.url, tmp_path, fake=False, FILES=1, SPEAKERS="voices"),
    ):
        job = await desk.submit(both)
        record = await desk.over(job)

        assert record.state == "done", record.error
        speakers = [segment["speaker"] for segment in (await desk.result(job))["segments"]]
        assert set(speakers) == {"A", "B"}
        assert (speakers[0], speakers[-1]) == ("A", "A")
        assert {final.speaker for final in listener.of(Final, job)} == {None}
        assert "Speaker B: " in await desk.result(job, "srt")


def samples_of(clip):
    """(frames, 1) int16"""
    return np.concatenate([np.frombuffer(piece.data, "<i2") for piece in open_media(clip).pieces])[:, np.newaxis]


async def test_what_is_published_of_a_file_does_not_stay_in_memory(broker, tmp_path):
    settings = {"FILES": 1, "FAKE_WORD_S": 10, "FAKE_GC": 0}
    async with file_client(broker) as desk, Daemon(broker.url, tmp_path, **settings) as daemon:
        await desk.over(await desk.submit(wav(stepped_levels(60))))
        before_mb = daemon.resident_mb
        job = await desk.submit(wav(stepped_levels(1800)))
        assert (await desk.over(job)).state == "done"

        # Its windows alone have 115 MB.
        assert daemon.resident_mb - before_mb < 50


@pytest.mark.usefixtures("quick")
async def test_an_urgent_file_overtakes_one_that_runs_and_one_that_waits_though_its_daemon_is_killed(broker, tmp_path):
    async with file_client(broker) as desk, TranscriptListener(broker.url) as listener:
        async with Daemon(broker.url, tmp_path, **ENV, **QUICK, FAKE_JOB_S=0.1) as daemon:
            others = [await desk.submit(wav(stepped_levels(600))) for _ in range(2)]
            await more_text(listener, others[0], 1, "text of the file that runs")
            urgent = await desk.submit(wav(stepped_levels(40)), urgent=True)
            await more_text(listener, urgent, 5, "text of the urgent file")
            daemon.process.kill()
            daemon.process.wait()
            daemon.start()
            record = await desk.over(urgent)
            states = [(await desk.desk.record(job)).record for job in others]

        assert (record.state, record.urgent, record.done_s) == ("done", True, 40)
        assert [state.over or state.urgent for state in states] == [False, False]
        listener.check_accounts()
