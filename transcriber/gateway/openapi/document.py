"""The OpenAPI 3.1 document. In: routes, whose handlers have an ``Operation`` each. Out: plain JSON data. No I/O."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode
from starlette.routing import BaseRoute, Route, WebSocketRoute

from transcriber import __version__
from transcriber.gateway.api_error import REFUSALS, ErrorBody
from transcriber.gateway.openapi.operation import Answer, Content, Operation, Parameter, Schema, operation_of

SOCKET = 101
"""The status of a WebSocket's handshake."""
EVENTS = "text/event-stream"
REF = "#/components/schemas/{model}"

OF_KEYS, OF_BODIES, OF_ALL = {401, 403, 429}, {400, 408, 413}, {500, 503}
"""Statuses with which every request that needs a key, every one with a body, and all but those that need no key may be refused."""

TAGS = {
    "transcriptions": "OpenAI's transcription API: files in, text out.",
    "realtime": "OpenAI's Realtime API: sessions of type `transcription`.",
    "streams": "Audio and text of streams, as they come.",
    "jobs": "Uploads that are, or were, too large for a request.",
    "access": "Tickets, probes, and this document.",
    "page": "The page, for people.",
}

_DESCRIPTION = """\
HTTP and WebSocket for programs that do not speak NATS; docs/gateway.md says what fields and messages mean.

Every answer has an `X-Request-ID`. Any request may also be refused before it is routed: 400 and 431 if its headers cannot be read or are
too large, 413 if its body is. OpenAPI cannot describe a WebSocket: one is a `get` with an answer 101, whose `x-text-frames` are
the JSON of its text frames, by who sends them; of Server-Sent Events, `x-events` is the JSON of `data`, by event."""


def openapi_document(routes: Iterable[BaseRoute]) -> dict[str, Any]:
    """The document of these routes.

    Raises:
        LookupError: a handler has no ``Operation``, or a route another path than its operation says.
    """
    found: dict[str, dict[str, list[tuple[str, Operation]]]] = {}
    for route in routes:
        if not isinstance(route, Route | WebSocketRoute):
            raise LookupError(f"{route!r} is no route of its own")  # noqa: TRY004 - as the others
        methods = (route.methods or {"GET"}) if isinstance(route, Route) else {"GET"}
        described = operation_of(route.endpoint)
        _check_path(route.path, route.param_convertors, described)
        for method in sorted(methods - {"HEAD"}):
            found.setdefault(route.path, {}).setdefault(method.lower(), []).append((route.name, described))
    schemas = _Schemas([one for methods in found.values() for named in methods.values() for _, one in named])
    paths = {
        path: {method: _operation(named, schemas) for method, named in methods.items()}
        for path, methods in found.items()
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "transcriber gateway",
            "version": __version__,
            "description": _DESCRIPTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "responses": {_refusal_name(status): _refusal(status, text, schemas) for status, text in REFUSALS.items()},
            "headers": {"X-Request-ID": {"description": "the request's own, or a new one", "schema": {"type": "string"}}},
            "securitySchemes": _SECURITY,
        },
    }  # fmt: skip


def _check_path(path: str, in_path: Mapping[str, object], described: Operation) -> None:
    said = {one.name for one in described.parameters if one.where == "path"}
    if not in_path.keys() <= said:
        raise LookupError(f"{path}: {sorted(in_path.keys() - said)} has no Parameter")


_SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "a key of GATEWAY_KEYS_FILE"},
    "ticket": {
        "type": "apiKey",
        "in": "query",
        "name": "ticket",
        "description": "of `POST /v1/tickets`, for what can send no header; or as WebSocket subprotocol `ticket.<value>`",
    },
}


class _Schemas:
    """Every type that operations name, as JSON Schema.

    Attributes:
        components: the models among them, and those that they consist of.
    """

    def __init__(self, operations: Sequence[Operation]) -> None:
        wanted: dict[tuple[int, JsonSchemaMode], Schema] = {(id(ErrorBody), "serialization"): ErrorBody}
        for one in operations:
            for mode, schema in _types_of(one):
                wanted[id(schema), mode] = schema
        given = [(key, mode, TypeAdapter[Any](schema)) for (key, mode), schema in wanted.items()]
        self._found, definitions = TypeAdapter.json_schemas(given, ref_template=REF)
        self.components: dict[str, Any] = definitions["$defs"]

    def of(self, schema: Schema, mode: JsonSchemaMode) -> dict[str, Any]:
        """The JSON Schema of a type; what is one already is given as it is."""
        if isinstance(schema, dict):
            return schema
        return self._found[id(schema), mode]


def _types_of(one: Operation) -> Iterator[tuple[JsonSchemaMode, Schema]]:
    for parameter in one.parameters:
        yield "validation", parameter.schema
    for content in one.body.values():
        if not isinstance(content.schema, dict):
            yield "validation", content.schema
    for status, answer in one.answers.items():
        for media_type, content in answer.contents.items():
            if media_type == EVENTS or status == SOCKET:
                for who, schema in content.schema.items():
                    yield "validation" if who == "client" else "serialization", schema
            elif not isinstance(content.schema, dict):
                yield "serialization", content.schema


def _operation(named: list[tuple[str, Operation]], schemas: _Schemas) -> dict[str, Any]:
    """One method of a path; by WebSocket and by HTTP it is one to OpenAPI."""
    name, first = named[0]
    parameters = {(one.where, one.name): one for _, described in named for one in described.parameters}
    answers = {status: answer for _, described in named for status, answer in described.answers.items()}
    refusals = sorted({status for _, described in named for status in _refusals(described)} - answers.keys())
    details = " ".join(f"docs/gateway.md, {one.details}." for _, one in named if one.details)
    return {
        "operationId": name,
        "summary": "; ".join(described.summary for _, described in named),
        "tags": [first.tag],
        **({"description": details} if details else {}),
        **({"parameters": [_parameter(one, schemas) for one in parameters.values()]} if parameters else {}),
        **({"requestBody": {"required": True, "content": _contents(first.body, schemas)}} if first.body else {}),
        "responses": {str(status): _answer(status, answer, schemas) for status, answer in sorted(answers.items())}
        | {str(status): {"$ref": f"#/components/responses/{_refusal_name(status)}"} for status in refusals},
        "security": _security(first),
    }


def _refusals(one: Operation) -> frozenset[int]:
    if one.access == "open":
        return one.refusals
    return one.refusals | OF_KEYS | OF_ALL | (OF_BODIES if one.body else set())


def _security(one: Operation) -> list[dict[str, list[str]]]:
    """Without a keys file nothing is needed."""
    if one.access == "open":
        return []
    if one.access == "key":
        return [{"bearer": []}, {}]
    return [{"bearer": [one.access]}, {"ticket": [one.access]}, {}]


def _parameter(one: Parameter, schemas: _Schemas) -> dict[str, Any]:
    return {
        "name": one.name,
        "in": one.where,
        "description": one.description,
        "required": one.required or one.where == "path",
        "schema": schemas.of(one.schema, "validation"),
        **({"example": one.example} if one.example is not None else {}),
    }


def _contents(contents: Mapping[str, Content], schemas: _Schemas) -> dict[str, Any]:
    return {
        media_type: _with_example(schemas.of(one.schema, "validation"), one) for media_type, one in contents.items()
    }


def _answer(status: int, answer: Answer, schemas: _Schemas) -> dict[str, Any]:
    headers: dict[str, Any] = {"X-Request-ID": {"$ref": "#/components/headers/X-Request-ID"}}
    for name, text in answer.headers.items():
        headers[name] = {"description": text, "schema": {"type": "string"}}
    found: dict[str, Any] = {"description": answer.description, "headers": headers}
    if status == SOCKET:
        for content in answer.contents.values():
            found["x-text-frames"] = _by_name(content, schemas)
        return found
    if answer.contents:
        found["content"] = {
            media_type: {"schema": {"type": "string"}, "x-events": _by_name(one, schemas)}
            if media_type == EVENTS
            else _with_example(schemas.of(one.schema, "serialization"), one)
            for media_type, one in answer.contents.items()
        }
    return found


def _by_name(content: Content, schemas: _Schemas) -> dict[str, Any]:
    return {
        name: schemas.of(schema, "validation" if name == "client" else "serialization")
        for name, schema in content.schema.items()
    }


def _with_example(schema: dict[str, Any], content: Content) -> dict[str, Any]:
    return {"schema": schema, **({"example": content.example} if content.example is not None else {})}


def _refusal_name(status: int) -> str:
    return f"Error{status}"


def _refusal(status: int, text: str, schemas: _Schemas) -> dict[str, Any]:
    headers: dict[str, Any] = {"X-Request-ID": {"$ref": "#/components/headers/X-Request-ID"}}
    if status in {429, 503}:
        headers["Retry-After"] = {"description": "seconds, if they are known", "schema": {"type": "string"}}
    if status == 504:  # noqa: PLR2004 - HTTP's
        headers["x-should-retry"] = {"description": "`false`: the clip would run again", "schema": {"type": "string"}}
    return {
        "description": text,
        "headers": headers,
        "content": {"application/json": {"schema": schemas.of(ErrorBody, "serialization")}},
    }
