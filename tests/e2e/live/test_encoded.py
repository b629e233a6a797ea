"""Browsers' recordings through the real daemon: the same words as from samples, and the account of every frame."""

import asyncio
import random
from functools import cache

import pytest

from tests.support.audio import speak
from tests.support.daemon import PATIENT_STOP, Daemon
from tests.support.encoded_audio import EDITED, SAFARI, as_he_aac, encode as encode_mp4
from tests.support.transcripts import TranscriptListener
from tests.support.waiting import settled, until
from tests.support.webm_ogg import RATE, cluster, encode, ogg_page, opus_packets, sliced
from transcriber.audio.codecs.webm import WebmDemuxer
from transcriber.schema.messages import End, Final, Gap, Status
from transcriber.testing.broker import EmbeddedBroker
from transcriber.testing.daemon import DaemonProcess
from transcriber.testing.speech import load_speech
from transcriber.testing.wer import word_errors, words

FASTER = 8
SEED = random.randrange(2**32)
ENV = {"BUFFER_DURATION_SECS": 0.5, "TRANSCRIPTION_QUEUE_CAPACITY": 64}


@cache
def recording(number, container, **options):
    return encode(load_speech()[number].pcm, container, **options)


def chunks_of(data, *, chunk_s, pcm):
    """``data`` in chunks of about so many seconds, whose borders fall anywhere."""
    return sliced(data, [max(1, round(len(data) * chunk_s * RATE * 2 / len(pcm)))])


async def play(publisher, stream, chunks, content_type, *, chunk_s=0.1, end=True, **headers):
    for chunk in chunks:
        await speak(publisher, stream, chunk, content_type=content_type, **headers)
        await asyncio.sleep(chunk_s / FASTER)
    if end:
        await speak(publisher, stream, b"", end=1)


async def play_pcm(publisher, stream, pcm):
    await play(publisher, stream, sliced(pcm, [9_600]), "audio/x-raw")


def errors(recording, text):
    return word_errors(recording.text, text)


@pytest.fixture(scope="module")
def demo():
    """A broker with a daemon that has the bundled model."""
    env = {"TRANSCRIPTION_QUEUE_CAPACITY": "256", "METRICS_NATS_SECS": "0.2", "OMP_NUM_THREADS": "1"}
    with EmbeddedBroker() as broker, DaemonProcess(broker.url, **env) as daemon:
        assert asyncio.run(daemon.ready()), daemon.log()
        yield broker


@pytest.fixture
async def demo_publisher(demo, publisher_to):
    return await publisher_to(demo)


@pytest.fixture
async def demo_listener(demo):
    async with TranscriptListener(demo.url) as subscribed:
        yield subscribed


async def test_every_container_has_the_words_of_its_samples(demo_publisher, demo_listener):
    publisher, listener = demo_publisher, demo_listener
    spoken = load_speech()[2]
    ways = {
        "webm": ("webm", "audio/webm;codecs=opus", {"live": 1}),
        "clusters": ("webm", "audio/webm", {"cluster_time_limit": 500}),
        "ogg": ("ogg", "audio/ogg;codecs=opus", {"page_duration": 200_000}),
    }
    playing = [
        play(publisher, name, chunks_of(recording(2, kind, **options), chunk_s=0.1, pcm=spoken.pcm), content_type)
        for name, (kind, content_type, options) in ways.items()
    ]
    safari = encode_mp4(spoken.pcm, "aac", **EDITED)
    he_aac = as_he_aac(encode_mp4(spoken.pcm, "aac", rate=24_000, **EDITED))
    for name, data in (("mp4", safari), ("he-aac", he_aac)):
        chunks = chunks_of(data, chunk_s=0.25, pcm=spoken.pcm)
        playing.append(play(publisher, name, chunks, "audio/mp4", chunk_s=0.25))
    packets = play(publisher, "packets", opus_packets(spoken.pcm), "audio/opus", chunk_s=0.02)

    await asyncio.gather(*playing, packets, play_pcm(publisher, "pcm", spoken.pcm))
    ends = {end.stream: end for end in await listener.ends(7)}

    listener.check_accounts()
    assert not listener.of(Gap)
    expected = errors(spoken, listener.text("pcm"))
    for name in (*ways, "mp4", "he-aac", "packets"):
        assert errors(spoken, listener.text(name)) <= expected + 1 + len(words(spoken.text)) // 50
        assert ends[name].rate == RATE
    assert {ends[name].frames for name in (*ways, "mp4")} == {ends["pcm"].frames}


@pytest.mark.parametrize("how", ["noise", "missing"])
@pytest.mark.parametrize("container", ["webm", "ogg"])
async def test_a_broken_chunk_costs_that_chunk(demo_publisher, demo_listener, container, how):
    publisher, listener = demo_publisher, demo_listener
    spoken = load_speech()[2]
    data = recording(2, container, **({"page_duration": 100_000} if container == "ogg" else {}))
    chunks = chunks_of(data, chunk_s=0.4, pcm=spoken.pcm)
    if how == "noise":
        chunks[5] = random.Random(SEED).randbytes(len(chunks[5]))
    else:
        del chunks[5]
    before = (await until(lambda: listener.metrics and listener.metrics[-1]))["transcriber.chunks.dropped"]["bad_input"]

    await play(publisher, "s", chunks, f"audio/{container}", chunk_s=0.4)
    (end,) = await listener.ends(1)

    listener.check_accounts()
    gaps = {gap.reason: gap for gap in listener.of(Gap)}
    assert set(gaps) == {"bad_input", "lost_input"}
    assert gaps["bad_input"].frames == 0
    assert 0.2 * RATE < gaps["lost_input"].frames < 0.8 * RATE
    assert 1.5 * RATE < gaps["lost_input"].start_frame < 2.8 * RATE
    assert end.lost_frames == gaps["lost_input"].frames
    assert end.frames == pytest.approx(len(spoken.pcm) // 2, abs=0.02 * RATE)
    assert errors(spoken, listener.text("s")) <= 4
    dropped = await until(lambda: listener.metrics[-1]["transcriber.chunks.dropped"]["bad_input"] - before)
    assert dropped <= 2


async def test_eight_recorders_at_once(demo_publisher, demo_listener):
    publisher, listener = demo_publisher, demo_listener
    spoken = load_speech()[:4]
    playing = []
    for number in range(8):
        container = ("webm", "ogg")[number % 2]
        pcm = spoken[number // 2].pcm
        chunks = chunks_of(recording(number // 2, container), chunk_s=0.1, pcm=pcm)
        playing.append(play(publisher, f"s{number}", chunks, f"audio/{container}"))

    await asyncio.gather(*playing)
    ends = await listener.ends(8)

    listener.check_accounts()
    assert not listener.of(Gap)
    assert {end.stream: end.frames for end in ends} == {f"s{n}": len(spoken[n // 2].pcm) // 2 for n in range(8)}
    for number in range(8):
        said = spoken[number // 2]
        assert errors(said, listener.text(f"s{number}")) <= 0.2 * len(words(said.text))


async def test_sigterm_takes_what_waits_to_be_decoded(broker, tmp_path, publisher, listener):
    """All at once: far more than is decoded when the signal comes."""
    async with Daemon(broker.url, tmp_path, **ENV, **PATIENT_STOP, SHUTDOWN_GRACE_SECS=5) as daemon:
        frames = {}
        for number in range(3):
            pcm = load_speech()[number].pcm
            frames[f"s{number}"] = len(pcm) // 2
            for chunk in chunks_of(recording(number, "webm"), chunk_s=0.1, pcm=pcm):
                await speak(publisher, f"s{number}", chunk, content_type="audio/webm")
        await settled(publisher)
        status, _ = await daemon.stop()
        ends = await listener.ends(3)

    assert status == 0
    listener.check_accounts()
    assert {end.stream: end.frames for end in ends} == frames
    assert not [gap for gap in listener.of(Gap) if gap.reason not in {"queue_full", "shutdown"}]


@pytest.mark.parametrize("moment", range(6))
async def test_sigterm_at_any_moment_accounts_for_every_frame(broker, tmp_path, publisher, listener, moment):
    rng = random.Random(SEED + moment)
    print(f"seed {SEED + moment}")
    async with Daemon(broker.url, tmp_path, **ENV, **PATIENT_STOP, FAKE_JOB_S=rng.choice([0.01, 0.3])) as daemon:
        playing = [
            asyncio.create_task(
                play(publisher, f"s{number}", chunks_of(recording(number, kind), chunk_s=0.05, pcm=load_speech()[number].pcm),
                     f"audio/{kind}", chunk_s=0.1)
            )
            for number, kind in enumerate(["webm", "ogg", "webm"])
        ]  # fmt: skip
        await until(lambda: len({m.stream for m in listener.messages}) == 3)
        await asyncio.sleep(rng.uniform(0, 0.5))
        status, _ = await daemon.stop()
        ends = await listener.ends(3)
        for task in playing:
            task.cancel()
        await asyncio.gather(*playing, return_exceptions=True)

    assert status == 0
    assert len(ends) == 3
    listener.check_accounts()
    assert daemon.last_line("stopped")["queue_depth"] == 0


async def test_sigterm_does_not_wait_for_a_decoder_that_hangs(broker, tmp_path, publisher, listener):
    """It would hang for an hour."""
    pcm = load_speech()[0].pcm
    hang = "transcriber.audio.codecs.opus_decoder:OpusDecoder.decode:101 HANG"
    async with Daemon(broker.url, tmp_path, **ENV, FAKE_BEFORE=hang) as daemon:
        for chunk in chunks_of(recording(0, "webm"), chunk_s=0.1, pcm=pcm):
            await speak(publisher, "s", chunk, content_type="audio/webm")
        await until(lambda: listener.of(Status))
        status, _ = await daemon.stop()
        (end,) = await listener.ends(1)

    assert status == 0
    listener.check_accounts()
    assert 0 < end.frames <= 2 * RATE
    assert {gap.reason for gap in listener.of(Gap)} >= {"slow_consumer"}


def begun(container, what):
    """The recording up to its middle, and a little of what comes next: of its header, or of the audio in it."""
    data = recording(0, container, **({"page_duration": 100_000} if container == "ogg" else {}))
    if container == "ogg":
        at = data.index(b"OggS", len(data) // 2)
    else:
        demuxer = WebmDemuxer()
        list(demuxer.feed(data[: len(data) // 2]))
        at = len(data) // 2 - (len(demuxer._buffer) - demuxer._at)  # where the block begins in which the middle lies
        assert data[at] == 0xA3
    return data[: at + (2 if what == "header" else 60)]


@pytest.mark.parametrize(
    ("container", "what"), [("webm", "header"), ("ogg", "header"), ("webm", "audio"), ("ogg", "audio")]
)
async def test_a_recorder_that_simply_stops_ends_like_any_other_stream(
    broker, tmp_path, publisher, listener, container, what
):
    data = begun(container, what)
    async with Daemon(broker.url, tmp_path, **ENV, HEARTBEAT_TIMEOUT_SECS=0.5, STREAM_IDLE_SECS=1.5) as daemon:
        for number in (1, 2):  # one session after the other
            await play(publisher, "s", sliced(data, [900]), f"audio/{container}", end=False)
            await listener.ends(number)

    listener.check_accounts()
    assert [status.state for status in listener.of(Status)] == ["started", "stalled"] * 2
    # What was cut short cannot be decoded, and its length is unknown.
    assert [(gap.reason, gap.frames) for gap in listener.of(Gap)] == [("bad_input", 0)] * (2 if what == "audio" else 0)
    assert ("payload skipped" in daemon.log()) == (what == "audio")


async def test_clusters_without_audio_are_heartbeats_and_the_session_ends_in_time(
    broker, tmp_path, publisher, listener
):
    data = begun("webm", "header")[:-2]
    async with Daemon(broker.url, tmp_path, **ENV, HEARTBEAT_TIMEOUT_SECS=1, STREAM_IDLE_SECS=3) as daemon:
        await play(publisher, "s", sliced(data, [900]), "audio/webm", end=False)
        while not listener.of(End):
            await speak(publisher, "s", cluster(90_000), content_type="audio/webm")
            await asyncio.sleep(0.1)

    listener.check_accounts()
    assert [status.state for status in listener.of(Status)] == ["started"]
    assert not listener.of(Gap)
    assert "payload skipped" not in daemon.log()


@pytest.mark.parametrize("container", ["webm", "ogg"])
async def test_what_was_begun_when_sigterm_comes_is_no_loss(broker, tmp_path, publisher, listener, container):
    async with Daemon(broker.url, tmp_path, **ENV, **PATIENT_STOP) as daemon:
        await play(publisher, "s", sliced(begun(container, "header"), [900]), f"audio/{container}", end=False)
        await settled(publisher)
        await daemon.stop()
        await listener.ends(1)

    listener.check_accounts()
    assert not listener.of(Gap)
    assert [status.state for status in listener.of(Status)] == ["started"]


async def test_a_recorder_that_is_started_again_is_another_session(broker, tmp_path, publisher, listener):
    pcm = load_speech()[0].pcm
    data = recording(0, "webm")
    async with Daemon(broker.url, tmp_path, **ENV):
        await play(publisher, "s", sliced(data + data, [1_777]), "audio/webm")
        ends = await listener.ends(2)

    listener.check_accounts()
    assert [end.frames for end in ends] == [len(pcm) // 2] * 2
    assert len({end.session for end in ends}) == 2


async def test_samples_heartbeats_and_headers_keep_their_place_between_chunks(broker, tmp_path, publisher, listener):
    pcm = load_speech()[0].pcm
    chunks = sliced(recording(0, "ogg"), [1_500])
    time = "2026-11-21T12:00:00Z"
    async with Daemon(broker.url, tmp_path, **ENV, INPUT_SAMPLE_RATE=16_000):
        await speak(
            publisher, "s", chunks[0], content_type="audio/ogg", **{"Audio-Session": "mine", "Audio-Time": time}
        )
        for chunk in chunks[1:]:
            await speak(publisher, "s", chunk)
            await speak(publisher, "s", b"")
        await speak(publisher, "s", bytes(32_000), content_type="audio/x-raw", session="samples", offset=5)
        await speak(publisher, "s", b"", offset=16_005 + 800, end=1)
        ends = await listener.ends(2)

    listener.check_accounts()
    assert [(end.session, end.rate, end.frames, end.lost_frames) for end in ends] == [
        ("mine", RATE, len(pcm) // 2, 0), ("samples", 16_000, 16_800, 800),
    ]  # fmt: skip
    finals = [final for final in listener.of(Final) if final.session == "mine"]
    assert [final.captured_at is not None for final in finals] == [True] * len(finals)
    assert finals[0].captured_at.isoformat() == "2026-11-21T12:00:00+00:00"


async def test_what_is_not_named_is_recognised_and_accounted(broker, tmp_path, publisher, listener):
    pcm = load_speech()[0].pcm
    frames = len(pcm) // 2
    recordings = {
        "webm": (recording(0, "webm"), frames),
        "mp4": (encode_mp4(pcm, "libopus", **SAFARI), frames),
        "float": (encode_mp4(pcm[: 2 * RATE * 2], "pcm_f32le", "matroska", live="1"), 2 * RATE),  # as much as may wait
        "adts": (encode_mp4(pcm, "aac", "adts"), -(-frames // 1_024) * 1_024 + 1_024),
    }
    async with Daemon(broker.url, tmp_path, **ENV):
        for name, (data, _) in recordings.items():
            for chunk in sliced(data, [3_000]):
                await speak(publisher, name, chunk)
            await speak(publisher, name, b"", end=1)
            await until(lambda name=name: listener.of(End, name))

    listener.check_accounts()
    assert {end.stream: end.frames for end in listener.of(End)} == {name: n for name, (_, n) in recordings.items()}
    assert not [gap for gap in listener.of(Gap) if gap.reason != "queue_full"]


async def test_a_type_that_is_not_read_is_named_in_one_gap_and_its_end_counts(broker, tmp_path, publisher, listener):
    async with Daemon(broker.url, tmp_path, **ENV):
        await play(publisher, "s", [b"fLaC" + bytes(500)] * 3, "audio/flac", end=False)
        await speak(publisher, "s", bytes(500), content_type="audio/flac", end=1)
        await play(
            publisher, "late", sliced(encode_mp4(load_speech()[0].pcm, "aac", **SAFARI)[1_000:], [5_000]), "audio/mp4"
        )
        await listener.ends(2)

    listener.check_accounts()
    details = [(gap.stream, gap.frames, gap.detail) for gap in listener.of(Gap)]
    assert details[0] == ("s", 0, "Content-Type is not audio/x-raw but 'audio/flac'")
    assert [(stream, frames) for stream, frames, _ in details] == [("s", 0), ("late", 0)]
    assert "MP4" in (details[1][2] or "")


async def test_what_is_not_opus_is_refused_and_the_stream_continues(broker, tmp_path, publisher, listener):
    vorbis = ogg_page(b"\x01vorbis" + bytes(23), flags=2) + ogg_page(bytes(5_000), sequence=1, granule=960)
    data = recording(0, "webm")
    async with Daemon(broker.url, tmp_path, **ENV) as daemon:
        await play(publisher, "s", sliced(vorbis, [900]), "audio/ogg", end=False)
        await play(publisher, "s", sliced(data, [900]), "audio/webm")
        ends = await listener.ends(2)

    listener.check_accounts()
    assert [end.frames for end in ends] == [0, len(load_speech()[0].pcm) // 2]
    assert {gap.reason for gap in listener.of(Gap)} == {"bad_input"}
    assert "Ogg holds Vorbis, not Opus" in daemon.log()


async def test_a_lone_header_is_forgotten_when_nothing_follows(broker, tmp_path, publisher, listener):
    data = recording(0, "webm")
    head = data[: data.index(b"\x1f\x43\xb6\x75")]
    async with Daemon(broker.url, tmp_path, **ENV, STREAM_IDLE_SECS=1, MAX_STREAMS=1):
        await speak(publisher, "first", head, content_type="audio/webm")
        await until(lambda: listener.metrics[-1:] and listener.metrics[-1]["transcriber.chunks.received"] >= 1)
        # There is room for one: it is given up after a second.
        while not listener.of(Status):
            await speak(publisher, "second", data, content_type="audio/webm")
            await asyncio.sleep(0.2)
        (end, *_) = await listener.ends(1)

    assert {message.stream for message in listener.messages} == {"second"}
    assert end.frames == len(load_speech()[0].pcm) // 2
    listener.check_accounts()


async def test_hostile_chunks_cost_nobody_else_anything(broker, tmp_path, publisher, listener):
    rng = random.Random(SEED)
    print(f"seed {SEED}")
    data = recording(0, "webm")
    good = sliced(data, [700])
    async with Daemon(broker.url, tmp_path, **ENV) as daemon:
        for chunk in good:
            for name in ("a", "b", "c"):
                bad = rng.choice(
                    [rng.randbytes(rng.randrange(2_000)), rng.choice(good), b"", data[: rng.randrange(500)]]
                )
                kind = rng.choice(
                    [
                        "audio/webm",
                        "audio/ogg",
                        "audio/opus",
                        "audio/mp4",
                        "audio/aac",
                        "audio/mpeg",
                        "nonsense",
                        "audio/x-raw",
                    ]
                )
                await speak(
                    publisher, name, bad, content_type=kind, offset=rng.randrange(2**50), end=int(rng.random() < 0.05)
                )
            await speak(publisher, "good", chunk, content_type="audio/webm", offset=rng.randrange(2**53))
            await asyncio.sleep(0.02)
        await speak(publisher, "good", b"", end=1)
        await until(lambda: listener.of(End, "good"))
        status, _ = await daemon.stop()

    assert status == 0
    listener.check_accounts()
    (end,) = listener.of(End, "good")
    assert (end.frames, end.lost_frames) == (len(load_speech()[0].pcm) // 2, 0)
    assert "Traceback" not in daemon.log()
