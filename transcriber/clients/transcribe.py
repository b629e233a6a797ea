"""The command ``transcribe``. In: audio files. Out: their text, one after the other.

A file is sent as one request; one that is too large or too long for that, or with ``store``, goes through the object store, as a
job. An error in one file is one line, and the others are still transcribed.
"""

import asyncio
import getpass
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from nats.aio.msg import Msg
from pydantic import TypeAdapter, ValidationError

from transcriber.bus.client_session import connected
from transcriber.bus.connection import Connection
from transcriber.clients.audio_input import FileBytes, open_bytes
from transcriber.clients.jobs_api import Jobs, JobWatch
from transcriber.clients.service_client import call_service
from transcriber.config import Settings, mask
from transcriber.errors import ObjectError, RequestError, TranscriberError, UnansweredError
from transcriber.schema.file_jobs import JobRecord, Submission, new_job_id, new_object_name
from transcriber.schema.messages import HeldBack, JobState, Untranscribed
from transcriber.schema.subjects import REQUEST_SUBJECT
from transcriber.terminal.output_files import (
    SUFFIXES,
    chain_pieces,
    display_name,
    output_paths,
    reader_may_leave,
    single_piece,
    write,
)
from transcriber.terminal.progress_bar import progress_bar, stderr_console
from transcriber.text.captions import clock
from transcriber.text.phrases import clean
from transcriber.text.results import Form

_Listed = TypeVar("_Listed")

REQUEST_S = 60.0
"""For the answer to a request, retries included."""

TOO_LARGE = 413

MAX_LISTED = 5
"""Ranges listed in a line."""

_MB = 1e6
_HELD_BACK = TypeAdapter(list[HeldBack])
_UNTRANSCRIBED = TypeAdapter(list[Untranscribed])


@dataclass(frozen=True, slots=True)
class TranscribeOptions:
    """Options for all files of a command.

    Attributes:
        submission: a template; job and object are replaced for each file.
        form: of the results.
        store: submit a job without trying a request.
        detach: submit the job and do not wait for it.
        urgent: run the job before others.
        timeout_s: for a file; None is a minute for a request, and no limit for a job.
    """

    submission: Submission
    form: Form = "text"
    store: bool = False
    detach: bool = False
    urgent: bool = False
    timeout_s: float | None = None


class _FailedError(TranscriberError):
    """A job was accepted and gave no text, or not all of it; the message says what is missing, or what happens to the job."""


async def transcribe_files(
    settings: Settings, files: list[Path | None], output: Path | None, wanted: TranscribeOptions
) -> int:
    """The command ``transcribe``; None is stdin.

    Returns:
        Exit status: 1 if any of them failed.

    Raises:
        StartError: a wrong name, or no broker.
    """
    where = output_paths(files, output, wanted.form)
    failed = 0
    with reader_may_leave():
        async with connected(settings, "transcriber transcribe") as connection:
            transcriber = _FileTranscriber(connection, settings, wanted, several=len(files) > 1)
            for file, place in zip(files, where, strict=True):
                failed += not await transcriber.try_file(file, place)
    return 1 if failed else 0


def submitter() -> str:
    """User and host, for the job's record."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


async def json_text(pieces: AsyncIterator[bytes]) -> bytes:
    """A ``verbose_json`` result as ``json``."""
    data = b"".join([piece async for piece in pieces])
    try:
        whole = json.loads(data)
        suppressed = {"suppressed": held} if (held := whole.get("suppressed")) else {}
        return json.dumps({"text": whole["text"], **suppressed}, ensure_ascii=False).encode()
    except (ValueError, LookupError, TypeError, AttributeError):
        raise ObjectError("the result cannot be read") from None


async def fetch(jobs: Jobs, job: str, form: Form, place: Path | None, *, head: str = "") -> None:
    """Write a result of a finished job.

    Raises:
        As ``Jobs.result`` and ``write``.
    """
    async with aclosing(jobs.result(job, SUFFIXES[form])) as pieces:
        await write(single_piece(await json_text(pieces)) if form == "json" else pieces, place, head=head)


class _FileTranscriber:
    """Transcribes files one after the other over one connection. Event loop only."""

    def __init__(self, connection: Connection, settings: Settings, wanted: TranscribeOptions, *, several: bool) -> None:
        self._connection, self._wanted, self._several = connection, wanted, several
        self._jobs = Jobs(connection, settings)
        self._notes = stderr_console()
        task = wanted.submission
        headers = {
            "Response-Format": wanted.form,
            "Language": task.language,
            "Task": task.task,
            "Prompt": task.prompt,
        }
        self._headers = {name: value for name, value in headers.items() if value}
        self._room = connection.room(self._headers)

    async def try_file(self, file: Path | None, place: Path | None) -> bool:
        """Transcribe a file; False if that failed, which is then reported."""
        try:
            async with open_bytes(file) as source:
                await self._do(source, file, place)
        except BrokenPipeError:
            raise
        except (TranscriberError, ConnectionError) as error:
            self._notes.print(f"transcriber: {display_name(file)}: {clean(mask(str(error)))}")
            return False
        return True

    async def _do(self, source: FileBytes, file: Path | None, place: Path | None) -> None:
        head: list[bytes] = []
        why = ""
        if not self._wanted.store:
            head, whole = await self._read(source)
            why = "too long" if whole else "too large"
            answer = await self._request(b"".join(head)) if whole else None
            if answer is not None:
                await write(single_piece(answer.data), place, head=self._head(file))
                self._note_suppressed(file, _listed(answer, "Suppressed", _HELD_BACK))
                if gaps := _listed(answer, "Gaps", _UNTRANSCRIBED):
                    raise _FailedError(_ranges_text("not transcribed", gaps))
                return
        try:
            await self._jobs.check(urgent=self._wanted.urgent)
        except TranscriberError as error:
            raise _FailedError(f"{why} for a request, and {error}" if why else str(error)) from None
        await self._job(FileBytes(source.size, chain_pieces(head, source.pieces)), file, place)

    async def _read(self, source: FileBytes) -> tuple[list[bytes], bool]:
        """Up to the size of a request, and whether that is the whole file."""
        head: list[bytes] = []
        if (source.size or 0) > self._room:
            return head, False
        read_bytes = 0
        async for piece in source.pieces:
            head.append(piece)
            read_bytes += len(piece)
            if read_bytes > self._room:
                return head, False
        return head, True

    async def _request(self, data: bytes) -> Msg | None:
        """The answer; None if the audio is too long for a request."""
        try:
            return await call_service(
                self._connection,
                REQUEST_SUBJECT,
                data,
                self._wanted.timeout_s or REQUEST_S,
                setting="SERVICE",
                headers=self._headers,
            )
        except RequestError as error:
            if error.code == TOO_LARGE:
                return None
            raise

    async def _job(self, source: FileBytes, file: Path | None, place: Path | None) -> None:
        name = display_name(file and Path(file.name))
        submission = self._wanted.submission.model_copy(
            update={"job": new_job_id(), "object": new_object_name(name), "by": submitter()}
        )
        job = submission.job
        with progress_bar(self._notes) as draw:

            def stored(sent_bytes: int) -> None:
                of = "" if source.size is None else f" of {source.size / _MB:.0f}"
                draw(f"{name}: {sent_bytes / _MB:.0f}{of} MB stored", sent_bytes, source.size)

            def on_progress(state: JobState, done_s: float, total_s: float | None, eta_s: float | None) -> None:
                draw(f"{name}: {progress_text(state, done_s, total_s, eta_s)}", done_s, total_s)

            async with self._jobs.watch(job, on_progress) as watch:
                await self._jobs.upload(submission.object, source.pieces, stored)
                record = await self._submit(submission, watch, file)
        if record is None:
            sys.stdout.write(f"{job}  {display_name(file)}\n" if self._several else f"{job}\n")
            sys.stdout.flush()
            return
        if record.state != "done":
            raise _FailedError(record.line)
        await fetch(self._jobs, job, self._wanted.form, place, head=self._head(file))
        self._note_suppressed(file, record.suppressed)
        if record.error:
            raise _FailedError(record.error)

    def _note_suppressed(self, file: Path | None, suppressed: Sequence[HeldBack]) -> None:
        """Report text that was held back; an empty result would look like silence."""
        if suppressed:
            self._notes.print(f"transcriber: {display_name(file)}: {suppressed_text(suppressed)}")

    async def _submit(self, submission: Submission, watch: JobWatch, file: Path | None) -> JobRecord | None:
        """Submit a job and wait until it has ended; None with ``detach``."""
        job = submission.job
        try:
            await self._jobs.submit(submission, urgent=self._wanted.urgent)
            if self._wanted.detach:
                return None
            async with asyncio.timeout(self._wanted.timeout_s):
                return await watch.record()
        except UnansweredError as error:
            raise _FailedError(f"{error}; it may have been accepted: transcriber jobs {job}") from None
        except TimeoutError:
            raise _FailedError(f"not done within {self._wanted.timeout_s:g} s; {_still_runs(job)}") from None
        except (asyncio.CancelledError, ConnectionError):
            self._notes.print(f"transcriber: {display_name(file)}: {_still_runs(job)}")
            raise

    def _head(self, file: Path | None) -> str:
        """The heading of a text, where there are several."""
        return f"==> {display_name(file)} <==\n" if self._several and self._wanted.form == "text" else ""


def progress_text(state: JobState, done_s: float, total_s: float | None, eta_s: float | None) -> str:
    """The progress of a job.

    >>> progress_text("queued", 0, None, None), progress_text("running", 75, 3675, 240)
    ('queued', '01:15 of 1:01:15, 04:00 left')
    """
    if state != "running":
        return state
    of = "" if total_s is None else f" of {clock(total_s)}"
    return f"{clock(done_s)}{of}" + ("" if eta_s is None else f", {clock(eta_s)} left")


def suppressed_text(suppressed: Sequence[HeldBack]) -> str:
    """The text that was held back, in a line.

    >>> suppressed_text([HeldBack(start=0, end=5, reason="repetition"), HeldBack(start=70, end=75, reason="rate")])
    'text held back: 00:00-00:05 repetition, 01:10-01:15 rate'
    """
    return _ranges_text("text held back", suppressed)


def _ranges_text(what: str, ranges: Sequence[HeldBack | Untranscribed]) -> str:
    some = ", ".join(f"{clock(one.start)}-{clock(one.end)} {one.reason}" for one in ranges[:MAX_LISTED])
    return f"{what}: {some}{' and more' if len(ranges) > MAX_LISTED else ''}"


def _listed(answer: Msg, header: str, of: TypeAdapter[list[_Listed]]) -> list[_Listed]:
    """A list in a header of a daemon; empty, if it cannot be read."""
    try:
        return of.validate_json((answer.headers or {}).get(header, "[]"))
    except ValidationError:
        return []


def _still_runs(job: str) -> str:
    return (
        f"{job} continues; `transcriber jobs --cancel {job}` stops it, `transcriber jobs --get {job}` fetches its text"
    )
