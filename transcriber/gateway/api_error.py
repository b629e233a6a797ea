"""Errors of the HTTP interface, in OpenAI's form."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import cast

from starlette.exceptions import HTTPException
from starlette.requests import Request
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
        super().__init__(message)
        self.status, self.param, self.code, self.headers = status, param, code, dict(headers or {})

    @property
    def body(self) -> dict[str, object]:
        """``{"error": {message, type, param, code}}``."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"  # noqa: PLR2004 - HTTP's
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


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


async def answer_with_error(_: Request, error: Exception) -> Response:
    """Starlette's handler of every ``TranscriberError``; of a WebSocket, before it is accepted."""
    of_api = as_api_error(cast("TranscriberError", error))
    return JSONResponse(of_api.body, of_api.status, of_api.headers)


async def answer_with_status(_: Request, error: Exception) -> Response:
    """Starlette's handler of its own 404 and 405."""
    refused = cast("HTTPException", error)
    return JSONResponse(ApiError(refused.status_code, refused.detail).body, refused.status_code, refused.headers)


async def answer_with_crash(_: Request, __: Exception) -> Response:
    """Starlette's handler of what is an error of ours; it is logged elsewhere."""
    return JSONResponse(ApiError(500, "an error of ours").body, 500)
