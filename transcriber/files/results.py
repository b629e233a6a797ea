"""The results of a file. In: its stored messages. Out: documents in a bucket, one of each form.

Messages are read while a document is written, so that memory does not grow with the file: once for each document.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

from transcriber.bus.jetstream.client import JetStream
from transcriber.bus.object_store.bucket import Bucket
from transcriber.config import Settings
from transcriber.errors import TextGoneError
from transcriber.schema.file_jobs import RESULT_FORMS, Submission
from transcriber.schema.messages import (
    ANY_MESSAGE,
    MAX_HELD_BACK,
    AnyMessage,
    End,
    Final,
    Gap,
    GapReason,
    HeldBack,
    Silence,
    Status,
    held_back,
    untranscribed,
)
from transcriber.text.results import Form, Result, writer

Messages = Callable[[], AsyncIterator[AnyMessage]]
"""All messages of a job, from the first on, each time it is called."""

_UNREAD: frozenset[GapReason] = frozenset({"lost_input", "bad_input"})
_FORMS: dict[str, Form] = {"json": "verbose_json", "srt": "srt", "vtt": "vtt", "txt": "text"}


def stored_messages(jetstream: JetStream, settings: Settings, job: str) -> Messages:
    """The stored messages of ``job``, read by pages."""
    subjects = f"{settings.transcript_subject_prefix}.{job}.*"

    async def messages() -> AsyncIterator[AnyMessage]:
        async for stored in jetstream.paged(settings.transcript_stream, subjects):
            yield ANY_MESSAGE.validate_json(stored.payload)

    return messages


def result_names(job: str) -> tuple[str, ...]:
    """The names of the objects with the results of ``job``."""
    return tuple(f"{job}.{form}" for form in RESULT_FORMS)


class Whole(NamedTuple):
    """A job whose text is complete.

    Attributes:
        end: its last message.
        suppressed: the first windows whose text was held back.
        unread_s: seconds of it that could not be read.
        unread: why something of unknown length could not be read; None if there is no such place.
    """

    end: End
    suppressed: tuple[HeldBack, ...]
    unread_s: float
    unread: str | None


async def check_whole(messages: Messages) -> Whole:
    """Check that every frame is in a message.

    Raises:
        TextGoneError: the stream's limits have removed some of it.
    """
    ranges: defaultdict[str | None, list[tuple[int, int]]] = defaultdict(list)
    first = end = None
    suppressed: list[HeldBack] = []
    unread_s, unread = 0.0, None
    async for message in messages():
        first = first or message
        if len(suppressed) < MAX_HELD_BACK and (held := held_back(message)):
            suppressed.append(held)
        if isinstance(message, Gap) and message.reason in _UNREAD and untranscribed(message):
            unread_s += message.duration
            unread = unread if message.frames else unread or message.detail
        match message:
            case Final() | Silence() | Gap():
                _tile(ranges[message.speaker], message.start_frame, message.frames)
            case End():
                end = message
    of_all = ranges.pop(None, [])
    # The oldest goes first; the frames alone do not show a speaker all of whose words are gone.
    begun = isinstance(first, Status) and first.state == "started"
    if end is None or not begun or any(_reached(of_all + own) != end.frames for own in (ranges.values() or ([],))):
        raise TextGoneError("some of its text is gone already: TRANSCRIPT_MAX_AGE_SECS, TRANSCRIPT_MAX_BYTES")
    return Whole(end, tuple(suppressed), unread_s, unread)


def _tile(ranges: list[tuple[int, int]], start: int, frames: int) -> None:
    """Add a range to others, most of which follow each other."""
    end = start + frames
    if ranges and ranges[-1][1] == start:
        start = ranges.pop()[0]
    ranges.append((start, end))


def _reached(ranges: list[tuple[int, int]]) -> int:
    """How far they reach from 0 without a hole; some lie within others: a short gap in the window that bridges it."""
    reached = 0
    for start, end in sorted(ranges):
        reached = max(reached, end) if start <= reached else reached
    return reached


async def write_results(bucket: Bucket, submission: Submission, messages: Messages) -> tuple[str, ...]:
    """Write every document; returns their names.

    Raises:
        UnansweredError, RefusedError.
    """
    names = result_names(submission.job)
    for name, suffix in zip(names, RESULT_FORMS, strict=True):
        await bucket.put(name, _document(_FORMS[suffix], submission, messages))
    return names


async def _document(form: Form, submission: Submission, messages: Messages) -> AsyncIterator[bytes]:
    document = writer(Result(form, submission.task, words=False))
    yield document.head.encode()
    async for message in messages():
        if text := document.add(message):
            yield text.encode()
    yield document.end().encode()
