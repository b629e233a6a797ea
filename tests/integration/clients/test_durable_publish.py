"""``publish --durable``: whatever the broker goes through, its stream has every frame once, in order."""

import asyncio
import json
import signal
import subprocess
import sys
import wave
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import nats
import pytest
from nats.js.api import DiscardPolicy, StreamConfig

from tests.support.connections import client_of
from tests.support.waiting import PATIENCE_S, until
from transcriber.audio.format import AudioFormat, SampleFormat
from transcriber.bus.client_session import connected
from transcriber.clients import durable_publish as store
from transcriber.clients.audio_input import AudioSource
from transcriber.clients.publish import publish
from transcriber.config import load_settings
from transcriber.errors import BrokerError
from transcriber.testing.broker import EmbeddedBroker
from transcriber.testing.faulty_proxy import FaultyProxy

FORMAT = AudioFormat(SampleFormat.S16LE, 16_000, 1)
PCM = bytes(number % 251 for number in range(16_000 * 2 * 20))
"""20 s; no piece of it is like another of the same length near it."""


class Keeper:
    """A broker with JetStream that can be killed, and comes back with what it had."""

    def __init__(self, folder: Path) -> None:
        self._arguments = ("--jetstream", "--store_dir", str(folder))
        self.broker = EmbeddedBroker(*self._arguments)
        self.broker.start()
        self.url, self.port = self.broker.url, self.broker.port

    def kill(self) -> None:
        self.broker.process.kill()
        self.broker.stop()

    def back(self) -> None:
        self.broker = EmbeddedBroker(*self._arguments, port=self.port)
        self.broker.start()


@pytest.fixture
def keeper(tmp_path) -> Iterator[Keeper]:
    running = Keeper(tmp_path / "store")
    yield running
    running.broker.stop()


async def quietly(_error: Exception) -> None:
    """Brokers are away here on purpose."""


@asynccontextmanager
async def stream_audio(keeper, **limits) -> AsyncIterator[nats.js.JetStreamContext]:
    """The stream AUDIO, and who may look into it and change it."""
    async with client_of(keeper.url, error_cb=quietly) as client:
        jetstream = client.jetstream()
        await jetstream.add_stream(StreamConfig(name="AUDIO", subjects=["audio.*"], **limits))
        yield jetstream


async def stored(jetstream):
    """Every message of the stream, in its order."""
    state = (await jetstream.stream_info("AUDIO")).state
    return [await jetstream.get_msg("AUDIO", seq) for seq in range(state.first_seq, state.last_seq + 1)]


def check_whole(messages, pcm=PCM):
    offset = 0
    for message in messages:
        assert message.headers["Audio-Offset"] == str(offset)
        offset += len(message.data or b"") // 2
    assert b"".join(message.data or b"" for message in messages) == pcm
    assert [message.headers.get("Audio-End") for message in messages] == [None] * (len(messages) - 1) + ["1"]


async def of(pcm, size=3200):
    for start in range(0, len(pcm), size):
        yield pcm[start : start + size]


@contextmanager
def publishing(keeper, path, *flags):
    """``transcriber publish --durable`` as a real process."""
    line = [sys.executable, "-m", "transcriber", "publish", str(path), "--stream", "s", "--durable", *flags]
    process = subprocess.Popen([*line, "--nats-url", keeper.url], stderr=subprocess.PIPE, stdin=subprocess.PIPE)
    try:
        with process:
            yield process
    finally:
        process.kill()


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    with wave.open(str(tmp_path / "speech.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(PCM)
    return tmp_path / "speech.wav"


@pytest.mark.parametrize("fast", [False, True])
async def test_a_broker_killed_many_times_has_every_frame_once_in_order(keeper, fast) -> None:
    async with (
        stream_audio(keeper) as jetstream,
        connected(load_settings(nats_url=keeper.url), "test") as connection,
    ):
        count = 0

        def sent(_: int) -> None:
            nonlocal count
            count += 1

        pcm = PCM if fast else PCM[: 32_000 * 8]
        source = AudioSource(FORMAT, None, of(pcm))
        work = asyncio.create_task(publish(connection, "audio.s", source, durable=True, fast=fast, on_sent=sent))
        for kill in range(5):
            await until(lambda kill=kill: count > kill * 8)
            await asyncio.to_thread(keeper.kill)
            await asyncio.to_thread(keeper.back)
        done = await work
        check_whole(await stored(jetstream), pcm)
        assert done.frames == len(pcm) // 2
        assert done.unsent == 0


async def test_answers_that_get_lost_store_nothing_twice(keeper, monkeypatch, caplog) -> None:
    """Each message arrives, and some acknowledgements come too late, or never."""
    monkeypatch.setattr(store, "ANSWER_TIMEOUT_S", 0.1)
    async with (
        stream_audio(keeper) as jetstream,
        FaultyProxy(keeper.port) as proxy,
        connected(load_settings(nats_url=proxy.url), "test") as connection,
    ):
        cut: asyncio.Task[None] | None = None

        def bad_network(frames: int) -> None:
            nonlocal cut
            proxy.delay_s = 0.15 if frames // 1600 % 4 == 1 else 0.0
            if frames // 1600 % 10 == 2:
                cut = asyncio.create_task(proxy.cut())
            asyncio.get_running_loop().call_later(0.3, setattr, proxy, "delay_s", 0.0)

        source = AudioSource(FORMAT, None, of(PCM[: 3200 * 30]))
        await publish(connection, "audio.s", source, durable=True, fast=True, on_sent=bad_network)
        check_whole(await stored(jetstream), PCM[: 3200 * 30])
    assert "storing resumed" in caplog.text
    assert "stored before" not in caplog.text


def give(process, data):
    process.stdin.write(data)
    process.stdin.flush()


async def test_a_broker_that_is_away_is_waited_for_and_said_once(keeper, wav) -> None:
    file = wav.read_bytes()
    async with stream_audio(keeper) as jetstream:
        with publishing(keeper, "-", "--fast", "--session", "mine", "--chunk-ms", "20") as process:
            await asyncio.to_thread(give, process, file[:100_000])
            while not (await jetstream.stream_info("AUDIO")).state.messages:  # noqa: ASYNC110 - there is no event
                await asyncio.sleep(0.01)
            await asyncio.to_thread(keeper.kill)
            await asyncio.to_thread(give, process, file[100_000:200_000])
            await asyncio.sleep(2.5)  # longer than one try
            assert process.poll() is None
            await asyncio.to_thread(keeper.back)
            await asyncio.to_thread(give, process, file[200_000:])
            process.stdin.close()
            status = await asyncio.to_thread(process.wait, PATIENCE_S)
            lines = process.stderr.read().decode().splitlines()

        messages = await stored(jetstream)

    assert status == 0
    check_whole(messages)
    assert {len(message.data) for message in messages[:-1]} == {640}
    assert messages[1].headers["Nats-Msg-Id"] == "s:mine:320"
    warnings = [json.loads(line)["msg"] for line in lines if '"logger": "transcriber.clients.durable_publish"' in line]
    assert warnings[0] == "not stored yet, retrying: the broker is away or does not answer"
    assert warnings[-1] == "storing resumed"
    assert len(warnings) == len(set(warnings))
    assert lines[-1] == "20.0 s sent to audio.s as session mine"


async def test_a_broker_that_hangs_gets_every_frame_once(keeper) -> None:
    async with (
        stream_audio(keeper) as jetstream,
        connected(load_settings(nats_url=keeper.url), "test") as connection,
    ):
        frames: list[int] = []
        source = AudioSource(FORMAT, None, of(PCM))
        work = asyncio.create_task(
            publish(connection, "audio.s", source, durable=True, fast=True, chunk_ms=20, on_sent=frames.append)
        )
        await until(lambda: len(frames) > 20)
        keeper.broker.process.send_signal(signal.SIGSTOP)
        await until(lambda: not connection.connected)
        keeper.broker.process.send_signal(signal.SIGCONT)
        await work
        check_whole(await stored(jetstream))


async def test_a_full_stream_is_said_and_waited_for(keeper, caplog) -> None:
    limits = {"discard": DiscardPolicy.NEW, "max_bytes": 40_000}
    async with (
        stream_audio(keeper, **limits) as jetstream,
        connected(load_settings(nats_url=keeper.url), "test") as connection,
    ):
        source = AudioSource(FORMAT, None, of(PCM[: 3200 * 30]))
        work = asyncio.create_task(publish(connection, "audio.s", source, durable=True, fast=True))
        await until(lambda: "maximum bytes exceeded (10077)" in caplog.text)
        assert not work.done()
        await jetstream.update_stream(StreamConfig(name="AUDIO", subjects=["audio.*"], discard=DiscardPolicy.NEW))
        await work
        check_whole(await stored(jetstream), PCM[: 3200 * 30])
    assert "storing resumed" in caplog.text


async def test_where_no_stream_stores_it_one_line_says_what_makes_one(keeper, wav) -> None:
    with publishing(keeper, wav) as process:
        _, err = await asyncio.to_thread(process.communicate)

    assert process.returncode == 3
    assert err == b"transcriber: no JetStream stream stores audio.s: transcriber provision makes one\n"


async def test_a_silent_pipe_does_not_hide_that_no_stream_stores_it(keeper) -> None:
    async def one_and_silence() -> AsyncIterator[bytes]:
        yield PCM[:3200]
        await asyncio.Event().wait()

    async with connected(load_settings(nats_url=keeper.url), "test") as connection:
        with pytest.raises(BrokerError, match="provision"):
            await publish(connection, "audio.s", AudioSource(FORMAT, None, one_and_silence()), durable=True)


async def test_who_answers_in_the_place_of_jetstream_is_not_believed(keeper, caplog) -> None:
    async with connected(load_settings(nats_url=keeper.url), "test") as connection:
        answers = [b"OK", b"[]", b"{}", b'{"seq": "1"}', b'{"error": 7}', b"\xff"]

        async def answer(message):
            await connection.client.publish(message.reply, answers.pop() if answers else b'{"stream":"A","seq":1}')

        await connection.client.subscribe("audio.s", cb=answer)
        await publish(connection, "audio.s", AudioSource(FORMAT, None, of(b"")), durable=True, fast=True)

    assert not answers
    assert caplog.text.count("a responder that is not JetStream answers on audio.s") == 1


async def test_ctrl_c_stores_what_was_read_and_the_end(keeper, wav) -> None:
    async with stream_audio(keeper) as jetstream:
        with publishing(keeper, wav) as process:
            while (await jetstream.stream_info("AUDIO")).state.messages < 5:  # noqa: ASYNC110 - there is no event
                await asyncio.sleep(0.01)
            process.send_signal(signal.SIGINT)
            status = await asyncio.to_thread(process.wait, PATIENCE_S)
        messages = await stored(jetstream)

    assert status == 130
    assert 5 <= len(messages) < 100
    check_whole(messages, PCM[: 2 * int(messages[-1].headers["Audio-Offset"])])


async def test_ctrl_c_does_not_wait_for_ever_for_a_broker_that_is_away(keeper, wav) -> None:
    async with stream_audio(keeper) as jetstream:
        with publishing(keeper, wav) as process:
            while (await jetstream.stream_info("AUDIO")).state.messages < 5:  # noqa: ASYNC110 - there is no event
                await asyncio.sleep(0.01)
            await asyncio.to_thread(keeper.kill)
            process.send_signal(signal.SIGINT)
            status = await asyncio.to_thread(process.wait, PATIENCE_S)
            said = process.stderr.read().decode()

    assert status == 130
    assert "payloads that are not stored" in said


async def test_a_live_source_is_read_on_while_the_broker_is_away_until_memory_is_full(
    keeper, monkeypatch, caplog
) -> None:
    monkeypatch.setattr(store, "BUFFER_BYTES", 32_000)
    read = 0

    async def microphone() -> AsyncIterator[bytes]:
        nonlocal read
        for piece in range(0, 32_000 * 3, 3200):
            read = piece
            yield PCM[piece : piece + 3200]

    async with (
        stream_audio(keeper) as jetstream,
        connected(load_settings(nats_url=keeper.url), "test") as connection,
    ):
        work = asyncio.create_task(
            publish(connection, "audio.s", AudioSource(FORMAT, None, microphone()), durable=True)
        )
        await until(lambda: read > 3200)
        await asyncio.to_thread(keeper.kill)
        await until(lambda: "reading pauses" in caplog.text)
        held = read
        await asyncio.sleep(0.5)  # five payloads' time
        assert read == held > 25_000
        await asyncio.to_thread(keeper.back)
        await work
        check_whole(await stored(jetstream), PCM[: 32_000 * 3])


async def test_a_session_that_was_stored_before_is_said(keeper, caplog) -> None:
    async with (
        stream_audio(keeper) as jetstream,
        connected(load_settings(nats_url=keeper.url), "test") as connection,
    ):
        for stream in ("s", "other", "s"):
            source = AudioSource(FORMAT, None, of(PCM[:9600]))
            await publish(connection, f"audio.{stream}", source, session="same", durable=True, fast=True)
        assert (await jetstream.stream_info("AUDIO")).state.messages == 2 * 4

    assert caplog.messages == ["4 payloads had been stored before: a recording needs a session of its own"]
