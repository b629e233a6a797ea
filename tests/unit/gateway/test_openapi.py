"""The OpenAPI document: it is one, it has all routes and nothing else, and what it says of requests is what is checked."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute

from tests.support.openapi import Document
from transcriber import gateway
from transcriber.cli import main
from transcriber.gateway import api_error
from transcriber.gateway.api_error import REFUSALS, ApiError
from transcriber.gateway.keys import SCOPES
from transcriber.gateway.openapi.document import openapi_document
from transcriber.gateway.openapi.operation import Parameter, answer, operation
from transcriber.gateway.server import routes
from transcriber.gateway.streams.commands import checked_stream, parse_command, parse_query
from transcriber.gateway.transcriptions.options import OF_BOTH, OF_TRANSCRIPTIONS, read_options
from transcriber.schema.file_jobs import is_job_id

ROUTES: Any = routes()
DOCUMENT = Document(openapi_document(ROUTES))
OPERATIONS = {operation["operationId"]: operation for _, _, operation in DOCUMENT.operations()}
PAGE = (Path(__file__).parents[3] / "docs/gateway.md").read_text()
TREES = [ast.parse(path.read_text()) for path in Path(gateway.__file__).parent.rglob("*.py")]


def test_it_is_a_valid_document_of_openapi_3_1():
    assert [error.message for error in OpenAPIV31SpecValidator(DOCUMENT.data).iter_errors()] == []
    assert json.loads(json.dumps(DOCUMENT.data)) == DOCUMENT.data


def test_every_route_is_in_it_and_it_has_no_others():
    ours = {
        (route.path, method)
        for route in ROUTES
        for method in ({"GET"} if isinstance(route, WebSocketRoute) else route.methods - {"HEAD"})
    }

    assert {(path, method.upper()) for method, path, _ in DOCUMENT.operations()} == ours
    assert len(OPERATIONS) == len(DOCUMENT.operations())


def test_a_websocket_has_an_answer_101_and_leads_to_the_page_that_describes_it():
    sockets = {route.path for route in ROUTES if isinstance(route, WebSocketRoute)}
    described = {path: one for _, path, one in DOCUMENT.operations() if "101" in one["responses"]}

    assert described.keys() == sockets
    for one in OPERATIONS.values():
        for heading in re.findall(r"docs/gateway\.md, ([^.]+)\.", one.get("description", "")):
            assert f"\n## {heading}\n" in PAGE
    assert all("docs/gateway.md" in one["description"] for one in described.values())


@pytest.mark.parametrize(
    ("path", "parameters", "why"),
    [("/a/{b}", (), "has no Parameter"), ("/a/{b}", (Parameter("c", "path", str, ""),), "has no Parameter")],
)
def test_a_route_that_is_not_described_is_an_error(path, parameters, why):
    @operation("x", tag="access", access="open", answers={200: answer("x")}, parameters=parameters)
    async def handler(_: Request) -> Response:
        return Response()

    async def bare(_: Request) -> Response:
        return Response()

    with pytest.raises(LookupError, match=why):
        openapi_document([Route(path, handler)])
    with pytest.raises(LookupError, match="bare has no @operation"):
        openapi_document([Route("/a", bare)])


def test_the_command_prints_it(capsys):
    assert main(["gateway", "--openapi"]) == 0
    assert json.loads(capsys.readouterr().out) == DOCUMENT.data


def test_examples_are_what_their_schemas_say():
    bodies = [
        content
        for one in OPERATIONS.values()
        for place in (one.get("requestBody", {}), *map(DOCUMENT.resolved, one["responses"].values()))
        for content in place.get("content", {}).values()
    ]
    given = [*bodies, *(one for found in OPERATIONS.values() for one in found.get("parameters", ()))]
    examples = [(one["schema"], one["example"]) for one in given if "example" in one]

    assert len(examples) > 10
    for schema, example in examples:
        DOCUMENT.validator(schema).validate(example)


# Names that the code reads, and those that it writes.


def literals(wanted):
    return {found for tree in TREES for node in ast.walk(tree) if isinstance(node, ast.Call) for found in wanted(node)}


def test_every_parameter_that_is_read_is_in_it_and_no_other():
    def read(call):
        match call:
            case ast.Call(
                ast.Attribute(ast.Attribute(_, "query_params") | ast.Name("query"), "get"), [ast.Constant(name), *_]
            ):
                yield name

    said = {one["name"] for found in OPERATIONS.values() for one in found.get("parameters", ()) if one["in"] == "query"}

    assert said | {"ticket"} == literals(read)


def test_every_code_of_an_error_is_in_it_and_every_status_is_explained():
    def codes(call):
        for keyword in call.keywords:
            match keyword:
                case ast.keyword("code", ast.Constant(str(code))):
                    yield code

    made = {f"job_{state}" for state in ("failed", "cancelled")}  # a job that is over, and not done
    rows = {int(status) for row in re.findall(r"^\| ([\d, ]+) \|", PAGE, re.MULTILINE) for status in row.split(", ")}
    used = {int(name) for one in OPERATIONS.values() for name, it in one["responses"].items() if "$ref" in it}

    assert set(api_error.CODES) == literals(codes) | made
    assert {status for status in rows if status < 600} == REFUSALS.keys()
    assert used == REFUSALS.keys() - {405, 431}  # of no operation


def test_what_needs_a_key_says_which_scope():
    scopes = {name: [*map(dict.values, filter(None, one["security"]))] for name, one in OPERATIONS.items()}

    assert {scope for found in scopes.values() for one in found for names in one for scope in names} < set(SCOPES)
    assert {name for name, needed in scopes.items() if not needed} == {"alive", "ready", "openapi", "index", "page"}
    assert [[*one] for one in scopes["make_ticket"]] == [[[]]]


# What it says of values is what is checked.


def form_of(name):
    return OPERATIONS[name]["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]


@pytest.mark.parametrize(
    ("name", "task", "known"), [("transcribe", "transcribe", OF_TRANSCRIPTIONS), ("translate", "translate", OF_BOTH)]
)
def test_fields_of_a_form_are_those_that_are_taken(name, task, known):
    fields = {field.removesuffix("[]"): schema for field, schema in form_of(name).items()}
    least = {"model": ["demo"]}

    assert fields.keys() == known | {"file"}
    for field, schema in fields.items():
        for value in schema.get("items", schema).get("enum", ()):
            needs = {"timestamp_granularities": "verbose_json", "speakers": "diarized_json"}.get(field, "json")
            read_options({"response_format": [needs]} | least | {field: [value]}, task)
            with pytest.raises(ApiError) as refused:
                read_options({"response_format": [needs]} | least | {field: [f"{value}x"]}, task)
            assert refused.value.param == field
        if "const" in schema:
            read_options(least | {field: [str(schema["const"])]}, task)
            with pytest.raises(ApiError):
                read_options(least | {field: ["1"]}, task)
        if "maxLength" in schema:
            read_options(least | {field: ["x" * schema["maxLength"]]}, task)
            with pytest.raises(ApiError):
                read_options(least | {field: ["x" * (schema["maxLength"] + 1)]}, task)
    with pytest.raises(ApiError):
        read_options({}, task)


def parameter(name, of):
    return next(one["schema"] for one in OPERATIONS[of]["parameters"] if one["name"] == name)


def refused(check, *arguments):
    try:
        check(*arguments)
    except ApiError:
        return True
    return False


near = st.one_of(
    st.text(max_size=5),
    st.text(st.characters(min_codepoint=0x1E, max_codepoint=0x80), max_size=4),
    st.from_regex(r"[A-Za-z0-9_=-]{0,8}", fullmatch=True),
    st.integers(60, 131).map("x".__mul__),
)


@given(near)
def test_patterns_of_parameters_are_those_that_are_checked(text):
    def fits(name, of):
        return DOCUMENT.validator(parameter(name, of)).is_valid(text)

    assert fits("stream", "captions") != refused(checked_stream, text)
    assert fits("job", "job") == is_job_id(text if text.startswith("job=") else f"job={text}")
    if text:  # an empty one is none
        assert fits("session", "audio_socket") != refused(parse_query, {"session": text})


@given(st.integers(990, 1010))
def test_a_prompt_in_the_query_is_as_long_as_it_may_be(length):
    schema = parameter("prompt", "audio_socket")

    assert DOCUMENT.validator(schema).is_valid("x" * length) != refused(parse_query, {"prompt": "x" * length})


@pytest.mark.parametrize(
    "command", ['{"type": "flush"}', '{"type": "update", "language": "en"}', '{"type": "offset", "frame": 3}']
)
def test_text_frames_of_the_audio_socket_are_those_that_are_read(command):
    frames = DOCUMENT.data["paths"]["/v1/streams/{stream}/audio"]["get"]["responses"]["101"]["x-text-frames"]

    assert parse_command(command).type in command
    DOCUMENT.validator(frames["client"]).validate(json.loads(command))
    assert not DOCUMENT.validator(frames["client"]).is_valid({"type": "flush", "frame": 3})
    DOCUMENT.validator(frames["server"]).validate({"type": "position", "frames": None, "bytes": 3})
