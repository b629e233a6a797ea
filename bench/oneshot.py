"""What a one-shot request costs: clips of the bundled speech through a real broker, to a daemon without its engine and to one
with the bundled model.

Out: milliseconds at the client by length, container and requests at once, with those that were refused counted; what the
daemon adds to a bare ``WhisperModel.transcribe`` of the same samples, asked in turn with it; and, in this process and on one
engine, our way from bytes to windows beside the usual one: write a temporary file, and decode that.
"""

import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import av
import numpy as np
import soundfile
import soxr
from nats.aio.msg import Msg

from bench.lib.clips import ClipFile, make_clips
from bench.lib.daemon import MeasuredDaemon, StubbedDaemon
from bench.lib.recordings import Samples
from bench.lib.report import Results, note, quantiles, run
from transcriber.audio.clip import ClipCutter
from transcriber.audio.media.open import open_media
from transcriber.audio.resampler import TARGET_SAMPLE_RATE
from transcriber.audio.session import Window
from transcriber.audio.vad.silero import Silero
from transcriber.audio.window_policy import WindowPolicy
from transcriber.bus.client_session import connected
from transcriber.bus.connection import Connection
from transcriber.config import Settings, load_settings
from transcriber.engine.whisper.model import WhisperModel, load_model
from transcriber.models.catalog import DEMO, DEMO_MODEL
from transcriber.schema.subjects import REQUEST_SUBJECT
from transcriber.testing.broker import EmbeddedBroker

FIVE = 5
"""Seconds of the clip that the targets are about."""

AT_ONCE = (1, 16)
MAX_PAYLOAD = 2**23
"""Bytes: 25 s at 48 kHz are more than a broker takes by default."""

TIMEOUT_S = 30.0


@dataclass(slots=True)
class Answers:
    """What came back: milliseconds of those with text, and how many were refused, by code."""

    times_ms: list[float] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)

    def take(self, reply: Msg, took_ms: float) -> None:
        if code := (reply.headers or {}).get("Nats-Service-Error-Code"):
            self.refused[code] = self.refused.get(code, 0) + 1
        else:
            self.times_ms.append(took_ms)

    def summary(self) -> Results:
        spread = quantiles(self.times_ms, p50=0.5, p99=0.99)
        return {"answered": len(self.times_ms), "refused": self.refused, **{f"{k}_ms": v for k, v in spread.items()}}


def measure(quick: bool) -> Results:
    clips = make_clips()
    rounds = 12 if quick else 100
    # What whisper itself takes is not what is asked here: a short run asks it about the clips of 5 s alone.
    for_whisper = [clip for clip in clips if clip.seconds == FIVE] if quick else clips
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as engine_thread:
        config = Path(folder) / "nats.conf"
        config.write_text(f"max_payload: {MAX_PAYLOAD}\n")
        model = engine_thread.submit(load_model, DEMO_MODEL, load_settings()).result()
        results: Results = {"clips": {clip.name: len(clip.data) for clip in clips}}
        results["decoding"] = engine_thread.submit(decoding, clips, model, rounds, for_whisper).result()
        with EmbeddedBroker("-c", str(config)) as broker:
            with StubbedDaemon(broker.url) as daemon:
                results["no_engine"] = asyncio.run(_ask_all(broker.url, daemon, clips, rounds))
            with MeasuredDaemon(broker.url, WHISPER_MODEL=DEMO) as daemon:
                results["demo"] = asyncio.run(_ask_all(broker.url, daemon, for_whisper, rounds // 4))
                results["overhead"] = asyncio.run(_over_bare(broker.url, clips, model, engine_thread, rounds))
    return results


def decoding(clips: list[ClipFile], model: WhisperModel, rounds: int, with_engine: list[ClipFile]) -> Results:
    """Medians in this process and thread, in turn: from bytes to whisper's input, ours and by a temporary file; also with it.

    The files' ways do not detect silence; what detection costs ours is beside it.
    """
    settings = load_settings()
    policy = WindowPolicy(settings.file_window_secs, quiet_cut=True, speech_threshold=settings.speech_threshold)
    deaf = ClipCutter(policy, None, settings.request_max_secs)
    listening = replace(deaf, policy=replace(policy, speech_gate=True), network=Silero())
    ways: dict[str, Callable[[bytes], list[Samples]]] = {
        "ours": lambda data: _windows(deaf, data),
        "ours_listening": lambda data: _windows(listening, data),
        "temp_file_av": lambda data: [by_file(data, _read_by_av)],
        "temp_file_soundfile": lambda data: [by_file(data, _read_by_soundfile)],
    }
    results: Results = {}
    order, turns = list(ways.items()), random.Random(1)
    for clip in clips:
        times: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(rounds):
            turns.shuffle(order)  # who comes after much other code finds the caches cold
            for way, decode in order:
                times[way].append(_timed_ms(decode, clip.data)[0])
        for _ in range(rounds // 4 if clip in with_engine else 0):
            for way, decode in ways.items():
                took_ms, windows = _timed_ms(decode, clip.data)
                for samples in windows:
                    took_ms += _bare_ms(model, samples)
                times.setdefault(f"{way}_and_engine", []).append(took_ms)
        results[clip.name] = {f"{what}_ms": round(statistics.median(found), 2) for what, found in times.items()}
        note(f"oneshot: {clip.name} decoded: {results[clip.name]}")
    return results


def _windows(ears: ClipCutter, data: bytes) -> list[Samples]:
    """As the daemon makes them."""
    media = open_media(data)
    parts = ears.cut("s", media.format, media.pieces).parts
    return [part.cut.samples for part in parts if isinstance(part, Window)]


def _timed_ms(decode: Callable[[bytes], list[Samples]], data: bytes) -> tuple[float, list[Samples]]:
    started_s = time.perf_counter()
    windows = decode(data)
    return 1000 * (time.perf_counter() - started_s), windows


def by_file(data: bytes, read: Callable[[str], tuple[Samples, int]]) -> Samples:
    """The usual way: into a temporary file, out of it, and to whisper's rate."""
    with tempfile.NamedTemporaryFile(suffix=".audio") as file:
        file.write(data)
        file.flush()
        samples, rate = read(file.name)
    return samples if rate == TARGET_SAMPLE_RATE else soxr.resample(samples, rate, TARGET_SAMPLE_RATE)


def _read_by_soundfile(path: str) -> tuple[Samples, int]:
    samples, rate = soundfile.read(path, dtype="float32")
    return samples, rate


def _read_by_av(path: str) -> tuple[Samples, int]:
    with av.open(path) as container:
        frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
        rate = container.streams.audio[0].rate
    joined = np.concatenate(frames, axis=1)[0]
    return (joined / np.float32(2**15) if joined.dtype == np.int16 else joined).astype(np.float32), rate


async def _ask_all(url: str, daemon: MeasuredDaemon, clips: list[ClipFile], rounds: int) -> Results:
    """Each clip, alone and many at once."""
    if not await daemon.ready():
        raise SystemExit(daemon.log())
    results: Results = {}
    async with connected(load_settings(nats_url=url), "bench oneshot") as connection:
        for clip in clips:
            await _ask(connection, clip, Answers())
            results[clip.name] = {}
            for at_once in AT_ONCE:
                answers = Answers()
                for _ in range(max(1, rounds // at_once)):
                    await asyncio.gather(*(_ask(connection, clip, answers) for _ in range(at_once)))
                results[clip.name][f"{at_once} at once"] = answers.summary()
            note(f"oneshot: {clip.name}: {results[clip.name]}")
    return results


async def _ask(connection: Connection, clip: ClipFile, answers: Answers) -> float:
    started_s = time.perf_counter()
    reply = await connection.client.request(REQUEST_SUBJECT, clip.data, timeout=TIMEOUT_S)
    took_ms = 1000 * (time.perf_counter() - started_s)
    answers.take(reply, took_ms)
    return took_ms


async def _over_bare(
    url: str,
    clips: list[ClipFile],
    model: WhisperModel,
    engine_thread: ThreadPoolExecutor,
    rounds: int,
) -> Results:
    """A request and a bare call in turn: medians, and the median of the differences."""
    loop = asyncio.get_running_loop()
    results: Results = {"whisper_threads": Settings().threads}
    async with connected(load_settings(nats_url=url), "bench oneshot") as connection:
        for clip in (clip for clip in clips if clip.seconds == FIVE):
            pairs = []
            for _ in range(rounds):
                bare_ms = await loop.run_in_executor(engine_thread, _bare_ms, model, clip.samples)
                pairs.append((await _ask(connection, clip, Answers()), bare_ms))
            asked, bare = (statistics.median(values) for values in zip(*pairs, strict=True))
            over = statistics.median(one - other for one, other in pairs)
            results[clip.name] = {
                "request_ms": round(asked, 2),
                "bare_ms": round(bare, 2),
                "overhead_ms": round(over, 2),
            }
            note(f"oneshot: {clip.name}: {results[clip.name]}")
    return results


def _bare_ms(model: WhisperModel, samples: Samples) -> float:
    started_s = time.perf_counter()
    model.transcribe(samples, "en", lambda: False)
    return 1000 * (time.perf_counter() - started_s)


if __name__ == "__main__":
    run("oneshot", measure)
