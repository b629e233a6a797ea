"""One-shot requests, by a plain client: text, errors, discovery, and what they cost live streams."""

import asyncio
import json
import os
import random
import re
import signal
import socket
import sys
from pathlib import Path

import nats
import numpy as np
import pytest
from nats.errors import NoRespondersError

from bench.lib.media_files import KINDS, encode
from tests.support.audio import level, speak
from tests.support.clip_requests import RATE, SUBJECT, ask, ask_many, clip, code, discover, noise, text, wav
from tests.support.daemon import PATIENT_STOP, ROOT, Daemon
from tests.support.media_files import make, without_packets
from tests.support.stopwatch import Stopwatch
from tests.support.waiting import PATIENCE_S, settled, until
from transcriber.clips.headers import FORMS
from transcriber.schema.messages import MAX_HELD_BACK, Final, Gap
from transcriber.testing.broker import EmbeddedBroker
from transcriber.testing.daemon import DaemonProcess
from transcriber.testing.speech import SPEECH_FORMAT, load_speech
from transcriber.text.captions import clock

HELD_S = 3600
LIVE = {"INPUT_SAMPLE_RATE": RATE, "BUFFER_DURATION_SECS": 0.5}


@pytest.fixture(scope="module")
def recording():
    return load_speech()[1]


@pytest.fixture(scope="module")
def demo_broker():
    """With a daemon that has the bundled model."""
    with EmbeddedBroker() as broker, DaemonProcess(broker.url, OMP_NUM_THREADS="1") as daemon:
        assert asyncio.run(daemon.ready()), daemon.log()
        yield broker


@pytest.fixture
async def demo(demo_broker, publisher_to):
    """A client of the bundled model."""
    return await publisher_to(demo_broker)


@pytest.fixture
def job(tmp_path):
    """Sets how long the worker takes for a clip, also for the one in hand."""
    path = tmp_path / "job_s"

    def takes(seconds):
        path.write_text(str(seconds))
        return path

    return takes


def words(said):
    return re.findall(r"[a-z]+", said.lower())


async def test_the_bundled_speech_is_transcribed_in_every_form(demo, recording):
    payload = wav(recording.pcm, SPEECH_FORMAT.rate)

    replies = {
        form: (await ask(demo, payload, response_format=form)).data.decode()
        for form in ("json", "verbose_json", "text", "srt", "vtt")
    }
    by_default = await ask(demo, payload)

    said = json.loads(replies["json"])["text"]
    assert json.loads(by_default.data) == json.loads(replies["json"]) == {"text": said}
    assert by_default.headers is None
    missed = set(words(recording.text)) ^ set(words(said))
    assert len(missed) <= 3
    assert replies["text"] == f"{said}\n"
    verbose = json.loads(replies["verbose_json"])
    assert verbose.keys() == {"task", "segments", "words", "gaps", "suppressed", "language", "duration", "text"}
    assert (verbose["task"], verbose["language"], verbose["text"]) == ("transcribe", "en", said)
    assert verbose["gaps"] == verbose["suppressed"] == []
    assert verbose["duration"] == recording.frames / SPEECH_FORMAT.rate
    assert " ".join(word["word"] for word in verbose["words"]) == said
    for segment in verbose["segments"]:
        assert segment.keys() == {
            "id", "start", "end", "text", "avg_logprob", "no_speech_prob", "temperature", "speaker", "words",
        }  # fmt: skip
        assert segment["words"][0].keys() == {"word", "start", "end", "probability"}
    assert [segment["id"] for segment in verbose["segments"]] == list(range(len(verbose["segments"])))
    assert replies["srt"].startswith("1\n00:00:0")
    assert replies["vtt"].startswith("WEBVTT\n\n1\n00:00:0")
    for form in ("srt", "vtt"):
        assert words("".join(re.findall(r"\n((?:.*[a-z].*\n)+)", replies[form]))) == words(said)
    assert clock(verbose["segments"][-1]["end"]) in replies["vtt"]


async def test_a_request_for_which_the_client_has_no_room_is_429_and_no_loss_of_audio(
    broker, tmp_path, publisher, listener
):
    env = {"FAKE_SET": "transcriber.bus.micro_service:PENDING_BYTES=65536"}
    async with Daemon(broker.url, tmp_path, **env) as daemon:
        daemon.process.send_signal(signal.SIGSTOP)
        asking = asyncio.create_task(ask_many(publisher, [clip(5, 0.4)] * 50))
        await until(lambda: publisher.stats["out_msgs"] >= 50, "the requests")
        await settled(publisher)
        daemon.process.send_signal(signal.SIGCONT)
        replies = await asking
        refused = [reply.headers for reply in replies if code(reply) == 429]
        await until(lambda: listener.metrics and listener.metrics[-1]["transcriber.requests"]["429"] == len(refused))
        stats = await discover(publisher, "STATS")

    dropped = [headers for headers in refused if "come at once" in headers["Nats-Service-Error"]]
    assert {headers["Retry-After"] for headers in dropped} == {"1"}
    assert {code(reply) for reply in replies} == {200, 429}
    assert set(listener.metrics[-1]["transcriber.chunks.dropped"].values()) == {0}
    (endpoint,) = stats["endpoints"]
    assert (endpoint["num_requests"], endpoint["num_errors"]) == (50, len(refused))


async def test_where_nobody_speaks_there_is_no_text_and_nobody_is_asked(demo):
    replies = await ask_many(demo, [clip(0, 3), noise(3), noise(30, 0.03)], response_format="verbose_json")

    assert [json.loads(reply.data)["text"] for reply in replies] == ["", "", ""]
    assert [json.loads(reply.data)["segments"] for reply in replies] == [[], [], []]


async def test_suppressed_text_is_reported_in_every_response_format(broker, tmp_path, publisher):
    async with Daemon(broker.url, tmp_path):
        replies = {form: await ask(publisher, clip(555), response_format=form) for form in FORMS}

    held = [{"start": 0.0, "end": 1.0, "reason": "repetition"}]
    assert {form: json.loads(reply.headers["Suppressed"]) for form, reply in replies.items()} == dict.fromkeys(
        FORMS, held
    )
    assert json.loads(replies["json"].data) == {"text": "", "suppressed": held}
    verbose = json.loads(replies["verbose_json"].data)
    assert (verbose["text"], verbose["segments"], verbose["suppressed"]) == ("", [], held)
    assert replies["text"].data == b""


async def test_unread_parts_of_a_clip_are_reported_in_every_response_format(broker, tmp_path, publisher):
    """A second is missing in one; of the other the header claims more than there is."""
    webm = without_packets(make("webm opus"), "webm", range(30, 80))
    cut = wav(level(5, 10 * RATE))[: 44 + 4 * RATE]
    async with Daemon(broker.url, tmp_path):
        replies = {form: await ask(publisher, webm, response_format=form) for form in FORMS}
        claimed = await ask(publisher, cut, response_format="verbose_json")
        whole = await ask(publisher, clip(5), response_format="json")

    for form, reply in replies.items():
        (gap,) = json.loads(reply.headers["Gaps"])
        assert gap == {
            "start": pytest.approx(0.6, abs=0.03),
            "end": pytest.approx(1.6, abs=0.03),
            "reason": "lost_input",
        }, form
    assert json.loads(claimed.headers["Gaps"]) == [{"start": 2.0, "end": 2.0, "reason": "bad_input"}]
    said = json.loads(claimed.data)
    assert (said["duration"], said["gaps"][0]["detail"]) == (2.0, "its header claims 10.0 s, and there are 2.0 s")
    assert not whole.headers


async def test_a_long_clip_names_the_first_windows_that_are_held_back_beside_the_text_and_all_of_them_in_it(
    broker, tmp_path, publisher
):
    async with Daemon(broker.url, tmp_path, FILE_WINDOW_SECS=1):
        reply = await ask(publisher, clip(555, 30.0), response_format="verbose_json")

    named, held = json.loads(reply.headers["Suppressed"]), json.loads(reply.data)["suppressed"]
    assert len(named) == MAX_HELD_BACK < len(held)
    assert named == held[:MAX_HELD_BACK]


async def test_a_clip_longer_than_a_window_is_transcribed_whole_and_in_order(broker, tmp_path, publisher):
    async with Daemon(broker.url, tmp_path, FILE_WINDOW_SECS=1, FAKE_WORD_S=0.5):
        levels = list(range(1, 41))
        payload = wav(b"".join(level(loud, RATE // 2) for loud in levels))

        reply = await ask(publisher, payload, response_format="verbose_json")

    verbose = json.loads(reply.data)
    # Windows of levels have no quiet place, so they overlap, and a word may be transcribed in two halves: none is missing.
    heard = [int(word) for word in verbose["text"].split()]
    assert set(levels) <= set(heard)
    assert verbose["duration"] == 20.0
    starts = [segment["start"] for segment in verbose["segments"]]
    assert starts == sorted(starts)
    assert len(starts) > 1


async def test_two_channels_are_two_speakers_where_they_are_split(broker, tmp_path, publisher):
    left, right = (np.frombuffer(level(loud, 2 * RATE), "<i2") for loud in (3, 5))
    stereo = wav(np.stack((left, right), axis=1).tobytes(), channels=2)

    async with Daemon(broker.url, tmp_path, SPEAKERS="channels"):
        apart = await ask(publisher, stereo, response_format="verbose_json")
    async with Daemon(broker.url, tmp_path):
        mixed = await ask(publisher, stereo)

    assert [(s["speaker"], s["text"]) for s in json.loads(apart.data)["segments"]] == [("0", "3"), ("1", "5")]
    assert text(mixed) == "4"


async def test_compressed_clips_say_what_their_original_says(demo, recording):
    samples = np.frombuffer(recording.pcm, "<i2").reshape(-1, 1)[: 8 * SPEECH_FORMAT.rate]
    kinds = ("wav s16", "flac", "mp3 cbr", "m4a", "ogg opus", "webm opus")

    replies = await ask_many(demo, [encode(KINDS[kind], samples, SPEECH_FORMAT.rate) for kind in kinds])

    original, *others = (words(text(reply)) for reply in replies)
    assert len(original) > 10
    for kind, said in zip(kinds[1:], others, strict=True):
        assert len(set(said) ^ set(original)) <= 2, kind


async def test_what_is_asked_for_reaches_the_model(broker, tmp_path, publisher):
    async with Daemon(broker.url, tmp_path):
        plain = await ask(publisher, clip(5), response_format="verbose_json")
        asked = await ask(
            publisher,
            clip(5),
            response_format="VERBOSE_JSON",
            language="de-AT",
            prompt="Elbe 1 Cuxhaven",
            task="transcribe",
        )

    assert json.loads(plain.data)["language"] == "en"
    assert json.loads(plain.data)["words"] == []
    assert json.loads(asked.data)["language"] == "de"
    assert [word["word"] for word in json.loads(asked.data)["words"]] == ["Elbe", "1", "Cuxhaven"]


async def test_what_cannot_be_read_or_done_is_400(broker, tmp_path, publisher):
    asked: list[tuple[bytes, dict[str, str], str]] = [
        (b"", {}, ""),
        (b"no audio at all", {}, ""),
        (make("flac")[:50_000], {}, "it ends after"),
        (wav(b""), {}, "no audio"),
        (clip(5), {"response_format": "docx"}, "Response-Format is none of json, verbose_json"),
        (clip(5), {"task": "summarize"}, "Task is none of transcribe, translate"),
        (clip(5), {"task": "translate"}, "does not translate"),
        (clip(5), {"language": "fr"}, "does not know 'fr'"),
        (clip(5), {"language": "?"}, "not a code or an English name of a language"),
        (clip(5), {"prompt": "x" * 1001}, "Prompt has 1001 characters"),
    ]
    async with Daemon(broker.url, tmp_path):
        for payload, headers, said in asked:
            reply = await ask(publisher, payload, **headers)

            assert text(await ask(publisher, clip(5))) == "5"
            assert code(reply) == 400, said
            assert reply.data == b""
            assert said in reply.headers["Nats-Service-Error"]
            assert "\n" not in reply.headers["Nats-Service-Error"]


async def test_too_much_audio_and_too_long_an_answer_are_413(tmp_path):
    config = tmp_path / "nats.conf"
    config.write_text("max_payload: 65536")
    with EmbeddedBroker("-c", str(config)) as small:
        client = await nats.connect(small.url)
        async with Daemon(small.url, tmp_path, REQUEST_MAX_SECS=1, FAKE_WORD_S=0.002):
            too_long = await ask(client, clip(5, 1.1))
            too_wordy = await ask(client, clip(5), response_format="verbose_json")
        await client.close()

    assert [code(too_long), code(too_wordy)] == [413, 413]
    for reply in (too_long, too_wordy):
        assert "use the object store: transcriber.submit" in reply.headers["Nats-Service-Error"]


async def test_beyond_the_places_of_the_queue_requests_are_429_and_say_when_to_come_again(
    broker, tmp_path, publisher, job
):
    async with Daemon(broker.url, tmp_path, FAKE_JOB_FILE=job(0)) as daemon:
        job(HELD_S)
        asking = asyncio.gather(*(ask(publisher, clip(loud)) for loud in range(1, 41)))
        await until_refused(publisher, 20)
        job(0)
        replies = await asking
        stats = (await discover(publisher, "STATS"))["endpoints"][0]
        assert (await daemon.stop())[0] == 0

    codes = [code(reply) for reply in replies]
    taken = codes.count(200)
    assert 16 <= taken <= 20
    assert codes.count(429) == 40 - taken
    assert all(text(reply) == str(loud) for loud, reply in enumerate(replies, 1) if code(reply) == 200)
    assert all(int(reply.headers["Retry-After"]) >= 1 for reply in replies if code(reply) == 429)
    assert (stats["num_requests"], stats["num_errors"]) == (40, 40 - taken)


async def test_where_clips_may_be_long_fewer_are_open(broker, tmp_path, publisher, job):
    async with Daemon(broker.url, tmp_path, FAKE_JOB_FILE=job(0), REQUEST_MAX_SECS=3600):
        job(HELD_S)
        asking = asyncio.gather(*(ask(publisher, clip(1)) for _ in range(3)))
        await until_refused(publisher, 2)
        job(0)
        codes = sorted(code(reply) for reply in await asking)

    assert codes == [200, 429, 429]


async def test_one_who_floods_the_queue_makes_room_for_another(broker, tmp_path, publisher, job):
    other = await nats.connect(broker.url)
    async with Daemon(broker.url, tmp_path, FAKE_JOB_FILE=job(0)):
        job(HELD_S)
        flood = asyncio.gather(*(ask(publisher, clip(1)) for _ in range(20)))
        await until_refused(publisher, 1)
        asking = asyncio.create_task(ask(other, clip(2)))
        await until_queued(other, 21)
        job(0)
        calm = await asking
        codes = [code(reply) for reply in await flood]
    await other.close()

    assert text(calm) == "2"
    assert codes.count(429) >= 1


async def test_what_is_not_done_in_time_is_504_and_what_has_not_begun_is_never_done(
    broker, tmp_path, publisher, listener
):
    job_s = tmp_path / "job_s"
    job_s.write_text("1.5")
    env = {"FAKE_JOB_FILE": job_s, "REQUEST_TIMEOUT_SECS": 0.5}
    async with Daemon(broker.url, tmp_path, **env):
        replies = await ask_many(publisher, [clip(1), clip(2), clip(3)])
        job_s.write_text("0")
        await until(lambda: listener.metrics[-1]["transcriber.requests"]["504"] == 3)
        last = await until_answered(publisher)
        stats = (await discover(publisher, "STATS"))["endpoints"][0]

    assert [code(reply) for reply in replies] == [504, 504, 504]
    assert text(last) == "9"
    assert stats["average_processing_time"] > 1e8


async def until_refused(client, count):
    """Nobody is answered otherwise while the model holds the first."""
    await until(lambda: client.stats["in_msgs"] >= count, f"{count} refusals")


async def until_answered(client):
    """The answer to the first request that gets one, once the job in hand is done."""
    while code(reply := await ask(client, clip(9))) == 504:
        pass
    return reply


async def test_an_engine_that_fails_is_500_for_the_whole_request(broker, tmp_path, publisher):
    payload = wav(level(1, RATE) + level(77, RATE) + level(3, RATE))
    async with Daemon(broker.url, tmp_path, FAKE_FAIL_AT=77, FILE_WINDOW_SECS=1):
        reply = await ask(publisher, payload)
        after = await ask(publisher, clip(5, 0.5))

    assert code(reply) == 500
    assert "not transcribed" in reply.headers["Nats-Service-Error"]
    assert text(after) == "5"


async def test_two_daemons_share_the_requests_and_each_reports_what_it_did(broker, tmp_path, publisher):
    heard = []

    async def hear(message):
        heard.append(json.loads(message.data))

    async with Daemon(broker.url, tmp_path), Daemon(broker.url, tmp_path):
        replies = [await ask(publisher, clip(5)) for _ in range(30)]
        await publisher.request(SUBJECT, b"?", timeout=PATIENCE_S)
        inbox = publisher.new_inbox()
        await publisher.subscribe(inbox, cb=hear)
        for verb in ("PING", "INFO", "STATS"):
            await publisher.publish(f"$SRV.{verb}", b"", reply=inbox, headers={"X": "y"})
        await until(lambda: len(heard) == 6, "answers of two services to three questions")

    assert {text(reply) for reply in replies} == {"5"}
    kinds = {kind: [m for m in heard if m["type"].endswith(f"{kind}_response")] for kind in ("ping", "info", "stats")}
    assert [len(found) for found in kinds.values()] == [2, 2, 2]
    for info in kinds["info"]:
        assert info["name"] == "transcriber"
        assert info["metadata"] == {
            "model": "fake", "languages": "en,de", "max_payload": str(2**20), "request_max_secs": "120",
            "formats": "json,verbose_json,text,srt,vtt",
        }  # fmt: skip
        assert [(e["subject"], e["queue_group"]) for e in info["endpoints"]] == [(SUBJECT, "q")]
    stats = [service["endpoints"][0] for service in kinds["stats"]]
    assert sum(s["num_requests"] for s in stats) == 31
    assert all(s["num_requests"] > 0 for s in stats)
    assert sum(s["num_errors"] for s in stats) == 1
    assert all(
        s["average_processing_time"] * s["num_requests"] <= s["processing_time"] + s["num_requests"] for s in stats
    )


async def test_a_live_stream_beside_sixteen_requests_loses_nothing_and_waits_for_one_job(
    broker, tmp_path, publisher, listener
):
    job_s = 0.5
    async with Daemon(broker.url, tmp_path, **LIVE, FAKE_JOB_S=job_s):
        watch = Stopwatch()
        asking = asyncio.gather(*(ask(publisher, clip(7)) for _ in range(16)))
        for number in range(6):
            await speak(publisher, "s", level(1, RATE // 2), offset=number * RATE // 2)
            await until(lambda heard=number + 1: len(listener.of(Final)) == heard, "its text")
        await speak(publisher, "s", b"", end=1)
        (end,) = await listener.ends(1)
        replies = await asking
        starved_s = watch.starved_s

    listener.check_accounts()
    assert [code(reply) for reply in replies] == [200] * 16
    assert end.segments == 6
    assert listener.of(Gap) == []
    assert {final.stream for final in listener.of(Final)} == {"s"}
    assert max(final.timing.queue_ms for final in listener.of(Final)) <= 1000 * (job_s + starved_s) + 100


async def test_sigterm_answers_what_is_queued_within_the_grace_period(broker, tmp_path, publisher):
    async with Daemon(broker.url, tmp_path, FAKE_JOB_S=0.3, SHUTDOWN_GRACE_SECS=10) as daemon:
        asking = [asyncio.create_task(ask(publisher, clip(loud))) for loud in (1, 2, 3)]
        await until_queued(publisher, 3)
        status, _ = await daemon.stop()
        replies = await asyncio.gather(*asking)

    assert status == 0
    assert [text(reply) for reply in replies] == ["1", "2", "3"]


async def test_sigterm_answers_a_clip_of_which_only_one_window_is_queued(broker, tmp_path, publisher):
    env = {"FILE_WINDOW_SECS": 1, "FAKE_WORD_S": 0.5, "FAKE_JOB_S": 0.1, "SHUTDOWN_GRACE_SECS": 60}
    async with Daemon(
        broker.url, tmp_path, **env, FAKE_BEFORE="transcriber.clips.handler:ClipHandler._transcribe_window:2 SIGTERM"
    ) as daemon:
        levels = [str(number) for number in range(41, 49)]
        reply = await ask(publisher, wav(b"".join(level(int(loud), RATE // 2) for loud in levels)))
        assert await daemon.ended() == 0

    assert list(dict.fromkeys(text(reply).split())) == levels  # a word may be transcribed in two halves


async def test_sigterm_refuses_the_requests_for_which_no_time_is_left(broker, tmp_path, publisher):
    job_s = tmp_path / "job_s"
    job_s.write_text("0")
    async with Daemon(broker.url, tmp_path, FAKE_JOB_FILE=job_s, **PATIENT_STOP, SHUTDOWN_GRACE_SECS=0) as daemon:
        job_s.write_text("30")
        asking = [asyncio.create_task(ask(publisher, clip(loud))) for loud in (1, 2, 3)]
        await until_queued(publisher, 3)
        status, _ = await daemon.stop()
        replies = await asyncio.gather(*asking)

    assert status == 0
    assert [code(reply) for reply in replies] == [503, 503, 503]


async def until_queued(client, count):
    while (await discover(client, "STATS"))["endpoints"][0]["num_requests"] < count:
        pass


async def test_without_the_service_nobody_answers(broker, tmp_path, publisher):
    async with Daemon(broker.url, tmp_path, SERVICE=0):
        with pytest.raises(NoRespondersError):
            await ask(publisher, clip(5))
        with pytest.raises(NoRespondersError):
            await discover(publisher, "PING")


async def test_a_broker_that_denies_the_service_costs_a_warning_and_nothing_else(tmp_path, publisher_to):
    config = tmp_path / "nats.conf"
    config.write_text(
        """authorization { default_permissions: { publish: ">", subscribe: ["audio.*", "transcriber.streams", "transcriber.admin.>", "transcriber.admin", "_INBOX.>"] }
        users: [ {user: daemon, password: d}, {user: client, password: c, permissions: {publish: ">", subscribe: ">"}} ] }"""
    )
    with EmbeddedBroker("-c", str(config)) as guarded:
        url = guarded.url.replace("//", "//daemon:d@")
        client = await nats.connect(guarded.url, user="client", password="c")  # noqa: S106 - made up
        heard = []

        async def hear(message):
            heard.append(json.loads(message.data))

        await client.subscribe("transcripts.>", cb=hear)
        async with Daemon(url, tmp_path, **LIVE) as daemon:
            await speak(client, "s", level(5, RATE // 2), end=1)
            await until(lambda: [m for m in heard if m["type"] == "end"], "the end")
            with pytest.raises(NoRespondersError):
                await ask(client, clip(5))
            assert (await daemon.stop())[0] == 0
            lines = [line for line in daemon.log_lines() if line["level"] == "WARNING"]
        await client.close()

    assert [m["text"] for m in heard if m["type"] == "final"] == ["5"]
    assert len(lines) == 1
    assert "requests are not answered: the broker denies this user to subscribe to $SRV.PING" in lines[0]["msg"]


async def test_requests_are_counted_by_code_and_those_without_a_reply_apart(broker, tmp_path, publisher, listener):
    async with Daemon(broker.url, tmp_path):
        before = await until(lambda: listener.metrics[-1:])
        await ask(publisher, clip(5))
        await ask(publisher, b"?")
        await publisher.publish(SUBJECT, clip(5))
        figures = await until(lambda: listener.metrics[-1]["transcriber.requests"]["none"] and listener.metrics[-1])

    codes = ("200", "400", "413", "429", "500", "503", "504", "none")
    assert before[0]["transcriber.requests"] == dict.fromkeys(codes, 0)
    assert figures["transcriber.requests"] == dict.fromkeys(codes, 0) | {"200": 1, "400": 1, "none": 1}
    assert figures["transcriber.request.latency_ms"]["count"] == 1
    assert figures["transcriber.end_to_end.latency_ms"]["count"] == 0


async def test_a_hundred_hostile_requests_cost_nothing(broker, tmp_path, publisher):
    rng = random.Random(6)
    good = clip(5)
    async with Daemon(broker.url, tmp_path) as daemon:
        for _ in range(10):
            await ask(publisher, good)
        await ask(publisher, b"fLaC")  # what decodes is loaded
        before_mb = daemon.rss_mb()
        for number in range(100):
            broken = bytearray(good if number % 2 else rng.randbytes(rng.randrange(5000)))
            for _ in range(rng.randrange(1, 30)):
                broken[rng.randrange(min(len(broken), 60))] = rng.randrange(256)
            headers = {"Response-Format": rng.choice(["json", "x" * 5000, "\x00"]), "Prompt": "é" * rng.randrange(1200)}
            reply = await publisher.request(SUBJECT, bytes(broken), timeout=PATIENCE_S, headers=headers)
            assert code(reply) in {200, 400}
        await publisher.publish("$SRV.PING", b"", reply="nobody.hears", headers={"X": "y" * 1_040_000})
        await publisher.publish("$SRV.INFO", b"x" * 1_000_000)
        await publisher.publish(SUBJECT, good, reply=SUBJECT)
        await raw_request(broker, b"X\xff: \xfe\r\nPrompt : \x80\r\n", good)
        last = await ask(publisher, good)
        after_mb = daemon.rss_mb()
        assert daemon.process.poll() is None
        errors = [line for line in daemon.log_lines() if line["level"] == "ERROR"]

    assert text(last) == "5"
    assert after_mb - before_mb < 15
    assert errors == []


async def raw_request(broker, headers, payload):
    """A request whose headers no client would send."""
    block = b"NATS/1.0\r\n" + headers + b"\r\n"
    with socket.create_connection(("127.0.0.1", broker.port)) as line:
        line.sendall(b'CONNECT {"headers":true,"verbose":false}\r\n')
        line.sendall(b"HPUB transcriber.transcribe any.reply %d %d\r\n" % (len(block), len(block) + len(payload)))
        line.sendall(block + payload + b"\r\nPING\r\n")
        await asyncio.sleep(0)
        while b"PONG" not in line.recv(4096):
            pass


async def test_no_file_is_written(broker, tmp_path, publisher, recording):
    """A process that may write no byte to any file answers all the same; what it says goes into a pipe."""
    env = os.environ | {
        "NATS_URL": broker.url, "WHISPER_MODEL": "demo", "HEALTH_PORT": "0", "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1",
        "WHISPER_THREADS": "1",
    }  # fmt: skip
    limited = 'ulimit -f 0; (echo x > "$TMPDIR/proof"); exec "$0" "$@"'
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", limited, sys.executable, "-m", "transcriber", "serve",
        env=env, cwd=ROOT, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout
    try:
        async with asyncio.timeout(PATIENCE_S):
            while b'"ready"' not in (line := await process.stdout.readline()):
                assert line, "it did not start"
        before, files = written_bytes(process.pid), listing(tmp_path)
        for payload in (wav(recording.pcm, SPEECH_FORMAT.rate), noise(5), b"no audio"):
            for form in ("json", "srt"):
                reply = await ask(publisher, payload, response_format=form)
                assert code(reply) == (400 if payload == b"no audio" else 200)
        after = written_bytes(process.pid)
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

    assert after == before
    assert listing(tmp_path) == files
    assert files["proof"] == 0  # the limit holds


def written_bytes(pid):
    """Bytes that a process has caused to be written to disks."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return next(line for line in lines if line.startswith("write_bytes"))


def listing(folder):
    return {path.name: path.stat().st_size for path in folder.iterdir()}
