"""A file becomes text, and its text becomes results.

In: the record of a job. Out: text on ``transcripts.<job>.*``, and documents in a bucket.
"""

import logging
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from transcriber.audio.media.pieces import Media
from transcriber.bus.jetstream.certainty import confirm_leader, surely
from transcriber.bus.jetstream.client import JetStream
from transcriber.bus.object_store.blocking_source import BlockingSource
from transcriber.bus.object_store.bucket import Bucket
from transcriber.bus.object_store.reader import ObjectReader
from transcriber.engine.job import unsupported_reason
from transcriber.errors import ObjectError, TextGoneError, UnfitError
from transcriber.files.diarize import labelled
from transcriber.files.job_store import JobStore
from transcriber.files.payloads import FilePayloads, first_frame
from transcriber.files.progress import FileProgress
from transcriber.files.results import Messages, Whole, check_whole, stored_messages, write_results
from transcriber.files.text_stage import TextStage
from transcriber.pipeline.decoder_pool import open_file
from transcriber.pipeline.runtime import Runtime
from transcriber.schema.checkpoint import Checkpoint

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FileRuntime:
    """What all files of a daemon share."""

    jetstream: JetStream
    jobs: JobStore
    inputs: Bucket
    results: Bucket
    runtime: Runtime


class FileTranscription:
    """Event loop only."""

    def __init__(self, shared: FileRuntime, text: TextStage, progress: FileProgress, runtime: Runtime) -> None:
        """``runtime`` has the settings of this file; ``progress`` is given its length."""
        self._shared, self._text, self._progress, self._runtime = shared, text, progress, runtime
        self._payloads: FilePayloads | None = None

    async def run(self) -> dict[str, Any] | None:
        """The text and the results; returns fields of the record, None if it was stopped before the text was complete.

        Raises:
            UnfitError: the model here cannot do it. MediaError, ObjectError, TextGoneError.
            FencedError: another daemon has stored text of it.
            UnansweredError, RefusedError: it cannot be read or stored.
        """
        submission = self._progress.record.submission
        # The model of the daemon that accepted the job may have been able to.
        if lack := unsupported_reason(
            self._runtime.model, submission.language, submission.task, self._runtime.settings.languages
        ):
            raise UnfitError(lack)
        if checkpoint := await self._text.checkpoint():
            async with AsyncExitStack() as stack:
                if not await self._text.run(checkpoint, await self._open(stack, checkpoint)):
                    return None
        messages = stored = stored_messages(self._shared.jetstream, self._runtime.settings, submission.job)
        whole = await self._check_whole(stored)
        if (submission.speakers or self._shared.runtime.settings.speakers) == "voices":
            async with AsyncExitStack() as stack:
                messages = await labelled(messages, await self._source(stack))
        results = await write_results(self._shared.results, submission, messages)
        await self._check_whole(stored)  # none of it was removed meanwhile
        return {
            "results": results,
            "suppressed": whole.suppressed,
            "done_s": whole.end.duration,
            "total_s": whole.end.duration,
            "eta_s": 0.0,
            "error": self._missing(whole),
        }

    async def _check_whole(self, stored: Messages) -> Whole:
        """As ``check_whole``; that text is gone must be certain."""
        try:
            return await check_whole(stored)
        except TextGoneError:
            if not await confirm_leader(self._shared.jetstream, self._runtime.settings.transcript_stream):
                raise
            return await check_whole(stored)

    def _missing(self, whole: Whole) -> str | None:
        """Why a file could not be read to its end, or not all of it, by this daemon or another."""
        if self._payloads and self._payloads.error:
            return str(self._payloads.error)
        return f"{whole.unread_s:.2f} s of it could not be read" if whole.unread_s else whole.unread

    async def _open(self, stack: AsyncExitStack, checkpoint: Checkpoint) -> FilePayloads:
        """The audio, from ``checkpoint``; ``stack`` closes it."""
        file = await stack.enter_async_context(open_file(await self._source(stack), first_frame(checkpoint)))
        media = file.media
        stack.callback(_log_noticed, media, self._progress.record.submission.job)
        self._progress.set_length(media.frames, media.format.rate)
        self._payloads = FilePayloads(media.format, media.frames, file.pieces, self._progress.record, checkpoint)
        return self._payloads

    async def _source(self, stack: AsyncExitStack) -> BlockingSource:
        """The bytes, which ``stack`` closes."""
        name, bucket = self._progress.record.submission.object, self._shared.inputs
        info = await surely(bucket.jetstream, bucket.stream, partial(bucket.info, name))
        if info is None:
            raise ObjectError(f"{name!r} is no longer in the bucket {bucket.name}")
        if info.digest != self._progress.record.digest:
            raise ObjectError(f"{name!r} was replaced after it was submitted")
        reader = ObjectReader(bucket, info, certain=True)
        source = BlockingSource(reader)
        stack.push_async_callback(reader.close)
        stack.callback(source.close)
        return source


def _log_noticed(media: Media, job: str) -> None:
    """Warn of what is odd in a file of more than two channels; of two, the output of the stream warns."""
    if odd := media.mix_report.warning(media.format.rate):
        log.warning(odd, extra={"job": job})
