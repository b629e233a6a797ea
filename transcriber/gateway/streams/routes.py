"""The routes of streams. In: the handlers. Out: ``ROUTES``."""

from collections.abc import Sequence

from starlette.routing import BaseRoute, Route, WebSocketRoute

from transcriber.gateway.streams.audio_socket import audio_socket
from transcriber.gateway.streams.captions import captions
from transcriber.gateway.streams.figures import streams
from transcriber.gateway.streams.transcript import transcript, transcript_socket

ROUTES: Sequence[BaseRoute] = [
    Route("/v1/streams", streams, methods=["GET"]),
    WebSocketRoute("/v1/streams/{stream}/audio", audio_socket),
    WebSocketRoute("/v1/streams/{stream}/transcript", transcript_socket),
    Route("/v1/streams/{stream}/transcript", transcript, methods=["GET"]),
    Route("/v1/streams/{stream}/transcript.vtt", captions, methods=["GET"]),
]
