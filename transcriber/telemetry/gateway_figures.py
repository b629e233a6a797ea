"""The gateway's counts: plain numbers, written by the event loop, and read by OpenTelemetry."""

from collections.abc import Iterator
from dataclasses import dataclass, field

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
OTHER_METHOD = "_OTHER"
"""OpenTelemetry's word for all others, so that no client makes series."""

REFUSALS = (
    "input", "key", "scope", "origin", "limit", "queue", "size", "time", "connections", "unserved", "stop", "late", "job", "error",
)  # fmt: skip
"""Why requests are refused or fail: each is also a series of ``transcriber.gateway.refusals``."""

CLOSED_FULL = "closed_full"
"""The code of a WebSocket that was accepted, and then not served."""

_LABELS = {
    "active_requests": "http.request.method",
    "connections": "kind",
    "readers_dropped": "reason",
    "received": "kind",
    "refusals": "reason",
    "sessions_resumed": "mode",
}


def known_method(method: str) -> str:
    """The method as an attribute.

    >>> known_method("GET"), known_method("BREW")
    ('GET', '_OTHER')
    """
    return method if method in METHODS else OTHER_METHOD


def refusal_of(status: int, code: str | None) -> str | None:
    """The reason of an error, by its status and its ``code``; None if it is none.

    >>> refusal_of(403, "foreign_origin"), refusal_of(429, None), refusal_of(200, None)
    ('origin', 'queue', None)
    """
    by_code = {
        "foreign_host": "origin", "foreign_origin": "origin", "rate_limit_exceeded": "limit",
        "too_many_connections": "connections", CLOSED_FULL: "unserved", "stopping": "stop",
    }  # fmt: skip
    if (status < 400 and code is None) or status == 499:  # noqa: PLR2004 - HTTP's; the client has left
        return None
    by_status = {
        401: "key", 403: "scope", 408: "time", 413: "size", 422: "job", 429: "queue", 431: "size", 503: "unserved", 504: "late",
    }  # fmt: skip
    return by_code.get(code or "") or by_status.get(status) or ("input" if status < 500 else "error")  # noqa: PLR2004


def _zeros(*names: str) -> dict[str, int]:
    return dict.fromkeys(names, 0)


@dataclass(slots=True)
class GatewayFigures:
    """Counts since the start, and of what is open. Written on the event loop only; an unknown reason or kind is a ``KeyError``.

    Attributes:
        scheme: of all requests, ``http`` or ``https``.
    """

    scheme: str = "http"
    active_requests: dict[str, int] = field(default_factory=lambda: _zeros(*METHODS, OTHER_METHOD))
    connections: dict[str, int] = field(default_factory=lambda: _zeros("audio", "transcript", "realtime", "events"))
    readers_dropped: dict[str, int] = field(default_factory=lambda: _zeros("queue", "time"))
    refusals: dict[str, int] = field(default_factory=lambda: _zeros(*REFUSALS))
    received: dict[str, int] = field(default_factory=lambda: _zeros("body", "audio", "transcript", "realtime"))
    jobs: int = 0
    sessions_resumed: dict[str, int] = field(default_factory=lambda: _zeros("live", "durable"))

    def points(self, key: str) -> Iterator[tuple[float, dict[str, str]]]:
        """Values and attributes of one instrument at this moment; from any thread, as no series is ever added."""
        name = key.removeprefix("gateway_").removeprefix("http_server_")
        value = getattr(self, name)
        if not isinstance(value, dict):
            yield value, {}
            return
        common = {"url.scheme": self.scheme} if name == "active_requests" else {}
        for label, count in value.items():
            # A method that nobody uses is no series; a reason that has not occurred is one, so that the first one is seen.
            if count or name != "active_requests" or label in {"GET", "POST"}:
                yield count, {_LABELS[name]: label, **common}
