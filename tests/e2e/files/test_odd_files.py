"""Files that are odd: what is in them, what is asked of them, what becomes of them meanwhile."""

import asyncio
import io
import json
import signal

import av
import numpy as np
import pytest

from bench.chaos.readers import read_texts
from tests.support.daemon import Daemon
from tests.support.durable_streams import Stored
from tests.support.file_jobs import (
    ENV,
    RATE,
    before,
    documents,
    file_client,
    pieces,
    stepped_levels,
    stopped,
    submit_unanswered,
    until_queue_empty,
    wav,
)
from tests.support.waiting import PATIENCE_S, until
from transcriber.errors import TextGoneError
from transcriber.files.results import check_whole
from transcriber.schema.file_jobs import RESULT_FORMS, Submission


def encoded(samples, container, codec, rate=RATE, layout="mono", **more):
    """(frames, channels) int16 in any container."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", container) as out:
        stream = out.add_stream(codec, rate=rate, layout=layout, **more)
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout=layout)
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            out.mux(packet)
    return buffer.getvalue()


def film():
    """Pictures without a sound."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", "matroska") as out:
        stream = out.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 16
        stream.pix_fmt = "yuv420p"
        frames = [av.VideoFrame.from_ndarray(np.zeros((24, 16), np.uint8), format="yuv420p") for _ in range(5)]
        for frame in [*frames, None]:
            for packet in stream.encode(frame):
                out.mux(packet)
    return buffer.getvalue()


ODD = {
    "one frame": (wav(stepped_levels(1)[:1]), "done", None),
    "three channels": (
        encoded(np.repeat(stepped_levels(3), 3, axis=1), "wav", "pcm_s16le", layout="2.1"),
        "done",
        None,
    ),
    "mu-law at 8 kHz": (encoded(stepped_levels(3, 8000), "wav", "pcm_mulaw", rate=8000), "done", None),
    "no sound": (film(), "failed", "no audio"),
    "nothing": (b"", "failed", ""),
    "a header only": (wav(stepped_levels(1))[:44], "failed", ""),
}


async def test_odd_files_are_done_or_fail_with_one_line(broker, tmp_path):
    async with file_client(broker) as desk, Daemon(broker.url, tmp_path, **ENV) as daemon:
        jobs = {name: await desk.submit(data) for name, (data, _, _) in ODD.items()}
        for name, job in jobs.items():
            record = await desk.over(job)
            _, state, error = ODD[name]
            assert record.state == state, (name, record.error)
            if state == "failed":
                assert record.error, name
                assert error in record.error
                assert "\n" not in record.error
        await until_queue_empty(desk)
        assert "Traceback" not in daemon.log()
        for name in ("three channels", "mu-law at 8 kHz"):
            whole = await desk.result(jobs[name])
            assert (whole["duration"], whole["gaps"]) == (3, [])
            assert len(whole["segments"]) > 0
        assert (await desk.result(jobs["one frame"]))["duration"] == 1 / RATE


async def test_silence_is_done_and_its_results_are_empty(broker, tmp_path):
    async with file_client(broker) as desk, Daemon(broker.url, tmp_path, **ENV, SPEECH_GATE=1):
        job = await desk.submit(wav(np.zeros((5 * RATE, 1), np.int16)))
        assert (await desk.over(job)).state == "done"
        whole, srt, vtt, text = await documents(desk, job)
    assert (whole["text"], whole["segments"], whole["duration"]) == ("", [], 5)
    assert (srt, vtt.strip(), text) == ("", "WEBVTT", "")


async def test_what_looks_like_the_marks_of_captions_breaks_none(broker, tmp_path):
    async with file_client(broker) as desk, Daemon(broker.url, tmp_path, **ENV | {"FAKE_WORD_S": 0}):
        job = await desk.submit(wav(stepped_levels(1)), prompt="one --> two <b> & NOTE")
        assert (await desk.over(job)).state == "done"
        srt, vtt = await desk.result(job, "srt"), await desk.result(job, "vtt")
    assert srt == "1\n00:00:00,000 --> 00:00:01,000\none --> two <b> & NOTE\n\n"  # it knows no other way to say so
    assert vtt.count("-->") == vtt.count("\n\n") - 1
    assert "<b>" not in vtt


async def test_what_the_model_cannot_do_is_refused_at_once(broker, tmp_path):
    async with file_client(broker) as desk, Daemon(broker.url, tmp_path, **ENV):
        await desk.inputs.put("a", pieces(wav(stepped_levels(1))))
        for wish, lack in [
            ({"language": "fr"}, "the model fake does not know 'fr'"),
            ({"task": "translate"}, "the model fake does not translate"),
            ({"tongue": "fr"}, "tongue: Extra inputs are not permitted"),
            ({"job": "radio"}, "job: "),
        ]:
            answer = await desk.client.request(
                "transcriber.submit", json.dumps({"object": "a"} | wish).encode(), timeout=PATIENCE_S
            )
            assert answer.headers["Nats-Service-Error-Code"] == "400"
            assert answer.headers["Nats-Service-Error"].startswith(lack)


async def test_a_job_that_this_model_cannot_do_fails(broker, tmp_path):
    """Another daemon, of another model, has taken the order."""
    async with file_client(broker) as desk, Daemon(broker.url, tmp_path, **ENV):
        await desk.inputs.put("a", pieces(wav(stepped_levels(1))))
        answer = await desk.desk.submit(Submission(object="a", language="fr"))
        record = await desk.over(answer.job)
        assert (record.state, record.error) == ("failed", "the model fake does not know 'fr'")
        await until_queue_empty(desk)


@pytest.mark.parametrize("replaced", [True, False], ids=["replaced", "deleted"])
@pytest.mark.parametrize("place", ["files.attempt:FileAttempt.run:1", "files.transcription:check_whole:1"])
async def test_an_input_that_changes_meanwhile(broker, tmp_path, place, replaced):
    """Before it is read, the job fails; when its text is whole, nobody cares; the other file is never removed."""
    async with file_client(broker) as desk, Daemon(broker.url, tmp_path, **ENV, **before(place, "SIGSTOP")) as daemon:
        job, other = await submit_unanswered(desk, wav(stepped_levels(2))), wav(stepped_levels(3))
        await until(lambda: stopped(daemon), "the place")
        await (desk.inputs.put(job, pieces(other)) if replaced else desk.inputs.delete(job))
        daemon.process.send_signal(signal.SIGCONT)
        record = await desk.over(job)
        await until_queue_empty(desk)

        if "check_whole" in place:
            assert record.state == "done"
        else:
            assert record.state == "failed"
            assert ("was replaced" if replaced else "is no longer in") in record.error
        assert bool(await desk.inputs.info(job)) == replaced


@pytest.mark.parametrize(
    ("filler", "place"),
    [
        ("text", "files.transcription:check_whole:1"),
        ("age", "files.transcription:check_whole:1"),
        ("text", "bus.object_store.bucket:Bucket.put:2"),
    ],
    ids=["text", "age", "text between two documents"],
)
async def test_text_that_is_gone_before_its_results_fails_the_job(broker, tmp_path, filler, place):
    limits = {"transcript_max_age_secs": 1} if filler == "age" else {"transcript_max_bytes": 2**20}
    async with (
        file_client(broker, **limits) as desk,
        Daemon(broker.url, tmp_path, **ENV, **before(place, "SIGSTOP")) as daemon,
    ):
        two = np.concatenate((stepped_levels(2), stepped_levels(2)), axis=1)
        job = await submit_unanswered(desk, wav(two), speakers="channels")
        await until(lambda: stopped(daemon), "the place")
        await oldest_gone(desk)
        daemon.process.send_signal(signal.SIGCONT)
        record = await desk.over(job)
        assert record.state == "failed"
        assert record.error == "some of its text is gone already: TRANSCRIPT_MAX_AGE_SECS, TRANSCRIPT_MAX_BYTES"
        await until_queue_empty(desk)
        assert [form for form in RESULT_FORMS if await desk.results.info(f"{job}.{form}")] == []


async def test_all_words_of_one_speaker_gone_is_seen(broker, tmp_path):
    async with file_client(broker) as desk, Daemon(broker.url, tmp_path, **ENV):
        job = await desk.submit(
            wav(np.concatenate((stepped_levels(1), stepped_levels(1)), axis=1)), speakers="channels"
        )
        await desk.over(job)
        stored = Stored(await read_texts(desk.client), job).messages
        assert [(m.type, getattr(m, "speaker", None)) for m in stored[:3]] == [
            ("status", None),
            ("final", "0"),
            ("final", "1"),
        ]
        account, suppressed, *_ = await check_whole(lambda: listened(stored))
        assert (account.frames, suppressed) == (RATE, ())
        with pytest.raises(TextGoneError):
            await check_whole(lambda: listened(stored[2:]))


async def listened(messages):
    for message in messages:
        yield message


async def oldest_gone(desk):
    """Fill the stream of texts, or wait, until its first message is gone."""
    jetstream = desk.client.jetstream()
    async with asyncio.timeout(PATIENCE_S):
        while (await jetstream.stream_info("TRANSCRIPTS")).state.first_seq <= 2:
            await jetstream.publish("transcripts.filler.status", bytes(100_000))
