"""The paths of OpenAI's transcription API. In: requests. Out: responses."""

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from transcriber.gateway.runtime import runtime_of
from transcriber.gateway.transcriptions.handler import answer_upload


async def transcribe(request: Request) -> Response:
    """``POST /v1/audio/transcriptions``."""
    return await answer_upload(request, "transcribe")


async def translate(request: Request) -> Response:
    """``POST /v1/audio/translations``."""
    return await answer_upload(request, "translate")


async def list_models(request: Request) -> Response:
    """``GET /v1/models``."""
    runtime = runtime_of(request)
    runtime.keys.authorise(request, "transcribe")
    return JSONResponse({"object": "list", "data": [_model(name) for name in await runtime.models.all()]})


async def get_model(request: Request) -> Response:
    """``GET /v1/models/<id>``."""
    runtime = runtime_of(request)
    runtime.keys.authorise(request, "transcribe")
    return JSONResponse(_model((await runtime.models.resolve(request.path_params["model"])).name))


def _model(name: str) -> dict[str, str | int]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "transcriber"}


ROUTES: Sequence[BaseRoute] = (
    Route("/v1/audio/transcriptions", transcribe, methods=["POST"]),
    Route("/v1/audio/translations", translate, methods=["POST"]),
    Route("/v1/models", list_models, methods=["GET"]),
    Route("/v1/models/{model}", get_model, methods=["GET"]),
)
