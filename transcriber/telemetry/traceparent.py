"""W3C trace context: the ``traceparent`` header, read from and written for the bus."""

import re
from contextvars import ContextVar
from hashlib import blake2b

MAX_LENGTH = 256
"""Characters; version 00 has 55."""

current_traceparent: ContextVar[str] = ContextVar("current_traceparent", default="")
"""Of what the current task is about; empty without one."""

_TRACEPARENT = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?!0{32})(?P<trace>[0-9a-f]{32})-(?!0{16})(?P<span>[0-9a-f]{16})-"
    r"(?P<flags>[0-9a-f]{2})(?P<more>-[!-~]*)?"
)


def parse_traceparent(text: str) -> tuple[int, int, int] | None:
    """Trace id, span id and flags; None when ``text`` is not a ``traceparent``.

    Versions after 00 may be longer, as the standard demands, up to ``MAX_LENGTH``.
    """
    match = _TRACEPARENT.fullmatch(text) if len(text) <= MAX_LENGTH else None
    if not match or (match["version"] == "00" and match["more"]):
        return None
    return int(match["trace"], 16), int(match["span"], 16), int(match["flags"], 16)


def valid_traceparent(text: str) -> bool:
    """Whether ``text`` is a ``traceparent`` as W3C defines it."""
    return parse_traceparent(text) is not None


def sampled(traceparent: str) -> bool:
    """Whether it belongs to a trace that is recorded.

    >>> sampled("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), sampled("")
    (True, False)
    """
    parsed = parse_traceparent(traceparent)
    return bool(parsed and parsed[2] & 1)


def session_traceparent(stream: str, session: str) -> str:
    """The ``traceparent`` of a session whose publisher sends none: derived from its id, not sampled.

    >>> session_traceparent("radio-7", "monday") == session_traceparent("radio-7", "monday")
    True
    """
    digest = blake2b(f"{stream}:{session}".encode(), digest_size=24).hexdigest()
    return f"00-{digest[:32]}-{digest[32:]}-00"
