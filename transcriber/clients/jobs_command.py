"""The command ``jobs``. In: the records of jobs. Out: a table of them, one record, its result, or its cancellation."""

import sys
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from transcriber.bus.client_session import connected
from transcriber.clients.jobs_api import Jobs
from transcriber.clients.transcribe import fetch, submitter, suppressed_text
from transcriber.config import Settings, mask
from transcriber.errors import ConfigError, ObjectError, RefusedError, RequestError, UnansweredError
from transcriber.schema.file_jobs import JobRecord, file_name, is_job_id
from transcriber.schema.messages import JobState
from transcriber.terminal.output_files import output_paths, reader_may_leave
from transcriber.text.captions import clock
from transcriber.text.phrases import clean
from transcriber.text.results import Form

COLUMNS = ("job", "state", "file", "done", "left", "by", "submitted")

_REPORTED = (RequestError, UnansweredError, RefusedError, ObjectError)


async def show_jobs(
    settings: Settings, job: str | None, *, state: JobState | None = None, as_json: bool = False
) -> int:
    """List all jobs, or those of one state; or show one.

    Returns:
        Exit status: 1 if there is no such job, or the records cannot be read.

    Raises:
        StartError: a wrong id, no broker, or no stream of records.
    """

    async def show(jobs: Jobs) -> None:
        if job is None:
            found = [record for record in await jobs.records() if state in {None, record.state}]
        else:
            found = [await _record(jobs, job)]
        with reader_may_leave():
            if as_json:
                sys.stdout.writelines(f"{record.model_dump_json()}\n" for record in found)
            elif job is None:
                _list(found)
            else:
                sys.stdout.writelines(_details(found[0]))
            sys.stdout.flush()

    return await _with_jobs(settings, job, show)


async def cancel_job(settings: Settings, job: str) -> int:
    """Cancel a job, and print its state."""

    async def cancel(jobs: Jobs) -> None:
        answer = await jobs.cancel(job, by=submitter())
        sys.stdout.write(f"{answer.job} {answer.state}\n")

    return await _with_jobs(settings, job, cancel)


async def get_result(settings: Settings, job: str, form: Form, output: Path | None) -> int:
    """Write the result of a finished job to stdout or a file; in a directory, under the job's id."""

    async def get(jobs: Jobs) -> None:
        record = await _record(jobs, job)
        if record.state != "done":
            raise ObjectError(record.line)
        await fetch(jobs, job, form, place)
        if record.suppressed:
            sys.stderr.write(f"transcriber: {job}: {suppressed_text(record.suppressed)}\n")
        if record.error:
            raise ObjectError(record.error)

    (place,) = output_paths([Path(job)], output, form)
    return await _with_jobs(settings, job, get)


async def _with_jobs(settings: Settings, job: str | None, do: Callable[[Jobs], Awaitable[None]]) -> int:
    """Returns the exit status."""
    if job is not None and not is_job_id(job):
        raise ConfigError(f"ID={job!r}: must be job= and then [A-Za-z0-9_-], at most 60")
    async with connected(settings, "transcriber jobs") as connection:
        try:
            await do(Jobs(connection, settings))
        except _REPORTED as error:
            sys.stderr.write(f"transcriber: {clean(mask(str(error)))}\n")
            return 1
    return 0


async def _record(jobs: Jobs, job: str) -> JobRecord:
    record = await jobs.record(job)
    if record is None:
        raise ObjectError(f"there is no {job}, or no longer")
    return record


def _list(records: Iterable[JobRecord]) -> None:
    """On a terminal a table, elsewhere tab-separated columns."""
    rows = map(_row, records)
    # Not Console.is_terminal: FORCE_COLOR in the environment makes a pipe one.
    if not sys.stdout.isatty():
        sys.stdout.writelines("\t".join(row) + "\n" for row in rows)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in COLUMNS:
        table.add_column(column, no_wrap=column == "job", overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(highlight=False, markup=False).print(table)


def _row(record: JobRecord) -> tuple[str, ...]:
    of = "" if record.total_s is None else f"/{clock(record.total_s)}"
    running = record.state == "running" and record.eta_s is not None
    return (
        record.submission.job,
        record.state,
        clean(file_name(record.submission.object)),
        f"{clock(record.done_s)}{of}",
        clock(record.eta_s or 0) if running else "-",
        clean(record.submission.by) or "-",
        _local(record.submitted_at),
    )


def _details(record: JobRecord) -> Iterable[str]:
    """A line for each field of the submission and the record."""
    suppressed = [f"{clock(one.start)}-{clock(one.end)} {one.reason}" for one in record.suppressed]
    fields = {
        **record.submission.model_dump(),
        **record.model_dump(exclude={"submission"}),
        "suppressed": tuple(suppressed),
    }
    width = max(map(len, fields)) + 2
    for name, value in fields.items():
        match value:
            case None | "" | ():
                text = "-"
            case datetime():
                text = _local(value)
            case tuple():
                text = " ".join(map(clean, value))
            case float():
                text = f"{value:.1f}"
            case _:
                text = clean(str(value))
        yield f"{name:{width}}{text}\n"


def _local(time: datetime) -> str:
    return time.astimezone().isoformat(" ", "seconds")
