"""Metrics and spans of the gateway. In: requests as they begin and end. Out: exports as ``OTEL_*`` says, and a ``traceparent`` for the bus."""

import time
from typing import TYPE_CHECKING, Any

from transcriber.config import Settings
from transcriber.telemetry.exports import Exports
from transcriber.telemetry.gateway_figures import GatewayFigures, known_method, refusal_of
from transcriber.telemetry.instruments import GATEWAY_INSTRUMENTS
from transcriber.telemetry.traceparent import current_traceparent, valid_traceparent

if TYPE_CHECKING:
    from opentelemetry.trace import Span

SERVICE = "transcriber-gateway"
SWITCHING = 101
CRASHED = 500


class GatewayTelemetry:
    """Metrics and spans of one gateway. Event loop only.

    Attributes:
        figures: counts, for handlers to add to.

    Raises:
        ConfigError: a variable of OpenTelemetry has a value that is not allowed.
        PortError: the port of ``/metrics`` cannot be opened.
    """

    def __init__(self, settings: Settings, instance: str) -> None:
        self.figures = GatewayFigures("https" if settings.gateway_tls_cert else "http")
        self._exports = Exports(SERVICE, instance)
        self._audio_subject = settings.audio_subject

    def start(self) -> None:
        """Start the exporters of metrics and spans.

        Raises:
            ConfigError: OpenTelemetry refuses one of its variables.
        """
        self._exports.start(GATEWAY_INSTRUMENTS, lambda: self.figures.points, self._audio_subject)

    def begin(self, method: str, traceparent: str, *, socket: bool) -> "RequestAccount":
        """A request, or the handshake of a WebSocket, begins; ``traceparent`` is the client's, or empty."""
        return RequestAccount(self._exports, self.figures, known_method(method), traceparent, socket=socket)

    def shutdown(self, timeout_s: float) -> bool:
        """Flush the exporters; blocks for at most about ``timeout_s``. Returns whether they ended in time."""
        return self._exports.shutdown(timeout_s)


class RequestAccount:
    """What is counted of one request, or of one WebSocket, and its span. Event loop only; made in the task of the request.

    Attributes:
        traceparent: for what this request puts on the bus: that of its span; else the client's; empty if there is neither.
        given: whether the client sent one.
        code: of the error that is answered, if it has one.
    """

    def __init__(
        self, exports: Exports, figures: GatewayFigures, method: str, traceparent: str, *, socket: bool
    ) -> None:
        self._exports, self._figures, self._method, self._socket = exports, figures, method, socket
        self._began_s = time.monotonic()
        self._kind = ""
        self.given = valid_traceparent(traceparent)
        self.traceparent = traceparent if self.given else ""
        self.code: str | None = None
        self._span: Span | None = None
        if exports.traces:
            self._span, self.traceparent = exports.traces.begin_request(method, figures.scheme, self.traceparent)
        current_traceparent.set(self.traceparent)
        if not socket:
            figures.active_requests[method] += 1

    @property
    def trace_id(self) -> str:
        """Of ``traceparent``; empty without one."""
        return self.traceparent.split("-")[1] if self.traceparent else ""

    def opened(self, kind: str, route: str) -> None:
        """A connection without end is open: a WebSocket of ``kind``, or ``events``."""
        self._kind = kind
        self._figures.connections[kind] += 1
        if self._socket:
            self._record(route, SWITCHING)  # the handshake is what takes the time of a request

    def received(self, size_bytes: int) -> None:
        """So many bytes of a body, or of a message of a WebSocket."""
        self._figures.received[self._kind if self._socket and self._kind else "body"] += size_bytes

    def end(self, route: str, status: int | None, *, path: str, request_id: str) -> None:
        """All is over; ``route`` is the template, empty if there is none, ``status`` None if nothing was answered."""
        status = CRASHED if status is None else status
        if not self._socket:
            self._figures.active_requests[self._method] -= 1
        if self._kind:
            self._figures.connections[self._kind] -= 1
        if reason := refusal_of(status, self.code):
            self._figures.refusals[reason] += 1
        if not (self._socket and self._kind):
            self._record(route, status)
        if self._span and self._exports.traces:
            attributes: dict[str, Any] = {"http.response.status_code": status, "transcriber.request_id": request_id}
            if route:  # of any other path nobody knows what is in it
                attributes |= {"http.route": route, "url.path": path}
            self._exports.traces.end_request(self._span, self._method, attributes)

    def _record(self, route: str, status: int) -> None:
        attributes: dict[str, str | int] = {
            "http.request.method": self._method,
            "http.response.status_code": status,
            "url.scheme": self._figures.scheme,
        }
        if route:
            attributes["http.route"] = route
        if status >= CRASHED:
            attributes["error.type"] = str(status)
        took_s = time.monotonic() - self._began_s
        self._exports.record({"http_server_request_duration": took_s}, attributes, self.traceparent)
