"""What the daemon adds to whisper: the bundled model on the bundled speech, in real time, through a real broker.

Several streams of 20 ms payloads (48 kHz, S16LE) are spaced so that their windows come one by one to an idle worker; they are
cut where they are full, so that it is known which payload completes them, and no partials are made.
Out: by window, the daemon's own ``timing`` and what a client sees, less the time inside whisper; and, after each
window, the same samples through a bare ``whisper_full`` in this process, with the same parameters.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bench.lib.daemon import PLAIN, MeasuredDaemon
from bench.lib.paced import PAYLOAD_S
from bench.lib.report import Results, note, quantiles, run
from transcriber.audio.contiguous import ContiguousRun
from transcriber.audio.window_policy import WindowPolicy
from transcriber.bus.client_session import connected
from transcriber.bus.connection import Connection, NatsMessage
from transcriber.config import Settings, load_settings
from transcriber.engine.whisper.model import load_model
from transcriber.models.catalog import DEMO, DEMO_MODEL
from transcriber.schema.messages import Final, Timing
from transcriber.testing.broker import EmbeddedBroker
from transcriber.testing.speech import SPEECH_FORMAT, load_speech

STREAMS = 5
"""A window a second, which takes whisper a fraction of it, here and there."""

TAIL_S = 0.2
"""Audio after the last window, so that the resampler lets go of it."""

PATIENCE_S = 30.0

Samples = NDArray[np.float32]


@dataclass(slots=True)
class Voice:
    """One stream.

    Attributes:
        windows: number of the completing payload, and samples at 16 kHz, as the daemon cuts them.
        sent_s: monotonic time of each payload's publishing.
    """

    name: str
    payloads: list[bytes]
    windows: list[tuple[int, Samples]]
    sent_s: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Row:
    """One window.

    Attributes:
        timing: what the daemon says.
        at_client_ms: from the publishing of the completing payload to the text's arrival.
        bare_ms: inside a bare ``whisper_full``.
    """

    timing: Timing
    at_client_ms: float
    bare_ms: float

    @property
    def overhead_ms(self) -> float:
        return self.timing.end_to_end_ms - self.timing.processing_ms

    @property
    def rest_ms(self) -> float:
        """Decoding, resampling and cutting before the queue, and the tokens after whisper."""
        return self.overhead_ms - self.timing.queue_ms - self.timing.handover_ms


def measure(quick: bool) -> Results:
    settings = load_settings()
    voices = list(_voices(settings.buffer_duration_secs, windows=3 if quick else 12))
    with (
        EmbeddedBroker() as broker,
        MeasuredDaemon(broker.url, WHISPER_MODEL=DEMO, **PLAIN) as daemon,
        ThreadPoolExecutor(1) as whisper_thread,
    ):
        rows = asyncio.run(_perform(broker.url, daemon, settings, voices, whisper_thread))
    return {
        "windows": len(rows),
        "window_s": settings.buffer_duration_secs,
        "whisper_threads": settings.threads,
        "audio_ctx": settings.audio_ctx,
        "overhead_ms": _spread(rows, lambda row: row.overhead_ms),
        "of_which_queue_ms": _spread(rows, lambda row: row.timing.queue_ms),
        "of_which_handover_ms": _spread(rows, lambda row: row.timing.handover_ms),
        "of_which_rest_ms": _spread(rows, lambda row: row.rest_ms),
        "overhead_at_client_ms": _spread(rows, lambda row: row.at_client_ms - row.timing.processing_ms),
        "processing_ms": _spread(rows, lambda row: row.timing.processing_ms),
        "bare_whisper_full_ms": _spread(rows, lambda row: row.bare_ms),
        "processing_over_bare": _spread(rows, lambda row: row.timing.processing_ms / row.bare_ms),
        "end_to_end_over_bare": _spread(rows, lambda row: row.timing.end_to_end_ms / row.bare_ms),
    }


def _spread(rows: list[Row], figure: Callable[[Row], float]) -> dict[str, float | None]:
    return quantiles([figure(row) for row in rows], median=0.5, p95=0.95)


def _voices(window_s: float, windows: int) -> Iterator[Voice]:
    """The bundled speech, over and over; each stream begins at another place of it."""
    speech = b"".join(recording.pcm for recording in load_speech())
    second = SPEECH_FORMAT.rate * SPEECH_FORMAT.frame_bytes
    size, length = int(PAYLOAD_S * second), int((windows * window_s + TAIL_S) * second)
    for number in range(STREAMS):
        place = number * len(speech) // STREAMS // SPEECH_FORMAT.frame_bytes * SPEECH_FORMAT.frame_bytes
        pcm = (speech[place:] + speech * (1 + length // len(speech)))[:length]
        payloads = [pcm[at : at + size] for at in range(0, length, size)]
        plain = ContiguousRun(SPEECH_FORMAT, WindowPolicy(window_s), None)
        cuts = [(at, cut.samples) for at, pcm in enumerate(payloads) for _, cut in plain.push(pcm, eager=False)]
        yield Voice(f"voice-{number}", payloads, cuts)


async def _perform(
    url: str, daemon: MeasuredDaemon, settings: Settings, voices: list[Voice], whisper_thread: ThreadPoolExecutor
) -> list[Row]:
    """Play all voices; a row for each window that comes back."""
    if not await daemon.ready():
        raise SystemExit(daemon.log())
    loop = asyncio.get_running_loop()
    bare = await loop.run_in_executor(whisper_thread, _bare_whisper, settings, voices[0].windows[0][1])
    heard: asyncio.Queue[tuple[float, NatsMessage]] = asyncio.Queue()

    async def hear(message: NatsMessage) -> None:
        heard.put_nowait((time.monotonic(), message))

    by_name = {voice.name: voice for voice in voices}
    rows: list[Row] = []
    async with connected(load_settings(nats_url=url), "bench pipeline") as connection:
        await connection.subscribe("transcripts.*.final", hear)
        start_s = time.monotonic() + 0.1
        spacing_s = settings.buffer_duration_secs / STREAMS
        playing = asyncio.gather(*(_play(connection, v, start_s + n * spacing_s) for n, v in enumerate(voices)))
        while len(rows) < sum(len(voice.windows) for voice in voices):
            heard_s, message = await asyncio.wait_for(heard.get(), PATIENCE_S)
            final = Final.model_validate_json(message.data)
            voice = by_name[final.stream]
            completing, samples = voice.windows[final.segment]
            bare_ms = await loop.run_in_executor(whisper_thread, bare, samples)
            rows.append(Row(final.timing, 1000 * (heard_s - voice.sent_s[completing]), bare_ms))
            note(f"pipeline: window {len(rows)}: {rows[-1].overhead_ms:.2f} ms beside {bare_ms:.0f} ms of whisper")
        await playing
    return rows


async def _play(connection: Connection, voice: Voice, start_s: float) -> None:
    """Publish in real time."""
    for number, payload in enumerate(voice.payloads):
        await asyncio.sleep(start_s + number * PAYLOAD_S - time.monotonic())
        voice.sent_s.append(time.monotonic())
        await connection.publish(f"audio.{voice.name}", payload)


def _bare_whisper(settings: Settings, warm_up: Samples) -> Callable[[Samples], float]:
    """A loaded model that has been used; for one thread only. It returns the milliseconds inside ``whisper_full``."""
    model = load_model(DEMO_MODEL, settings)

    def bare_ms(samples: Samples) -> float:
        return 1000 * model.transcribe(samples, "en", lambda: False).processing_s

    bare_ms(warm_up)
    return bare_ms


if __name__ == "__main__":
    run("pipeline", measure)
