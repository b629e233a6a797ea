"""What a handler says of itself. In: the types that it checks and answers with. Out: an ``Operation`` on the handler. No I/O."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from transcriber.gateway.keys import Scope

Schema = Any
"""A type that Pydantic knows, or a JSON Schema."""

Tag = Literal["transcriptions", "realtime", "streams", "jobs", "access", "page"]

_ATTRIBUTE = "openapi_operation"
_Handler = TypeVar("_Handler", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the path, the query or a header; one of a path is always required."""

    name: str
    where: Literal["path", "query", "header"]
    schema: Schema
    description: str
    required: bool = False
    example: str | int | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """A body of one media type.

    Attributes:
        schema: of the whole body; of Server-Sent Events and of WebSockets' text frames, of ``data`` by event, or by who sends it.
        example: one, if that says more than the schema.
    """

    schema: Schema
    example: Any = None


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that is no error.

    Attributes:
        description: what it is.
        contents: by media type.
        headers: beside those of all answers, with what they hold.
    """

    description: str
    contents: Mapping[str, Content]
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Operation:
    """What one method of a route does.

    Attributes:
        summary: one line.
        tag: the part of the gateway that it belongs to.
        access: the scope that a key needs; ``key``: any key, and no ticket; ``open``: none.
        parameters: all of them.
        body: by media type.
        answers: by status; 101 is a WebSocket.
        refusals: statuses of errors, beside those of ``access`` and of a body.
        details: the part of docs/gateway.md that says more.
    """

    summary: str
    tag: Tag
    access: Scope | Literal["key", "open"]
    parameters: tuple[Parameter, ...]
    body: Mapping[str, Content]
    answers: Mapping[int, Answer]
    refusals: frozenset[int]
    details: str


def answer(description: str, contents: Mapping[str, Content] | None = None, **headers: str) -> Answer:
    """An answer; ``X_Request_ID`` stands for the header ``X-Request-ID``."""
    return Answer(description, contents or {}, {name.replace("_", "-"): text for name, text in headers.items()})


def json_of(schema: Schema, example: Any = None) -> Mapping[str, Content]:
    """A body that is JSON."""
    return {"application/json": Content(schema, example)}


def events_of(schemas: Mapping[str, Schema]) -> Mapping[str, Content]:
    """Server-Sent Events: what ``data`` is of each."""
    return {"text/event-stream": Content(schemas)}


def operation(
    summary: str,
    *,
    tag: Tag,
    access: Scope | Literal["key", "open"],
    answers: Mapping[int, Answer],
    parameters: tuple[Parameter, ...] = (),
    body: Mapping[str, Content] | None = None,
    refusals: tuple[int, ...] = (),
    details: str = "",
) -> Callable[[_Handler], _Handler]:
    """Describe the handler of a route; the fields are those of ``Operation``."""

    def describe(handler: _Handler) -> _Handler:
        described = Operation(summary, tag, access, parameters, body or {}, answers, frozenset(refusals), details)
        setattr(handler, _ATTRIBUTE, described)
        return handler

    return describe


def operation_of(handler: Callable[..., Any]) -> Operation:
    """What the handler says of itself.

    Raises:
        LookupError: nothing.
    """
    found: Operation | None = getattr(handler, _ATTRIBUTE, None)
    if found is None:
        raise LookupError(f"{handler.__module__}.{handler.__qualname__} has no @operation")
    return found
