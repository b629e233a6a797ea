"""Who asks for a job, or for its end, is answered. In: the payload of a request. Out: that of its answer, or an error with its code."""

import logging
from collections.abc import Awaitable
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from transcriber.bus.jobs import JobDesk, first_line
from transcriber.errors import ObjectError, RefusedError, RequestError, UnansweredError
from transcriber.jobs import Answer, Cancellation, Submission

log = logging.getLogger(__name__)

_Model = TypeVar("_Model", bound=BaseModel)


async def answer_submission(desk: JobDesk, data: bytes) -> bytes:
    """What ``transcriber.submit`` answers.

    Raises:
        RequestError: 400, 404, 409, 413, 429, 500 or 503.
    """
    return await _answered(desk.submit(_parse(Submission, data)))


async def answer_cancellation(desk: JobDesk, data: bytes) -> bytes:
    """What ``transcriber.cancel`` answers.

    Raises:
        RequestError: 400, 404, 500 or 503.
    """
    return await _answered(desk.cancel(_parse(Cancellation, data).job))


def _parse(kind: type[_Model], data: bytes) -> _Model:
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        raise RequestError(400, first_line(error)) from None


async def _answered(answer: Awaitable[Answer]) -> bytes:
    try:
        return (await answer).model_dump_json().encode()
    except ObjectError as error:
        raise RequestError(400, str(error)) from None
    except UnansweredError as error:
        raise RequestError(503, f"ask again: {error}") from None
    except RefusedError as error:
        log.error("the broker refuses what a job needs: %s", error)  # noqa: TRY400 - where in our code tells nothing more
        raise RequestError(500, f"the broker refuses: {error}") from None
