"""What a file is made into: its text, and of that its results.

In: the record of a job, which says what is wanted. Out: text on ``transcripts.<job>.*``, and documents in a bucket.
"""

import logging
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from transcriber.audio.media.pieces import Media
from transcriber.bus.jetstream.client import JetStream
from transcriber.bus.object_store.blocking_source import BlockingSource
from transcriber.bus.object_store.bucket import Bucket
from transcriber.bus.object_store.reader import ObjectReader
from transcriber.engine.job import unsupported_reason
from transcriber.errors import ObjectError, UnfitError
from transcriber.files.diarize import labelled
from transcriber.files.job_store import JobStore
from transcriber.files.payloads import FilePayloads, first_frame
from transcriber.files.progress import FileProgress
from transcriber.files.results import Whole, check_whole, stored_messages, write_results
from transcriber.files.text_stage import TextStage
from transcriber.pipeline.decoder_pool import open_file
from transcriber.pipeline.runtime import Runtime
from transcriber.schema.checkpoint import Checkpoint

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FileRuntime:
    """What all files of a daemon share."""

    jetstream: JetStream
    desk: JobStore
    inputs: Bucket
    results: Bucket
    runtime: Runtime


class FileTranscription:
    """Event loop only."""

    def __init__(self, room: FileRuntime, text: TextStage, state: FileProgress, runtime: Runtime) -> None:
        """``runtime`` has the settings of this file; ``state`` learns how long it is."""
        self._room, self._text, self._state, self._runtime = room, text, state, runtime
        self._feed: FilePayloads | None = None

    async def make(self) -> dict[str, Any] | None:
        """The text and the results; returns what the record is to say, None if it was stopped before the text was whole.

        Raises:
            UnfitError: our model cannot do it. MediaError, ObjectError, TextGoneError.
            FencedError: another daemon has stored text of it.
            UnansweredError, RefusedError: it cannot be read, or not be stored.
        """
        submission = self._state.record.submission
        # Another daemon's model may have been able to.
        if lack := unsupported_reason(
            self._runtime.model, submission.language, submission.task, self._runtime.settings.languages
        ):
            raise UnfitError(lack)
        async with AsyncExitStack() as stack:
            if not await self._text.run(partial(self._read, stack)):
                return None
        messages = stored = stored_messages(self._room.jetstream, self._runtime.settings, submission.job)
        whole = await check_whole(stored)
        account = whole.account
        if submission.speakers == "voices":
            async with AsyncExitStack() as stack:
                messages = await labelled(messages, await self._source(stack))
        results = await write_results(self._room.results, submission, messages)
        await check_whole(stored)  # none of it went meanwhile
        return {
            "results": results,
            "suppressed": whole.suppressed,
            "done_s": account.duration,
            "total_s": account.duration,
            "eta_s": 0.0,
            "error": self._missing(whole),
        }

    def _missing(self, whole: Whole) -> str | None:
        """What is to be said of a file that could not be read to its end, or not all of it; another daemon may have tried."""
        if self._feed and self._feed.error:
            return str(self._feed.error)
        return f"{whole.unread_s:.2f} s of it could not be read" if whole.unread_s else whole.unread

    async def _read(self, stack: AsyncExitStack, found: Checkpoint) -> FilePayloads:
        """The audio, from where ``found`` stands; ``stack`` closes it."""
        file = await stack.enter_async_context(open_file(await self._source(stack), first_frame(found)))
        media = file.media
        stack.callback(_warn_of_opposed, media, self._state.record.submission.job)
        self._state.learn(media.frames, media.format.rate)
        record = self._state.record
        self._feed = FilePayloads(
            record.submission.job, media.format, media.frames, file.pieces, record.submitted_at, found
        )
        return self._feed

    async def _source(self, stack: AsyncExitStack) -> BlockingSource:
        """The bytes, which ``stack`` closes."""
        name, bucket = self._state.record.submission.object, self._room.inputs
        info = await bucket.info(name)
        if info is None:
            raise ObjectError(f"{name!r} is no longer in the bucket {bucket.name}")
        if info.digest != self._state.record.digest:
            raise ObjectError(f"{name!r} was replaced after it was submitted")
        reader = ObjectReader(bucket, info)
        source = BlockingSource(reader)
        stack.push_async_callback(reader.close)
        stack.callback(source.close)
        return source


def _warn_of_opposed(media: Media, job: str) -> None:
    """What showed in a file of more than two channels; what shows in two, the report of the stream tells."""
    if odd := media.mix_report.warning(media.format.rate):
        log.warning(odd, extra={"job": job})
