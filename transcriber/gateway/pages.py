"""The page. In: GET of ``/`` or of one of its files. Out: that file, and nothing else from the disk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from transcriber.gateway.openapi.operation import Content, Parameter, answer, operation

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""What is served, by the end of its name."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self)",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
"""``no-cache``: asked for each time by its ETag, so that no browser runs modules of two versions."""


@dataclass(frozen=True, slots=True)
class WebFile:
    """A file of the page, in memory.

    Attributes:
        content: its bytes.
        headers: its type and ETag, and ``HEADERS``.
    """

    content: bytes
    headers: Mapping[str, str]


def _load(path: Path) -> WebFile:
    content = path.read_bytes()
    tag = f'"{sha256(content).hexdigest()[:32]}"'
    return WebFile(content, HEADERS | {"Content-Type": TYPES[path.suffix], "ETag": tag})


FILES: Mapping[str, WebFile] = {
    path.name: _load(path) for path in sorted((Path(__file__).parent / "web").iterdir()) if path.suffix in TYPES
}
"""By name; read once, so that no request names a path."""


_ANSWERS = {304: answer("the browser has it", ETag="of the file")}


@operation(
    "the page",
    tag="page",
    access="open",
    answers=_ANSWERS | {200: answer("HTML", {"text/html": Content({"type": "string"})}, ETag="of the file")},
    details="The page",
)
async def index(request: Request) -> Response:
    """``GET /``."""
    return _answer(request, "index.html")


@operation(
    "a file of the page",
    tag="page",
    access="open",
    parameters=(Parameter("name", "path", Literal[tuple(FILES)], "of the file"),),
    answers=_ANSWERS
    | {
        200: answer(
            "the file", {kind.partition(";")[0]: Content({"type": "string"}) for kind in TYPES.values()}, ETag="of it"
        ),
        404: answer("there is no such file"),
    },
)
async def page(request: Request) -> Response:
    """``GET /web/<file>``."""
    return _answer(request, request.path_params["name"])


def _answer(request: Request, name: str) -> Response:
    """The file; 304 if the browser has it, 404 if there is no such file."""
    found = FILES.get(name)
    if found is None:
        return Response(status_code=404, headers={"X-Content-Type-Options": "nosniff"})
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if found.headers["ETag"] in known:
        return Response(status_code=304, headers=found.headers)
    return Response(found.content, headers=found.headers)


ROUTES: Sequence[BaseRoute] = (
    Route("/", index, methods=["GET"]),
    Route("/web/{name}", page, methods=["GET"]),
)
