"""An upload as a job: what is too large or too long for a request, and what is told apart by speakers.

In: the pieces of a file, which go into the object store as they come; options. Out: the job's result, or events as it goes.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from typing import Any

from transcriber.bus.client_session import parse_transcript
from transcriber.bus.connection import MessageSubscription, NatsMessage
from transcriber.bus.jetstream.client import JetStream
from transcriber.bus.jetstream.file_streams import FILES_BUCKET
from transcriber.bus.object_store.bucket import Bucket
from transcriber.clients.jobs_api import JobWatch
from transcriber.errors import RequestError, TranscriberError
from transcriber.gateway.api_error import ApiError, as_api_error
from transcriber.gateway.keys import Key
from transcriber.gateway.runtime import GatewayRuntime
from transcriber.gateway.transcriptions.answers import delta, done, parse_verbose, speaker_segments
from transcriber.gateway.transcriptions.options import SpeechOptions
from transcriber.schema.file_jobs import JobRecord, Submission, new_job_id, new_object_name
from transcriber.schema.messages import AnyMessage, Progress
from transcriber.tasks import cancel, to_its_end
from transcriber.text.phrases import PhraseQueue

log = logging.getLogger(__name__)


class UploadedJob:
    """One job. Event loop only.

    Attributes:
        id: of the job.
    """

    def __init__(self, runtime: GatewayRuntime, key: Key, file_name: str, traceparent: str) -> None:
        """``traceparent`` of the client's request."""
        self.id = new_job_id()
        self._runtime, self._key, self._traceparent = runtime, key, traceparent
        self._object = new_object_name(file_name or "upload")

    async def store(self, pieces: AsyncIterator[bytes]) -> None:
        """Store the file.

        Raises:
            ApiError: 413, it is larger than files may be, or nothing here takes files.
            As ``Jobs.upload``.
        """
        try:
            await self._runtime.jobs.check(urgent=True)
        except TranscriberError as error:
            raise ApiError(413, f"too large for a request, and {error}", param="file") from None
        await self._runtime.jobs.upload(self._object, self._limited(pieces), lambda _: None)

    async def discard(self) -> None:
        """Delete the file, of which no job will need it."""
        bucket = Bucket(JetStream(self._runtime.connection), FILES_BUCKET)
        with suppress(TranscriberError):  # it is as old as files get, at most
            await bucket.delete(self._object)

    async def result(self, options: SpeechOptions, form: str) -> bytes:
        """Run the job; its result as ``form``: json, srt, vtt or txt. A cancellation cancels the job.

        Raises:
            ApiError: 422, it failed.
            As ``Jobs.submit`` and ``Jobs.result``.
        """
        async with self._runtime.jobs.watch(self.id, _ignore) as watch:
            submitting = asyncio.create_task(self._submit(options))
            try:
                await asyncio.shield(submitting)
                await self._to_its_end(watch)
            except asyncio.CancelledError:
                await to_its_end(self._abandon(submitting))
                raise
        return await self._fetch(form)

    async def events(self, options: SpeechOptions) -> AsyncGenerator[dict[str, Any] | None, None]:
        """None once the job is accepted; then the events of its text, as it comes. Closing it early cancels the job.

        Raises:
            As ``result``.
        """
        texts: asyncio.Queue[AnyMessage] = asyncio.Queue()

        async def take(message: NatsMessage) -> None:
            parsed = parse_transcript(message)
            if parsed is not None and not isinstance(parsed, Progress):
                texts.put_nowait(parsed)

        runtime = self._runtime
        subject = f"{runtime.settings.transcript_subject_prefix}.{self.id}.*"
        async with runtime.jobs.watch(self.id, _ignore) as watch:
            subscription = await runtime.connection.subscribe(subject, take)
            submitting = asyncio.create_task(self._submit(options))
            ended: asyncio.Task[JobRecord] | None = None
            try:
                await asyncio.shield(submitting)
                ended = asyncio.create_task(self._to_its_end(watch))
                yield None
                sent = ""
                async for text in _deltas(texts, ended):
                    if options.speakers is None:
                        sent += text
                        yield delta(text)
                await ended
            finally:
                # A client that leaves cancels each wait in here.
                await to_its_end(self._leave(submitting, ended, subscription))
        whole = parse_verbose(await self._fetch("json"), segments=options.has_segments)
        text = whole["text"]
        if options.speakers is not None:
            for segment in speaker_segments(whole):
                yield segment
        elif text.startswith(sent) and len(text) > len(sent):  # the broker was away meanwhile
            yield delta(text[len(sent) :])
        yield done(whole, options)

    async def _leave(
        self,
        submitting: "asyncio.Task[None]",
        ended: "asyncio.Task[JobRecord] | None",
        subscription: MessageSubscription,
    ) -> None:
        if ended is None or not ended.done():
            await cancel([ended] if ended else [])
            await self._abandon(submitting)
        await self._runtime.connection.unsubscribe(subscription)

    async def _abandon(self, submitting: "asyncio.Task[None]") -> None:
        """Cancel the job, once it is there: before, the daemon would know of none."""
        try:
            await submitting
        except RequestError:
            return
        except TranscriberError as error:  # it may be there
            log.debug("a job is cancelled that was not confirmed: %s", error)
        if self._runtime.connection.connected:  # else who waits for the answer would wait for the broker
            with suppress(TranscriberError):
                await self._runtime.jobs.cancel(self.id, by=self._key.submitter)

    async def _submit(self, options: SpeechOptions) -> None:
        submission = Submission(
            job=self.id,
            object=self._object,
            language=options.language,
            task=options.task,
            prompt=options.prompt,
            speakers=options.speakers,
            by=self._key.submitter,
        )
        await self._runtime.jobs.submit(submission, urgent=True, traceparent=self._traceparent)
        self._runtime.figures.jobs += 1

    async def _to_its_end(self, watch: JobWatch) -> JobRecord:
        record = await watch.record()
        if record.state != "done":
            await to_its_end(self.discard())  # else two uploads of rubbish would fill the bucket for days
            raise ApiError(422, record.line, param="file", code=f"job_{record.state}")
        return record

    async def _fetch(self, form: str) -> bytes:
        return b"".join([piece async for piece in self._runtime.jobs.result(self.id, form)])

    async def _limited(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        left_bytes = self._runtime.settings.file_max_bytes
        async for piece in pieces:
            left_bytes -= len(piece)
            if left_bytes < 0:
                most = self._runtime.settings.file_max_bytes
                raise ApiError(413, f"a file may have {most} bytes", param="file")
            yield piece


async def _deltas(texts: "asyncio.Queue[AnyMessage]", ended: "asyncio.Task[Any]") -> AsyncIterator[str]:
    """Pieces of running text, in the order of time, until the job has ended and all that came is given."""
    phrases, begun = PhraseQueue(split=False), False
    while not (ended.done() and texts.empty()):
        if texts.empty():
            coming = asyncio.create_task(texts.get())
            await asyncio.wait({coming, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                coming.cancel()
                continue
            message = coming.result()
        else:
            message = texts.get_nowait()
        for phrase in phrases.add(message):
            if phrase.text:
                yield (phrase.joint if begun else "") + phrase.text
                begun = True


async def guarded(events: AsyncGenerator[dict[str, Any] | None, None]) -> AsyncGenerator[dict[str, Any], None]:
    """The events, and an error as the last one: the status is sent already."""
    try:
        async with aclosing(events):
            async for event in events:
                if event is not None:
                    yield event
    except TranscriberError as error:
        yield as_api_error(error).body


def _ignore(*_: object) -> None:
    """Nobody asks for the progress here."""
