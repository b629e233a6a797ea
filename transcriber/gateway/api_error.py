"""Errors of the HTTP interface, in OpenAI's form."""

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from transcriber.errors import TranscriberError


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


async def answer_with_error(_: Request, error: Exception) -> Response:
    """Starlette's handler of ``ApiError``."""
    assert isinstance(error, ApiError)
    return JSONResponse(error.body, error.status, error.headers)
