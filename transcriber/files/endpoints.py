"""Handlers for submit and cancel. In: the payload of a request. Out: that of its answer, or an error with its code."""

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from transcriber.errors import ObjectError, RefusedError, RequestError, UnansweredError
from transcriber.files.job_store import JobStore, first_line
from transcriber.schema.file_jobs import Answer, Cancellation, Submission

log = logging.getLogger(__name__)

MAX_OPEN = 64
"""Requests at a time: each waits for the broker, with as much as a message may hold."""

_Model = TypeVar("_Model", bound=BaseModel)


class JobEndpoints:
    """Event loop only."""

    def __init__(self, jobs: JobStore) -> None:
        self._jobs = jobs
        self._open = 0

    async def to_submission(self, data: bytes) -> bytes:
        """The answer to ``transcriber.submit``.

        Raises:
            RequestError: 400, 404, 409, 413, 429, 500 or 503.
        """
        return await self._answer(data, Submission, self._jobs.submit)

    async def to_cancellation(self, data: bytes) -> bytes:
        """The answer to ``transcriber.cancel``.

        Raises:
            RequestError: 400, 404, 429, 500 or 503.
        """
        return await self._answer(data, Cancellation, lambda cancellation: self._jobs.cancel(cancellation.job))

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
