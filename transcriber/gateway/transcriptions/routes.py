"""The paths of OpenAI's transcription API. In: requests. Out: responses."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from transcriber.gateway.openapi.operation import Answer, Content, Parameter, answer, events_of, json_of, operation
from transcriber.gateway.runtime import runtime_of
from transcriber.gateway.transcriptions.answers import MEDIA_TYPES
from transcriber.gateway.transcriptions.bodies import (
    DiarizedTranscription,
    SpeakerSegment,
    TextDelta,
    TextDone,
    Transcription,
    VerboseTranscription,
    form_schema,
)
from transcriber.gateway.transcriptions.handler import JOB_HEADER, answer_upload


class Model(BaseModel):
    """A model that is loaded."""

    model_config = ConfigDict(extra="forbid")

    id: str
    object: Literal["model"] = "model"
    created: Literal[0] = 0
    owned_by: Literal["transcriber"] = "transcriber"


class ModelList(BaseModel):
    """All of them."""

    model_config = ConfigDict(extra="forbid")

    object: Literal["list"] = "list"
    data: tuple[Model, ...]


_EXAMPLE = {"text": "A gale is blowing from the west.", "usage": {"type": "duration", "seconds": 4.0}}
_HELD_BACK = {
    "X_Transcriber_Gaps": "of the plain forms: audio that was not transcribed, as JSON",
    "X_Transcriber_Suppressed": "of the plain forms: text that was held back, as JSON",
    JOB_HEADER: "id of the job, where the upload became one",
}
_EVENTS = {
    "transcript.text.delta": TextDelta,
    "transcript.text.segment": SpeakerSegment,
    "transcript.text.done": TextDone,
}
_PLAIN = {media_type: Content({"type": "string"}) for media_type in MEDIA_TYPES.values()}
_REFUSALS = (404, 415, 422, 504)


def _form(task: Literal["transcribe", "translate"]) -> dict[str, Content]:
    return {"multipart/form-data": Content(form_schema(task))}


def _text(bodies: Any) -> Answer:
    contents = {**json_of(bodies, _EXAMPLE), **_PLAIN, **events_of(_EVENTS)}
    return answer("the text, as `response_format` and `stream` ask for it", contents, **_HELD_BACK)


@operation(
    "the text of a recording",
    tag="transcriptions",
    access="transcribe",
    body=_form("transcribe"),
    answers={200: _text(Transcription | VerboseTranscription | DiarizedTranscription)},
    refusals=_REFUSALS,
    details="Transcriptions",
)
async def transcribe(request: Request) -> Response:
    """``POST /v1/audio/transcriptions``."""
    return await answer_upload(request, "transcribe")


@operation(
    "the text of a recording, in English",
    tag="transcriptions",
    access="transcribe",
    body=_form("translate"),
    answers={200: _text(Transcription | VerboseTranscription)},
    refusals=_REFUSALS,
    details="Transcriptions",
)
async def translate(request: Request) -> Response:
    """``POST /v1/audio/translations``."""
    return await answer_upload(request, "translate")


@operation(
    "the models that are loaded",
    tag="transcriptions",
    access="transcribe",
    answers={200: answer("those of all daemons", json_of(ModelList))},
)
async def list_models(request: Request) -> Response:
    """``GET /v1/models``."""
    runtime = runtime_of(request)
    runtime.keys.authorise(request, "transcribe")
    found = ModelList(data=tuple(Model(id=name) for name in await runtime.models.all()))
    return JSONResponse(found.model_dump())


@operation(
    "one of the models that are loaded",
    tag="transcriptions",
    access="transcribe",
    parameters=(Parameter("model", "path", str, "its name, or one that SDKs send", example="whisper-1"),),
    answers={200: answer("the model", json_of(Model))},
    refusals=(404,),
)
async def get_model(request: Request) -> Response:
    """``GET /v1/models/<id>``."""
    runtime = runtime_of(request)
    runtime.keys.authorise(request, "transcribe")
    return JSONResponse(Model(id=(await runtime.models.resolve(request.path_params["model"])).name).model_dump())


ROUTES: Sequence[BaseRoute] = (
    Route("/v1/audio/transcriptions", transcribe, methods=["POST"]),
    Route("/v1/audio/translations", translate, methods=["POST"]),
    Route("/v1/models", list_models, methods=["GET"]),
    Route("/v1/models/{model}", get_model, methods=["GET"]),
)
