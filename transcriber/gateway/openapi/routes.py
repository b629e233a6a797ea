"""``GET /openapi.json``. In: the application's ``state.documented``, its routes. Out: their document, made once."""

import json
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from transcriber.gateway.openapi.document import openapi_document
from transcriber.gateway.openapi.operation import answer, json_of, operation


@operation(
    "this document",
    tag="access",
    access="open",
    answers={200: answer("OpenAPI 3.1", json_of(dict[str, Any]))},
)
async def openapi(request: Request) -> Response:
    """``GET /openapi.json``: needs no key."""
    state = request.app.state
    if not hasattr(state, "openapi"):
        state.openapi = json.dumps(openapi_document(state.documented), ensure_ascii=False).encode()
    return Response(state.openapi, media_type="application/json")


ROUTES: Sequence[BaseRoute] = (Route("/openapi.json", openapi, methods=["GET"]),)
