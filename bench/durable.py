"""What it costs that nothing is lost: durable mode beside live mode, engine stubbed.

Out: how much later a text comes; how fast the broker confirms what it stores, by how often it syncs to disk; how fast a
daemon works off what waits for it, and at what cost; how soon a daemon that starts is back in a session, a short and a long
one. Daemons of both modes run side by side, and take turns.
"""

import asyncio
import itertools
import math
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench.lib.daemon import PLAIN, MeasuredDaemon, StubbedDaemon, storing_broker
from bench.lib.paced import FORMAT, speech
from bench.lib.report import Results, note, quantiles, run
from transcriber.audio.headers import NO_HEADERS
from transcriber.audio.session import Window
from transcriber.audio.stream import Stream
from transcriber.audio.vad.silero import Silero
from transcriber.bus.client_session import connected, subscribe
from transcriber.bus.connection import Connection, NatsMessage
from transcriber.bus.jetstream import provision
from transcriber.bus.jetstream.client import FENCE, JetStream
from transcriber.config import Settings, load_settings
from transcriber.models.catalog import DEMO
from transcriber.schema.messages import Final
from transcriber.testing.broker import EmbeddedBroker

WINDOW_S = 5.0
PATIENCE_S = 120.0

DURABLE = {"DURABLE": "1", "PROVISION": "1", "BUFFER_DURATION_SECS": str(WINDOW_S)}
LIVE = {"BUFFER_DURATION_SECS": str(WINDOW_S)}
MODES = {"live": LIVE, "durable": DURABLE}

LIVE_PAYLOAD_S, STORED_PAYLOAD_S = 0.02, 0.1
"""What a microphone sends, and what a file is sent in."""

VOICES = 5
"""Streams a mode: a window a second each, here and there."""

SYNC = ("default", "1s", "always")
"""``sync_interval`` of the broker; the default is two minutes."""
IN_FLIGHT = (1, 32)
TEXT_BYTES = 2500
"""A final of five seconds with its words and its checkpoint."""

STREAMS = (1, 40)
IN_A_ROW = 50
"""Payloads that are stored before their acknowledgements are checked."""

RESTART = {"INPUT_SAMPLE_RATE": "16000", "STREAM_IDLE_SECS": "3600", "HEARTBEAT_TIMEOUT_SECS": "3600"}
"""One session, though nothing comes between two daemons."""

AHEAD = 4
"""Windows of a live stream that may be on their way: nobody else holds it back."""


def measure(quick: bool) -> Results:
    return {
        "latency": _latency(quick=quick),
        "stored_per_s": _stored_per_s(0.5 if quick else 5.0),
        "throughput": _throughput(quick=quick),
        "restart": _restart(quick=quick),
    }


def _settings(url: str, environment: Mapping[str, str]) -> Settings:
    """What a daemon makes of ``environment``."""
    return load_settings(nats_url=url, **{name.lower(): value for name, value in environment.items()})


def _payloads(seconds: float, payload_s: float, rate: int, place: float = 0.0) -> list[bytes]:
    """Speech, over and over, from a ``place`` between 0 and 1 of it."""
    pcm, size = speech(), int(payload_s * rate) * FORMAT.frame_bytes
    start = int(place * len(pcm)) // FORMAT.frame_bytes * FORMAT.frame_bytes
    length = math.ceil(seconds / payload_s) * size
    pcm = (pcm[start:] + pcm * (1 + length // len(pcm)))[:length]
    return [pcm[at : at + size] for at in range(0, length, size)]


# How much later a text comes.


@dataclass(slots=True)
class Voice:
    """One stream of one daemon.

    Attributes:
        subject: of its audio.
        completing: by the start of each window with speech, the number of the payload that completes it.
        sent_s: monotonic time of each payload's publishing.
    """

    subject: str
    payloads: list[bytes]
    completing: dict[int, int]
    sent_s: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Row:
    """One window: from the publishing of the completing payload to the text's arrival, and without whisper's own time."""

    ms: float
    rest_ms: float


def _spread(rows: list[Row], figure: Callable[[Row], float]) -> dict[str, float | None]:
    return quantiles([figure(row) for row in rows], median=0.5, p95=0.95)


def _latency(*, quick: bool) -> Results:
    windows = 2 if quick else 12
    cases: dict[str, tuple[type[MeasuredDaemon], dict[str, str]]] = {
        "plain": (StubbedDaemon, PLAIN),
        "defaults": (StubbedDaemon, {}),
        "bundled model": (MeasuredDaemon, {"WHISPER_MODEL": DEMO, **PLAIN}),
    }
    results = {}
    for name, (kind, settings) in cases.items():
        with storing_broker() as broker, ExitStack() as stack:
            daemons, voices = [], {}
            for mode, ours in MODES.items():
                named = settings | ours | {"AUDIO_SUBJECT": f"{mode}.*", "TRANSCRIPT_SUBJECT_PREFIX": f"{mode}-text"}
                voices[mode] = list(_voices(mode, _settings(broker.url, named), windows))
                daemons.append(stack.enter_context(kind(broker.url, None, **named)))
            rows = asyncio.run(_play_all(broker.url, daemons, voices))
        live, durable = (statistics.median(row.rest_ms for row in rows[mode]) for mode in MODES)
        results[name] = {
            "windows": {mode: len(rows[mode]) for mode in MODES},
            **{f"{mode}_ms": _spread(rows[mode], lambda row: row.ms) for mode in MODES},
            **{f"{mode}_less_whisper_ms": _spread(rows[mode], lambda row: row.rest_ms) for mode in MODES},
            "durable_adds_ms": round(durable - live, 3),
        }
        note(f"durable: latency, {name}: {results[name]}")
    return results


def _voices(mode: str, settings: Settings, windows: int) -> Iterator[Voice]:
    network = Silero() if settings.window_policy.needs_detector else None
    for number in range(VOICES):
        payloads = _payloads(windows * WINDOW_S + 0.2, LIVE_PAYLOAD_S, FORMAT.rate, number / VOICES)
        stream = Stream(settings.input, settings.window_policy, network, max_hole_s=settings.max_hole_secs, new_id=str)
        completing = {
            event.start_frame: at
            for at, payload in enumerate(payloads)
            for event in stream.feed(payload, NO_HEADERS)
            if isinstance(event, Window)
        }
        yield Voice(f"{mode}.{number}", payloads, completing)


async def _play_all(url: str, daemons: list[MeasuredDaemon], voices: dict[str, list[Voice]]) -> dict[str, list[Row]]:
    """Play all voices in real time; returns, of each mode, its windows."""
    await _ready(*daemons)
    rows: dict[str, list[Row]] = {mode: [] for mode in voices}
    all_heard = asyncio.Event()
    left = sum(len(voice.completing) for mode in voices.values() for voice in mode)

    async def hear(message: NatsMessage) -> None:
        nonlocal left
        heard_s = time.monotonic()
        mode = message.subject.partition("-")[0]
        final = Final.model_validate_json(message.data)
        voice = voices[mode][int(final.stream)]
        if (at := voice.completing.get(final.start_frame)) is not None:
            took_ms = 1000 * (heard_s - voice.sent_s[at])
            rows[mode].append(Row(took_ms, took_ms - final.timing.processing_ms))
            left -= 1
        if not left:
            all_heard.set()

    async with connected(load_settings(nats_url=url), "bench durable") as connection:
        for mode in voices:
            await connection.subscribe(f"{mode}-text.*.final", hear)
        in_turn = [voice for pair in zip(*voices.values(), strict=True) for voice in pair]
        start_s, step_s = time.monotonic() + 2.0, WINDOW_S / len(in_turn)
        await asyncio.gather(*(_play(connection, v, start_s + n * step_s) for n, v in enumerate(in_turn)))
        await asyncio.wait_for(all_heard.wait(), PATIENCE_S)
    return rows


async def _play(connection: Connection, voice: Voice, start_s: float) -> None:
    for number, payload in enumerate(voice.payloads):
        await asyncio.sleep(start_s + number * LIVE_PAYLOAD_S - time.monotonic())
        voice.sent_s.append(time.monotonic())
        await connection.publish(voice.subject, payload)


# How fast the broker confirms.


def _stored_per_s(seconds: float) -> Results:
    """Messages a second, by ``sync_interval`` and the number of those who each wait for their answer."""
    results: Results = {}
    for sync in SYNC:
        with tempfile.TemporaryDirectory(prefix="transcriber-bench-") as folder:
            config = Path(folder) / "nats.conf"
            extra = "" if sync == "default" else f"sync_interval: {sync}"
            config.write_text(f'jetstream {{ store_dir: "{folder}/store"\n {extra} }}\n')
            with EmbeddedBroker("--config", str(config)) as broker:
                results[sync] = asyncio.run(_store_all(broker.url, seconds))
        note(f"durable: stored a second, sync_interval {sync}: {results[sync]}")
    return results


async def _store_all(url: str, seconds: float) -> Results:
    settings = _settings(url, DURABLE)
    audio, text = bytes(int(STORED_PAYLOAD_S * FORMAT.rate) * FORMAT.frame_bytes), bytes(TEXT_BYTES)
    async with connected(settings, "bench durable") as connection:
        await provision.ensure_streams(connection, settings)
        jetstream = JetStream(connection)

        async def audio_stream(name: str) -> AsyncIterator[None]:
            for number in itertools.count():
                await jetstream.store(f"audio.{name}", audio, {"Nats-Msg-Id": f"{name}:{number}"})
                yield

        async def text_stream(name: str) -> AsyncIterator[None]:
            last_seq = 0
            for number in itertools.count():
                headers = {"Nats-Msg-Id": f"t{name}:{number}", FENCE: str(last_seq)}
                headers[f"{FENCE}-Subject"] = f"transcripts.{name}.*"
                last_seq = (await jetstream.store(f"transcripts.{name}.final", text, headers)).seq
                yield

        return {
            kind: {str(count): await _rate(stream, kind, count, seconds) for count in IN_FLIGHT}
            for kind, stream in {"audio": audio_stream, "transcripts": text_stream}.items()
        }


async def _rate(stream: Callable[[str], AsyncIterator[None]], kind: str, count: int, seconds: float) -> int:
    stored, start_s = 0, time.monotonic()

    async def store(name: str) -> None:
        nonlocal stored
        async for _ in stream(name):
            stored += 1
            if time.monotonic() - start_s > seconds:
                return

    await asyncio.gather(*(store(f"{kind}-{count}-{number}") for number in range(count)))
    return round(stored / (time.monotonic() - start_s))


# How fast what waits is worked off.


def _throughput(*, quick: bool) -> Results:
    results: Results = {}
    for count in STREAMS:
        seconds = (120.0 if quick else 600.0) if count == 1 else (15.0 if quick else 60.0)
        with storing_broker() as broker:
            rows = {
                "live": asyncio.run(_live(broker.url, count, seconds)),
                "durable": asyncio.run(_backlog(broker.url, count, seconds)),
            }
        ratio = rows["durable"]["cpu_ms_per_audio_s"] / rows["live"]["cpu_ms_per_audio_s"]
        results[str(count)] = rows | {"cpu_durable_over_live": round(ratio, 3)}
        note(f"durable: throughput of {count} streams: {results[str(count)]}")
    return results


def _speed(audio_s: float, wall_s: float, cpu_s: float) -> Results:
    return {
        "audio_s": audio_s,
        "times_real_time": round(audio_s / wall_s, 1),
        "cpu_ms_per_audio_s": round(1000 * cpu_s / audio_s, 3),
    }


async def _live(url: str, count: int, seconds: float) -> Results:
    """Each stream is published as fast as its text comes back."""
    payloads, per_window = _payloads(seconds, LIVE_PAYLOAD_S, FORMAT.rate), round(WINDOW_S / LIVE_PAYLOAD_S)
    ahead = [asyncio.Semaphore(AHEAD) for _ in range(count)]
    heard = asyncio.Semaphore(0)

    async def hear(message: NatsMessage) -> None:
        ahead[int(message.subject.split(".")[1])].release()
        heard.release()

    async def play(connection: Connection, number: int) -> None:
        for at in range(0, len(payloads), per_window):
            await ahead[number].acquire()
            for payload in payloads[at : at + per_window]:
                await connection.publish(f"audio.{number}", payload)
            await connection.flush(PATIENCE_S)

    with StubbedDaemon(url, None, **(PLAIN | LIVE)) as daemon:
        await _ready(daemon)
        async with connected(load_settings(nats_url=url), "bench durable") as connection:
            await connection.subscribe("transcripts.*.final", hear)
            began_s, cpu_s = time.monotonic(), daemon.cpu_s
            await asyncio.gather(*(play(connection, number) for number in range(count)))
            # The resampler holds the last window back.
            for _ in range(count * (len(payloads) // per_window - 1)):
                await asyncio.wait_for(heard.acquire(), PATIENCE_S)
            return _speed(count * seconds, time.monotonic() - began_s, daemon.cpu_s - cpu_s)


async def _backlog(url: str, count: int, seconds: float) -> Results:
    """Everything is stored before the daemon comes; counted from its first text to its last."""
    settings = _settings(url, DURABLE)
    payloads = _payloads(seconds, LIVE_PAYLOAD_S, FORMAT.rate)
    async with connected(settings, "bench durable") as connection:
        await provision.ensure_streams(connection, settings)
        await _keep(connection, [f"audio.{number}" for number in range(count)], payloads)
        finals = await subscribe(connection, "transcripts.*.final")
        with StubbedDaemon(url, None, **(PLAIN | DURABLE)) as daemon:
            await asyncio.wait_for(anext(finals), PATIENCE_S)
            began_s, cpu_s = time.monotonic(), daemon.cpu_s
            left = count * (round(seconds / WINDOW_S) - 1) - 1
            for _ in range(left):
                await asyncio.wait_for(anext(finals), PATIENCE_S)
            return _speed(left * WINDOW_S, time.monotonic() - began_s, daemon.cpu_s - cpu_s)


async def _keep(connection: Connection, subjects: list[str], payloads: list[bytes]) -> None:
    """Have the payloads stored on each of the subjects, in their order."""
    jetstream = JetStream(connection)
    for start in range(0, len(payloads), IN_A_ROW):
        *first, last = payloads[start : start + IN_A_ROW]
        for subject in subjects:
            for payload in first:
                await connection.publish(subject, payload)
            await jetstream.store(subject, last, {})


# How soon a daemon is back.


def _restart(*, quick: bool) -> Results:
    """From the start of the process, with one new window stored, to its text; sessions of several lengths take turns."""
    lengths_s, rounds = ((60.0, 300.0), 2) if quick else ((60.0, 3600.0), 7)
    with storing_broker() as broker:
        rows = asyncio.run(_restart_all(broker.url, lengths_s, rounds))
    shortest, longest = (statistics.median(rows[length_s]) for length_s in lengths_s)
    results = {
        "first_text_ms": {f"{length_s:.0f}_s": quantiles(row, median=0.5, max=1.0) for length_s, row in rows.items()},
        "longest_over_shortest": round(longest / shortest, 3),
    }
    note(f"durable: restart: {results}")
    return results


async def _restart_all(url: str, lengths_s: tuple[float, ...], rounds: int) -> dict[float, list[float]]:
    rows: dict[float, list[float]] = {length_s: [] for length_s in lengths_s}
    settings = _settings(url, DURABLE | RESTART)
    async with connected(settings, "bench durable") as connection:
        await provision.ensure_streams(connection, settings)
        finals = await subscribe(connection, "transcripts.*.final")
        for length_s in lengths_s:
            # One payload more than whole windows: the last of them is not held back.
            payloads = _payloads(length_s + STORED_PAYLOAD_S, STORED_PAYLOAD_S, settings.input_sample_rate)
            await _keep(connection, [f"audio.{length_s:.0f}"], payloads)
            await _start_until_heard(url, finals, length_s, round(length_s / WINDOW_S))
        for number, (length_s, row) in itertools.product(range(rounds), rows.items()):
            window = _payloads(WINDOW_S, STORED_PAYLOAD_S, settings.input_sample_rate)
            await _keep(connection, [f"audio.{length_s:.0f}"], window)
            took_s, final = await _start_until_heard(url, finals, length_s, 1)
            if final.start != length_s + number * WINDOW_S:
                raise SystemExit(f"the daemon did not resume its session, but at {final.start} s")
            row.append(1000 * took_s)
    return rows


async def _start_until_heard(
    url: str, finals: AsyncIterator[NatsMessage], length_s: float, windows: int
) -> tuple[float, Final]:
    """Run a daemon until so many windows are text; seconds from its start to the last of them."""
    began_s = time.monotonic()
    with StubbedDaemon(url, None, **(PLAIN | DURABLE | RESTART | {"AUDIO_SUBJECT": f"audio.{length_s:.0f}"})):
        for _ in range(windows - 1):
            await asyncio.wait_for(anext(finals), PATIENCE_S)
        last = await asyncio.wait_for(anext(finals), PATIENCE_S)
        return time.monotonic() - began_s, Final.model_validate_json(last.data)


async def _ready(*daemons: MeasuredDaemon) -> None:
    for daemon in daemons:
        if not await daemon.ready():
            raise SystemExit(daemon.log())


if __name__ == "__main__":
    run("durable", measure)
