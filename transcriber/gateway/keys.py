"""Who may do what. In: the keys file; a request. Out: its ``Key``, or a refusal."""

from dataclasses import dataclass
from typing import Literal

from starlette.requests import HTTPConnection

Scope = Literal["listen", "publish", "transcribe", "admin"]
ALL_SCOPES: frozenset[Scope] = frozenset({"listen", "publish", "transcribe", "admin"})


@dataclass(frozen=True, slots=True)
class Key:
    """Whoever makes a request.

    Attributes:
        name: as the keys file has it; empty where there are no keys.
        scopes: what is allowed.
        streams: patterns of the streams that are allowed, such as ``radio-*``.
    """

    name: str
    scopes: frozenset[Scope]
    streams: tuple[str, ...] = ("*",)

    def may_use(self, stream: str) -> bool:
        """Whether a stream is allowed."""
        raise NotImplementedError

    @property
    def submitter(self) -> str:
        """``by`` of this key's jobs."""
        return f"gateway:{self.name}"


class Keys:
    """The keys of a file. Event loop only."""

    def authorise(self, connection: HTTPConnection, scope: Scope, stream: str | None = None) -> Key:
        """The key of a request or WebSocket handshake: its bearer token, or its ticket.

        Raises:
            ApiError: 401 without a valid key, 403 if it lacks the scope, the stream, or comes from a foreign page.
        """
        raise NotImplementedError
