"""Errors of the HTTP interface, in OpenAI's form."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Literal, cast

from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response

from transcriber.errors import (
    BrokerError,
    JetStreamError,
    ObjectError,
    RequestError,
    TranscriberError,
    UnansweredError,
)

TOO_LATE = 504

REFUSALS: Mapping[int, str] = {
    400: "the request, a field of it or the audio cannot be read, or is not supported",
    401: "no valid key",
    403: "the key lacks a scope or a stream, or the page is another's",
    404: "no such path, model, session or job",
    405: "no such method",
    408: "no piece of the body for 30 s",
    409: "the job is not done, or the session is in another format",
    413: "the body, or the audio, is too large",
    415: "the body is no form",
    422: "the job failed",
    429: "a queue, or a limit of the key, is full",
    431: "the headers are too large",
    500: "an error of ours, or whisper failed",
    503: "no daemon, no broker, or too many connections",
    504: "no text within REQUEST_TIMEOUT_SECS",
}
"""Every status of an error, and why."""

CODES = (
    "dropped", "encoded_audio_is_live_only", "foreign_host", "foreign_origin", "format_changed", "invalid_api_key", "invalid_value",
    "job_cancelled", "job_failed", "missing_scope", "model_not_found", "not_done", "not_found", "not_stored",
    "rate_limit_exceeded", "session_used", "stopping", "stream_not_allowed", "too_many_connections", "unsupported_parameter",
)  # fmt: skip
"""Every ``code`` of an error."""


class ErrorDetail(BaseModel):
    """What is wrong."""

    model_config = ConfigDict(extra="forbid")

    message: str = Field(description="one line, for people")
    type: Literal["invalid_request_error", "server_error"]
    param: str | None = Field(description="the field at fault, if one is")
    code: str | None = Field(description="for programs", examples=[*CODES])


class ErrorBody(BaseModel):
    """The body of every error, as OpenAI's clients read it."""

    model_config = ConfigDict(extra="forbid")

    error: ErrorDetail


class ApiError(TranscriberError):
    """A request is refused or failed.

    Attributes:
        status: HTTP status.
        param: the field at fault, if one is.
        code: for programs, such as ``unsupported_parameter``.
        headers: of the response, such as ``Retry-After``.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__("".join(char if char.isprintable() else "?" for char in message))
        self.status, self.param, self.code, self.headers = status, param, code, dict(headers or {})

    @property
    def body(self) -> dict[str, object]:
        """``{"error": {message, type, param, code}}``."""
        detail = ErrorDetail(
            message=str(self),
            type="invalid_request_error" if self.status < 500 else "server_error",  # noqa: PLR2004 - HTTP's
            param=self.param,
            code=self.code,
        )
        return ErrorBody(error=detail).model_dump()

    @property
    def raw(self) -> bytes:
        """A whole answer, after which the connection is closed: where there is no ASGI request yet."""
        body = json.dumps(self.body).encode()
        head = (
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + body


def as_api_error(error: TranscriberError) -> ApiError:
    """What a failure of NATS or of the daemons is to a client of ours."""
    match error:
        case ApiError():
            return error
        case RequestError():
            headers = {"Retry-After": str(error.retry_after_s)} if error.retry_after_s else {}
            if error.code == TOO_LATE:  # SDKs repeat a 504, and the clip would run again
                headers["x-should-retry"] = "false"
            known = HTTPStatus.BAD_REQUEST <= error.code < 600  # noqa: PLR2004 - HTTP's
            return ApiError(error.code if known else 500, str(error), headers=headers)
        case UnansweredError() | JetStreamError() | BrokerError():
            return ApiError(503, str(error))
        case ObjectError():
            return ApiError(404, str(error))
        case _:
            return ApiError(500, str(error))


def note(connection: HTTPConnection, error: ApiError) -> None:
    """Leave the error's code where the request's account finds it."""
    connection.scope.setdefault("state", {})["error_code"] = error.code


async def answer_with_error(request: Request, error: Exception) -> Response:
    """Starlette's handler of every ``TranscriberError``; of a WebSocket, before it is accepted."""
    of_api = as_api_error(cast("TranscriberError", error))
    note(request, of_api)
    return JSONResponse(of_api.body, of_api.status, of_api.headers)


async def answer_with_status(_: Request, error: Exception) -> Response:
    """Starlette's handler of its own 404 and 405."""
    refused = cast("HTTPException", error)
    return JSONResponse(ApiError(refused.status_code, refused.detail).body, refused.status_code, refused.headers)
