"""Clips: the bytes of a recording in one request, its text in one reply.

In: requests on ``transcriber.transcribe``. Out: replies, or errors with their code. A task of each request has the clip decoded and
cut in the pool, puts its windows into the lane of requests, one after another, and buffers the messages that a stream would
publish: they become the reply.
"""

import asyncio
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial

import numpy as np

from transcriber.audio.clip import Clip, ClipCutter
from transcriber.audio.media.open import open_media
from transcriber.audio.media.pieces import Piece
from transcriber.audio.resampler import TARGET_SAMPLE_RATE
from transcriber.audio.session import Gap, Silence, Window
from transcriber.audio.window_policy import WindowPolicy
from transcriber.bus.connection import Connection, NatsMessage
from transcriber.bus.micro_service import STOPPING, Reply
from transcriber.clips.headers import FORMS, read_headers
from transcriber.engine.job import Job, Lane, Outcome
from transcriber.engine.job_queue import OTHER_BOUNDS
from transcriber.engine.pool import WorkerPool
from transcriber.engine.queue_slots import QueueSlots
from transcriber.engine.worker import Worker
from transcriber.errors import BadInputError, ClaimError, EngineError, RequestError, TooLongError
from transcriber.pipeline.decoder_pool import DecoderPool
from transcriber.pipeline.runtime import RequestOptions, Runtime
from transcriber.pipeline.sinks import BufferedSink
from transcriber.pipeline.stream_output import StreamOutput
from transcriber.schema.arrival import Arrival
from transcriber.schema.languages import WHISPER_LANGUAGES
from transcriber.schema.messages import MAX_HELD_BACK, AnyMessage, held_back, untranscribed
from transcriber.text.results import Result, render
from transcriber.ulid import new_ulid

SLOTS = OTHER_BOUNDS[Lane.REQUEST]
MAX_OPEN_CLIPS = 2 * SLOTS
"""Unanswered clips of one worker: half of them have a slot in its queue, the others are decoded meanwhile."""

MAX_OPEN_BYTES = 2**26
"""Of all unanswered clips, as received; one clip is always accepted."""

MAX_CLIP_BYTES = 2**28
"""Of all unanswered clips, decoded: where ``REQUEST_MAX_SECS`` allows longer clips, fewer are accepted."""

USE_OBJECT_STORE = "use the object store: transcriber.submit"


class ClipHandler:
    """Event loop only."""

    def __init__(self, connection: Connection, pool: WorkerPool, runtime: Runtime) -> None:
        settings = runtime.settings
        self._connection = connection
        # Long windows, cut at pauses, need no left context.
        self._runtime = replace(runtime, settings=settings.model_copy(update={"left_context_secs": 0.0}), live=None)
        self._decoders = DecoderPool()
        self._slots = {worker: QueueSlots(worker, Lane.REQUEST) for worker in pool.workers}
        self._open_clips = dict.fromkeys(pool.workers, 0)
        self._open_clip_bytes = 0
        self._all_answered = asyncio.Event()
        self._all_answered.set()
        self._stopping = False
        self._window_s = pool.rtf * settings.buffer_duration_secs  # what one takes: a moving average
        self._cutter = ClipCutter(
            WindowPolicy(
                window_s=settings.file_window_secs,
                quiet_cut=True,
                speech_gate=settings.speech_gate,
                speech_threshold=settings.speech_threshold,
                split_channels=settings.speakers == "channels",
                always_detect=runtime.network is not None,
            ),
            runtime.network,
            settings.request_max_secs,
        )
        channels = 2 if settings.speakers == "channels" else 1
        clip_bytes = settings.request_max_secs * TARGET_SAMPLE_RATE * channels * np.dtype(np.float32).itemsize
        self._max_open_clips = max(1, min(MAX_OPEN_CLIPS, int(MAX_CLIP_BYTES / clip_bytes / len(pool.workers))))

    @property
    def metadata(self) -> dict[str, str]:
        """The micro service's metadata, for clients."""
        model, settings = self._runtime.model, self._runtime.settings
        return {
            "model": model.name,
            "languages": ",".join(filter(model.supports, settings.languages or WHISPER_LANGUAGES)),
            "max_payload": str(self._connection.client.max_payload),
            "request_max_secs": f"{settings.request_max_secs:g}",
            "formats": ",".join(FORMS),
        }

    async def stop(self, grace_s: float) -> None:
        """Wait until all accepted clips are answered, at most ``grace_s``; then those without a slot in the queue get a 503."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._all_answered.wait(), grace_s)
        self._stopping = True

    def close(self) -> None:
        """Stop decoding."""
        self._decoders.close()

    async def answer(self, message: NatsMessage, arrival: Arrival) -> Reply:
        """The text of a clip; what of it is suppressed or missing is in headers, too, for the formats without a field for it.

        Raises:
            RequestError: the clip is refused, or was not transcribed.
        """
        worker, size = min(self._open_clips, key=self._open_clips.__getitem__), len(message.data)
        timeout_s = self._runtime.settings.request_timeout_secs
        self._check_room(worker, size)
        self._open_clips[worker] += 1
        self._open_clip_bytes += size
        self._all_answered.clear()
        try:
            async with asyncio.timeout(timeout_s):
                return await self._transcribe(message, worker, arrival)
        except TooLongError as error:
            raise RequestError(413, f"{error}; {USE_OBJECT_STORE}") from None
        except BadInputError as error:
            raise RequestError(400, str(error)) from None
        except TimeoutError:
            raise RequestError(504, f"not transcribed within {timeout_s:g} s") from None
        except EngineError as error:
            if error.reason == "shutdown":
                raise STOPPING from None
            self._runtime.warnings.warning("request", "a request was not transcribed: %s", error)
            raise RequestError(500, f"not transcribed: {error}") from None
        finally:
            self._open_clips[worker] -= 1
            self._open_clip_bytes -= size
            if not any(self._open_clips.values()):
                self._all_answered.set()

    def _check_room(self, worker: Worker, size: int) -> None:
        if self._open_clips[worker] >= self._max_open_clips or (
            self._open_clip_bytes and self._open_clip_bytes + size > MAX_OPEN_BYTES
        ):
            raise self._queue_full()

    def _queue_full(self) -> RequestError:
        """The refusal; ``Retry-After`` is the time that a full queue takes."""
        return RequestError(429, "the queue is full", max(1, math.ceil(self._window_s * SLOTS)))

    async def _transcribe(self, message: NatsMessage, worker: Worker, arrival: Arrival) -> Reply:
        clip_options = read_headers(message.headers, self._runtime.model, self._runtime.settings.languages)
        clip = await self._decoders.run(_cut, self._cutter, message.data, new_ulid())
        sink = BufferedSink()
        options = RequestOptions(clip_options.task == "translate", clip_options.prompt, _requester(message.reply))
        output = StreamOutput(clip.session.id, self._runtime, sink, options)
        output.started(clip.session, clip_options.audio)
        output.warn_about_audio(clip.session)
        first = True
        for part in clip.parts:
            match part:
                case Silence():
                    output.silence(part, arrival.wall)
                case Gap():
                    output.gap(part, arrival.wall)
                case Window():
                    make = partial(_job, output, part, arrival)
                    job, outcome = await self._transcribe_window(worker, make, first=first)
                    if isinstance(outcome, EngineError):
                        raise outcome
                    first = False
                    output.window(part, arrival.wall, job, outcome)
        output.ended(clip.session)
        messages = [build() for build, *_ in sink.take()]
        text = render(messages, Result(clip_options.form, clip_options.task)).encode()
        headers = _gap_headers(messages)
        if len(text) > self._connection.room(headers):
            raise RequestError(413, f"the answer has {len(text)} bytes, more than one message may; {USE_OBJECT_STORE}")
        return Reply(text, headers or None)

    async def _transcribe_window(
        self, worker: Worker, make: Callable[[asyncio.Future[Outcome]], Job], *, first: bool
    ) -> tuple[Job, Outcome]:
        """The job of a window and its outcome. The first window of a clip is refused if the queue is full, the others wait.

        Raises:
            RequestError: the queue is full, or the daemon stops.
        """
        while True:
            if not first:
                await self._slots[worker].free()
            answered: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
            job = make(answered)
            refused = worker.queue.try_put(job)
            if refused is not job:
                self._runtime.telemetry.counters().jobs_enqueued += 1
            if refused is not None:
                refused.settle(refused, worker.queue.full_error(refused.lane))
            try:
                outcome = await answered
            finally:
                if worker.queue.withdraw(job):  # cancelled while queued
                    self._slots[worker].wake()
            if not (isinstance(outcome, EngineError) and outcome.reason == "queue_full"):
                if job.started_s:
                    self._window_s += (job.finished_s - job.started_s - self._window_s) / SLOTS
                return job, outcome
            if self._stopping:
                raise STOPPING
            if first:
                raise self._queue_full()


def _gap_headers(messages: Sequence[AnyMessage]) -> dict[str, str]:
    """Headers with what is suppressed and what could not be read; empty where nothing is."""
    held = [found.model_dump() for message in messages if (found := held_back(message))]
    gaps = [gap.model_dump() for message in messages if (gap := untranscribed(message))]
    lists = {"Suppressed": held, "Gaps": gaps}
    return {name: json.dumps(ranges[:MAX_HELD_BACK]) for name, ranges in lists.items() if ranges}


def _cut(cutter: ClipCutter, data: bytes, session_id: str) -> Clip:
    """Decode and cut. Runs on a thread of the pool."""
    media = open_media(data)
    with closing(media.pieces):
        if media.frames is not None:
            cutter.check_length(media.frames, media.format.rate)
        clip = cutter.cut(session_id, media.format, _with_missing_end(media.pieces))
        clip.session.mix_report.opposed += media.mix_report.opposed
        return clip


def _with_missing_end(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """The pieces, and a last one for audio that the header claims and is missing: a wrong header is no reason to refuse a clip."""
    try:
        yield from pieces
    except ClaimError as error:
        yield Piece(error.frames, b"", str(error))


def _job(output: StreamOutput, window: Window, arrival: Arrival, answered: asyncio.Future[Outcome]) -> Job:
    """A window for the worker; its outcome goes to ``answered``."""
    return output.job(window, partial(_settle, answered), Lane.REQUEST, arrival)


def _settle(answered: asyncio.Future[Outcome], _: Job, outcome: Outcome) -> None:
    if not answered.done():
        answered.set_result(outcome)


def _requester(reply: str) -> str:
    """The requester: a client's inbox without what it adds for each reply.

    >>> _requester("_INBOX.tQ3oiP4yLAkxGPNFMbMKBp.tQ3oiP4yLAkxGPNFMbMKPl")
    '_INBOX.tQ3oiP4yLAkxGPNFMbMKBp'
    """
    return ".".join(reply.split(".")[:2])
