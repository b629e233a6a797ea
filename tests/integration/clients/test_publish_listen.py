import asyncio
import io
import os
import signal
import subprocess
import sys
import threading
import wave
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nats.aio.msg import Msg

from bench.lib.media_files import KINDS, encode
from tests.support.media_files import SPEECH, make
from tests.support.waiting import until
from transcriber.audio.format import AudioFormat, SampleFormat
from transcriber.audio.headers import parse_headers
from transcriber.audio.media.open import open_media
from transcriber.bus.client_session import connected, subscribe
from transcriber.bus.connection import Connection
from transcriber.clients.audio_input import AudioSource, open_source
from transcriber.clients.listen import listen, listen_and_print
from transcriber.clients.publish import publish, publish_file
from transcriber.config import Settings, load_settings
from transcriber.errors import BrokerError, ConfigError
from transcriber.pipeline import DECODING_THREAD
from transcriber.schema.messages import End, Final, Gap, Revision, Word, message_id
from transcriber.testing.broker import EmbeddedBroker

PCM = bytes(range(256)) * 300


@pytest.fixture(scope="module")
def settings() -> Iterator[Settings]:
    with EmbeddedBroker() as broker:
        yield load_settings(nats_url=broker.url)


@pytest.fixture
async def connection(settings) -> AsyncIterator[Connection]:
    async with connected(settings, "test") as connection:
        yield connection


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    """PCM as S16LE, 16 kHz, one channel: 2.4 s."""
    with wave.open(str(tmp_path / "speech.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(PCM)
    return tmp_path / "speech.wav"


async def until_end(messages: AsyncIterator[Msg]) -> list[Msg]:
    received = []
    async for message in messages:
        received.append(message)
        if parse_headers(message.headers).end:
            break
    return received


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def check_whole(received: list[Msg], session: str) -> None:
    """Every payload has the format, the session and its offset; the end has the length."""
    offset = 0
    for message in received:
        headers = parse_headers(message.headers)
        assert (headers.content_type, headers.session) == ("audio/x-raw;format=S16LE;rate=16000;channels=1", session)
        assert headers.offset == offset
        offset += len(message.data) // 2
    assert received[-1].data == b""
    assert b"".join(message.data for message in received) == PCM


async def test_a_file_is_published_in_real_time_with_capture_times(settings, connection, wav) -> None:
    messages = await subscribe(connection, "audio.paced")

    status = await publish_file(
        settings, wav, "paced", session="mine", language="en", prompt="Ada\nLovelace ü", chunk_ms=100
    )

    received = await until_end(messages)
    assert status == 0
    check_whole(received, "mine")
    assert {len(message.data) for message in received[:-1]} == {3200}
    assert {parse_headers(message.headers).language for message in received} == {"en"}
    assert {parse_headers(message.headers).prompt for message in received} == {"Ada Lovelace ü"}
    times = {h.offset: h.captured_at for h in (parse_headers(m.headers) for m in received) if h.captured_at}
    assert list(times) == [0, 16_000, 32_000]
    assert (times[32_000] - times[0]).total_seconds() == pytest.approx(2)


async def test_a_fast_file_arrives_whole_and_claims_no_capture_time(settings, connection, wav) -> None:
    messages = await subscribe(connection, "audio.fast")

    await publish_file(settings, wav, "fast", session="mine", fast=True)

    received = await until_end(messages)
    check_whole(received, "mine")
    assert not any("Audio-Time" in (message.headers or {}) for message in received)


async def test_each_run_is_a_session_of_its_own(settings, connection, wav) -> None:
    messages = await subscribe(connection, "audio.twice")

    for _ in range(2):
        await publish_file(settings, wav, "twice", fast=True)

    first, second = [parse_headers((await until_end(messages))[0].headers).session for _ in range(2)]
    assert first
    assert second
    assert first != second


async def test_audio_from_a_pipe_goes_out_before_the_pipe_ends(connection) -> None:
    messages = await subscribe(connection, "audio.pipe")
    out, into = os.pipe()
    fmt = AudioFormat(SampleFormat.S16LE, 16_000, 1)

    async with open_source(Path(f"/dev/fd/{out}"), fmt) as source:
        os.close(out)
        publishing = asyncio.create_task(publish(connection, "audio.pipe", source, session="mine", fast=True))
        os.write(into, PCM[:1001])
        first = await anext(messages)
        await asyncio.to_thread(os.write, into, PCM[1001:])  # more than the pipe holds
        os.close(into)
        done = await publishing

    received = await until_end(messages)
    check_whole([first, *received], "mine")
    assert source.frames is None
    assert done.frames == len(PCM) // 2


@pytest.mark.parametrize("name", ["flac", "mp3 cbr", "m4a", "ogg opus", "webm opus", "wav adpcm", "m4a alac"])
async def test_a_file_of_any_kind_is_published(settings, connection, tmp_path, name) -> None:
    path = tmp_path / "recording"
    path.write_bytes(make(name))
    media = open_media(make(name))
    expected = b"".join(piece.data for piece in media.pieces)
    messages = await subscribe(connection, "audio.any")

    status = await publish_file(settings, path, "any", fast=True)

    received = await until_end(messages)
    assert status == 0
    assert b"".join(message.data for message in received) == expected
    assert parse_headers(received[0].headers).content_type == media.format.content_type
    assert parse_headers(received[-1].headers).offset == len(expected) // media.format.frame_bytes


@pytest.mark.parametrize("name", ["wav s16", "flac", "webm opus", "ogg opus", "adts"])
async def test_from_a_pipe_sound_goes_out_while_the_rest_is_not_there_yet(connection, name) -> None:
    data = encode(KINDS[name], np.tile(SPEECH, (4, 1)), 48_000)
    messages = await subscribe(connection, "audio.live")
    out, into = os.pipe()

    async def talk() -> None:
        async with open_source(Path(f"/dev/fd/{out}"), None) as source:
            await publish(connection, "audio.live", source, fast=True)

    publishing = asyncio.create_task(talk())
    await asyncio.to_thread(os.write, into, data[: len(data) * 9 // 10])
    first = await anext(messages)
    await asyncio.to_thread(os.write, into, data[len(data) * 9 // 10 :])
    os.close(into)
    await publishing
    os.close(out)

    received = [first, *await until_end(messages)]
    media = open_media(data)
    assert b"".join(message.data for message in received) == b"".join(piece.data for piece in media.pieces)


async def test_a_publisher_that_decodes_a_silent_pipe_can_be_cancelled(connection) -> None:
    data, messages = make("webm opus"), await subscribe(connection, "audio.silent")
    out, into = os.pipe()

    async def talk() -> None:
        async with open_source(Path(f"/dev/fd/{out}"), None) as source:
            await publish(connection, "audio.silent", source, fast=True)

    publishing = asyncio.create_task(talk())
    os.write(into, data[: len(data) * 9 // 10])
    first = await anext(messages)
    publishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await publishing

    assert first.data
    assert (await until_end(messages))[-1].data == b""
    await until(lambda: not any("file" in t.name for t in threading.enumerate() if t.name.startswith(DECODING_THREAD)))
    os.close(into)
    os.close(out)


async def test_what_cannot_be_decoded_is_a_jump_of_the_offset(settings, connection, tmp_path) -> None:
    data = bytearray(make("flac"))
    data[len(data) // 2 : len(data) // 2 + 3000] = bytes(3000)
    (tmp_path / "broken.flac").write_bytes(data)
    pieces = list(open_media(bytes(data)).pieces)
    messages = await subscribe(connection, "audio.hole")

    await publish_file(settings, tmp_path / "broken.flac", "hole", fast=True)

    heard: dict[int, bytes] = {}
    for message in await until_end(messages):
        offset = parse_headers(message.headers).offset or 0
        heard |= {offset + at: message.data[2 * at : 2 * at + 2] for at in range(len(message.data) // 2)}
    assert heard == {
        piece.frame + at: piece.data[2 * at : 2 * at + 2] for piece in pieces for at in range(len(piece.data) // 2)
    }
    assert max(heard) + 1 > len(heard)


async def test_a_file_that_is_cut_off_is_sent_and_complained_of(settings, connection, tmp_path) -> None:
    data = make("flac")
    (tmp_path / "cut.flac").write_bytes(data[: len(data) // 2])
    messages = await subscribe(connection, "audio.cut")

    with pytest.raises(ConfigError, match=r"cut.flac: it ends after 1.\d s of 2.1 s$"):
        await publish_file(settings, tmp_path / "cut.flac", "cut", fast=True)

    received = await until_end(messages)
    assert sum(len(message.data) for message in received) // 2 > 40_000


async def test_a_cancelled_publisher_sends_its_end(connection, wav) -> None:
    messages = await subscribe(connection, "audio.cancelled")
    async with open_source(wav, None) as source:
        publishing = asyncio.create_task(publish(connection, "audio.cancelled", source))
        first = await anext(messages)

        publishing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await publishing

    received = await until_end(messages)
    last = parse_headers(received[-1].headers)
    assert last.end
    assert last.offset == sum(len(message.data) for message in [first, *received]) // 2


async def test_progress_counts_the_frames_sent(connection) -> None:
    counts: list[int] = []
    source = AudioSource(AudioFormat(SampleFormat.U8, 8_000, 1), 400, pieces(bytes(250), bytes(150)))

    await publish(connection, "audio.progress", source, fast=True, on_sent=counts.append)

    assert counts == [160, 320, 400]


async def test_a_torn_frame_at_the_end_is_left_out(connection) -> None:
    source = AudioSource(AudioFormat(SampleFormat.S16LE, 8_000, 2), None, pieces(bytes(5), bytes(6)))

    done = await publish(connection, "audio.torn", source, fast=True)

    assert done.frames == 2


async def test_a_payload_larger_than_the_broker_allows_is_refused(connection) -> None:
    source = AudioSource(AudioFormat(SampleFormat.S32LE, 192_000, 2), None, pieces(b""))

    with pytest.raises(ConfigError, match=r"chunk-ms=1000.*max_payload"):
        await publish(connection, "audio.large", source, chunk_ms=1000)
    with pytest.raises(ConfigError, match="prompt has 1001 characters; 1000 are allowed"):
        await publish(connection, "audio.large", source, prompt="x" * 1001)


async def test_a_broker_that_is_gone_ends_a_fast_publisher(monkeypatch) -> None:
    monkeypatch.setattr("transcriber.clients.publish._FLUSH_TIMEOUT_S", 0.1)
    connection = Connection()
    with EmbeddedBroker() as broker:
        await connection.open(load_settings(nats_url=broker.url), "test")
    source = AudioSource(AudioFormat(SampleFormat.S16LE, 16_000, 1), None, pieces(PCM * 10))

    try:
        with pytest.raises(BrokerError, match="does not take the audio"):
            await publish(connection, "audio.gone", source, fast=True)
    finally:
        await connection.close()


async def test_payloads_lost_while_the_broker_is_away_are_counted_and_keep_their_place() -> None:
    fmt = AudioFormat(SampleFormat.S16LE, 16_000, 1)
    with EmbeddedBroker() as broker:
        connection = Connection()
        await connection.open(load_settings(nats_url=broker.url), "test")
    connection.client._max_pending_size = 0  # else 2 MiB would wait in the client
    back = EmbeddedBroker(port=broker.port)

    async def audio() -> AsyncIterator[bytes]:
        await until(lambda: not connection.connected)
        yield PCM[:1920]
        back.start()
        await until(lambda: connection.connected)
        yield PCM[1920:3200]

    try:
        done = await publish(connection, "audio.away", AudioSource(fmt, None, audio()), session="mine")
    finally:
        back.stop()

    await connection.close()
    assert done.frames == 1600
    assert done.unsent == 3


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.wav", None, "No such file"),
        ("folder", "folder", "Is a directory"),
        ("song.mp3", b"ID3\x04" + bytes(100), "no audio file.*--format"),
        ("short.wav", b"RIFF\0\0\0\0WAVE", "ends before its audio"),
        ("empty.wav", b"", "there is nothing in it"),
    ],
)
async def test_a_file_that_cannot_be_read_is_one_clear_line(settings, tmp_path, name, content, message) -> None:
    path = tmp_path / name
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)

    with pytest.raises(ConfigError, match=message) as caught:
        await publish_file(settings, path, "radio")

    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("stream", ["", "a.b", "a b", "*", ">", "x" * 65])
async def test_a_wrong_stream_name_is_refused(settings, wav, stream) -> None:
    with pytest.raises(ConfigError, match="stream="):
        await publish_file(settings, wav, stream)
    with pytest.raises(ConfigError, match="STREAM="):
        await listen_and_print(settings, stream)


def common(start_s: float, duration_s: float) -> dict[str, Any]:
    return {
        "stream": "radio",
        "session": "a",
        "rate": 1_000,
        "start_frame": round(start_s * 1_000),
        "frames": round(duration_s * 1_000),
        "start": start_s,
        "duration": duration_s,
        "received_at": datetime.now(UTC),
    }


def final(text: str, start_s: float) -> Final:
    unknown = dict.fromkeys(
        ["suppressed", "words", "language", "confidence", "avg_logprob", "no_speech_prob", "speaker", "captured_at"]
    )
    timing = dict.fromkeys(["queue_ms", "processing_ms", "handover_ms", "end_to_end_ms", "rtf"], 0)
    fixed = {"segment": 0, "rev": 0, "speech_final": False, "model": "demo", "timing": timing}
    return Final.model_validate(common(start_s, 5) | unknown | fixed | {"text": text})


def session() -> list[Final | Gap | End]:
    account = {f"{p}_{u}": 0 for p in ["received", "lost", "transcribed", "silent", "dropped"] for u in ["frames", "s"]}
    return [
        final("wind northwest", 0),
        Gap(**common(5, 5), reason="queue_full", speaker=None),
        final("", 10),
        End(**common(0, 15), segments=2, **account),
    ]


async def heard(connection: Connection, stream: str, *sent: Any, form: Any = "text", revised: bool = False) -> str:
    """What ``listen --once`` writes of these messages, in the order in which they were sent."""
    out = io.StringIO()
    messages = await subscribe(connection, f"transcripts.{stream}.*")
    for message in sent:
        data = message if isinstance(message, bytes) else message.model_dump_json(by_alias=True).encode()
        kind = "final" if isinstance(message, bytes) else message.type
        await connection.publish(f"transcripts.{stream}.{kind}", data)
    await listen(messages, out, form=form, once=True, revised=revised)
    return out.getvalue()


async def test_text_is_a_line_a_message(connection) -> None:
    text = await heard(connection, "as-text", *session())

    assert text == (
        "[00:00] radio: wind northwest\n"
        "[00:05] radio: [gap 5.0 s: queue_full]\n"
        "[00:15] radio: end: 0.0 s transcribed, 0.0 s silent, 0.0 s dropped, 0.0 s lost\n"
    )


async def test_subtitles_that_wait_for_the_end_say_what_the_revisions_say(connection) -> None:
    first, lost, _, end = session()
    ids = tuple(message_id("radio", "a", m.start_frame, m.type, 0) for m in (first, lost))
    fields = first.model_dump(exclude={"type", "flushed"}, by_alias=True)
    both = {"replaces": ids, "last_segment": 1, "rev": 1, "text": "Wind northwest.", "frames": 2 * first.frames}
    revision = Revision.model_validate(fields | both | {"duration": 10.0})
    of_others = Revision.model_validate(fields | both | {"replaces": ("x",), "text": "not this"})

    sent = [first, lost, final("", 10), final("Gale warning.", 15), of_others, revision, end]
    written = await heard(connection, "revised", *sent, form="srt", revised=True)

    said = [line for line in written.splitlines() if line[:1].isalpha()]
    assert " ".join(said) == "Wind northwest. Gale warning."
    assert written.splitlines()[1].startswith("00:00:00,000 --> ")
    assert "00:00:15,000 --> 00:00:20,000" in written


async def test_json_is_each_message_as_it_came(connection) -> None:
    sent = session()

    text = await heard(connection, "as-json", *sent, form="json")

    assert text.splitlines() == [message.model_dump_json(by_alias=True) for message in sent]


async def test_srt_is_a_subtitle_file(connection) -> None:
    text = await heard(connection, "as-srt", *session(), form="srt")

    assert text == (
        "1\n00:00:00,000 --> 00:00:05,000\nwind northwest\n\n"
        "2\n00:00:05,000 --> 00:00:10,000\n[not transcribed: queue_full]\n\n"
    )


async def test_vtt_begins_with_its_header_even_without_a_cue(connection) -> None:
    text = await heard(connection, "as-vtt", session()[-1], form="vtt")

    assert text == "WEBVTT\n\n"


async def test_a_message_that_is_no_transcript_is_skipped_with_a_warning(connection, caplog) -> None:
    text = await heard(connection, "nonsense", b"{", b'{"type": "final"}', b"\xff", *session()[:1], session()[-1])

    assert text.startswith("[00:00] radio: wind northwest\n")
    assert len(caplog.records) == 3


async def test_a_listener_whose_connection_is_closed_for_good_says_so(connection) -> None:
    messages = await subscribe(connection, "transcripts.closed.*")

    connection.closed.set_exception(BrokerError("the password was changed"))

    with pytest.raises(BrokerError, match="password"):
        await anext(messages)


async def test_subtitles_of_all_streams_are_refused(settings) -> None:
    with pytest.raises(ConfigError, match="name the stream"):
        await listen_and_print(settings, None, form="srt")


def command(settings: Settings, *arguments: str) -> subprocess.Popen[bytes]:
    """``transcriber`` as a real process with pipes."""
    pipe = subprocess.PIPE
    line = [sys.executable, "-m", "transcriber", *arguments, "--nats-url", settings.nats_url]
    return subprocess.Popen(line, stdin=pipe, stdout=pipe, stderr=pipe)


async def test_ctrl_c_ends_a_publisher_that_waits_for_its_pipe(settings, connection) -> None:
    messages = await subscribe(connection, "audio.stdin")
    flags = ["--stream", "stdin", "--format", "S16LE", "--rate", "16000", "--chunk-ms", "20"]

    with command(settings, "publish", "-", *flags) as process:
        assert process.stdin
        os.write(process.stdin.fileno(), PCM[:700])
        first = await anext(messages)
        process.send_signal(signal.SIGINT)
        received = await until_end(messages)
        status = await asyncio.to_thread(process.wait, 10)

    assert first.data == PCM[:640]
    assert parse_headers(received[-1].headers).offset == 320
    assert status == 130


async def test_the_publish_command_says_what_it_sent(settings, wav) -> None:
    with command(settings, "publish", str(wav), "--stream", "said", "--session", "mine", "--fast") as process:
        out, err = await asyncio.to_thread(process.communicate)

    assert process.returncode == 0
    assert out == b""
    assert err == b"2.4 s sent to audio.said as session mine\n"


async def test_a_listener_whose_reader_leaves_ends_quietly(settings, connection) -> None:
    with command(settings, "listen", "left") as process:
        assert process.stdout
        assert process.stderr
        reading = asyncio.create_task(asyncio.to_thread(process.stdout.readline))
        while not reading.done():  # until it has subscribed
            await connection.publish("transcripts.left.final", final("one", 0).model_dump_json(by_alias=True).encode())
            await asyncio.wait({reading}, timeout=0.1)
        process.stdout.close()

        while process.poll() is None:
            await connection.publish("transcripts.left.final", final("two", 5).model_dump_json(by_alias=True).encode())
            await asyncio.sleep(0.02)

        assert reading.result() == b"[00:00] radio: one\n"
        assert process.stderr.read() == b""
        assert process.returncode == 0


async def test_a_broker_out_of_reach_is_one_clear_line(settings, wav) -> None:
    nowhere = settings.model_copy(update={"nats_url": "nats://127.0.0.1:1"})

    with command(nowhere, "publish", str(wav), "--stream", "x", "--nats-connect-timeout-secs", "0.2") as process:
        _, err = await asyncio.to_thread(process.communicate)

    assert process.returncode == 3
    assert err.startswith(b"transcriber: NATS_URL=nats://127.0.0.1:1: ")
    assert err.count(b"\n") == 1


async def test_each_voice_of_a_window_has_a_line_and_a_revision_that_corrects_them_counts(connection) -> None:
    def by_voices(*labels: str) -> dict[str, Any]:
        words = [
            Word(word=word, start=start, end=start + 2.5, confidence=1, speaker=label)
            for word, start, label in zip(("wind", "northwest"), (0.0, 2.5), labels, strict=True)
        ]
        return {"words": tuple(words), "speaker": labels[0]}

    first, _, _, end = session()
    said = first.model_copy(update=by_voices("A", "A"))
    fields = first.model_dump(exclude={"type", "flushed"}, by_alias=True)
    place = {"replaces": (message_id("radio", "a", 0, "final", 0),), "last_segment": 0, "rev": 1}
    revision = Revision.model_validate(fields | place | by_voices("A", "B"))

    lines = await heard(connection, "voices", said, revision, end)
    subtitles = await heard(connection, "voices", said, revision, end, form="vtt", revised=True)

    assert lines.splitlines()[:3] == [
        "[00:00] radio (A): wind northwest",
        "[00:00] radio (A): [revised] wind",
        "[00:02] radio (B): [revised] northwest",
    ]
    assert [line for line in subtitles.splitlines() if line.startswith("<v")] == [
        "<v Speaker A>wind",
        "<v Speaker B>northwest",
    ]
