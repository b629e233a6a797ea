"""Handlers for submit and cancel. In: a request. Out: the payload of its answer, or an error with its code."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from transcriber.audio.headers import parse_headers
from transcriber.bus.audit import AuditLog
from transcriber.errors import ObjectError, RefusedError, RequestError, UnansweredError
from transcriber.files.job_store import JobStore
from transcriber.schema.audit import REQUESTED_BY, AuditEvent
from transcriber.schema.base import first_line
from transcriber.schema.file_jobs import Answer, Cancellation, Submission
from transcriber.telemetry import valid_traceparent

log = logging.getLogger(__name__)

MAX_OPEN = 64
"""Requests at a time: each waits for the broker, with as much as a message may hold."""

_Model = TypeVar("_Model", bound=BaseModel)


class JobEndpoints:
    """Event loop only."""

    def __init__(self, jobs: JobStore, audit: AuditLog | None = None) -> None:
        """What is to be done is in the ``audit`` before it is, if there is one."""
        self._jobs, self._audit = jobs, audit
        self._open = 0

    async def to_submission(
        self, data: bytes, headers: Mapping[str, str] | None = None, *, urgent: bool = False
    ) -> bytes:
        """The answer to ``transcriber.submit``, or, if ``urgent``, to ``transcriber.submit.urgent``.

        Raises:
            RequestError: 400, 404, 409, 413, 429, 500 or 503.
        """
        parent = parse_headers(headers).traceparent
        traceparent = parent if parent and valid_traceparent(parent) else None

        async def submit(submission: Submission) -> Answer:
            first = partial(self._on_record, "submitted", submission.by, submission.job)
            return await self._jobs.submit(submission, urgent=urgent, traceparent=traceparent, first=first)

        return await self._answer(data, Submission, submit)

    async def to_cancellation(self, data: bytes, headers: Mapping[str, str] | None = None) -> bytes:
        """The answer to ``transcriber.cancel``.

        Raises:
            RequestError: 400, 404, 429, 500 or 503.
        """
        by = (headers or {}).get(REQUESTED_BY, "")

        async def cancel(cancellation: Cancellation) -> Answer:
            job = cancellation.job
            return await self._jobs.cancel(job, partial(self._on_record, "cancelled", by, job))

        return await self._answer(data, Cancellation, cancel)

    async def _on_record(self, event: AuditEvent, by: str, job: str) -> None:
        if self._audit:
            await self._audit.write(event, by=by, job=job, key=job)

    async def _answer(self, data: bytes, kind: type[_Model], answer: Callable[[_Model], Awaitable[Answer]]) -> bytes:
        if self._open >= MAX_OPEN:
            raise RequestError(429, "too many requests at once", 1)
        self._open += 1
        try:
            return (await answer(kind.model_validate_json(data))).model_dump_json().encode()
        except ValidationError as error:
            raise RequestError(400, first_line(error)) from None
        except ObjectError as error:
            raise RequestError(400, str(error)) from None
        except UnansweredError as error:
            raise RequestError(503, f"retry: {error}") from None
        except RefusedError as error:
            log.error("the broker refuses what a job needs: %s", error)  # noqa: TRY400 - a traceback would say nothing more
            raise RequestError(500, f"the broker refuses: {error}") from None
        finally:
            self._open -= 1
