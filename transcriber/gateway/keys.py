"""Who may do what. In: the keys file; a request. Out: its ``Key``, or a refusal.

The file holds hashes alone. A key is 256 random bits, so that a plain hash of it is as good as a slow one.
"""

import hashlib
import hmac
import ipaddress
import math
import re
import secrets
import time
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Annotated, Literal, get_args
from urllib.parse import urlsplit

from itsdangerous import BadSignature, URLSafeTimedSerializer
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from starlette.requests import HTTPConnection

from transcriber.config import Settings
from transcriber.errors import ConfigError
from transcriber.gateway.api_error import ApiError

Scope = Literal["listen", "publish", "transcribe", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
ALL_SCOPES: frozenset[Scope] = frozenset(SCOPES)

KEY_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
PREFIX = "tr-"
"""Of every key, so that one that was published by mistake is found."""

TICKET_S = 60
TICKET_PROTOCOL = "ticket."
"""A WebSocket subprotocol ``ticket.<value>``."""

MINUTE_S = 60.0

Pattern = Annotated[str, Field(pattern=r"^[A-Za-z0-9_\-=*?\[\]!]{1,200}$")]


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
        """Whether a stream is allowed.

        >>> Key("news", frozenset(), ("radio-*",)).may_use("radio-7"), Key("news", frozenset(), ("radio-*",)).may_use("tv")
        (True, False)
        """
        return any(fnmatchcase(stream, pattern) for pattern in self.streams)

    def covers(self, pattern: str) -> bool:
        """Whether every stream of ``pattern`` is allowed; in doubt not."""
        literal = not set(pattern) & set("*?[")
        return "*" in self.streams or pattern in self.streams or (literal and self.may_use(pattern))

    @property
    def submitter(self) -> str:
        """``by`` of this key's jobs."""
        return f"gateway:{self.name}"


class _Entry(BaseModel):
    """A key in the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    scopes: tuple[Scope, ...]
    streams: tuple[Pattern, ...] = ("*",)
    requests_per_minute: int = Field(0, ge=0)
    concurrent: int = Field(0, ge=0)


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: dict[Annotated[str, Field(pattern=f"^{KEY_NAME.pattern}$")], _Entry] = Field(min_length=1)

    @field_validator("keys")
    @classmethod
    def _each_once(cls, keys: dict[str, _Entry]) -> dict[str, _Entry]:
        names: dict[str, str] = {}
        for name, entry in keys.items():
            if (other := names.setdefault(entry.sha256, name)) != name:
                raise ValueError(f"{other} and {name} are the same key")
        return keys


class _Limiter:
    """Requests of one key; 0 is no limit."""

    def __init__(self, per_minute: int, concurrent: int, clock: Callable[[], float]) -> None:
        self._per_minute, self._concurrent, self._clock = per_minute, concurrent, clock
        self._left, self._at_s, self._open = float(per_minute), clock(), 0

    def take(self) -> Callable[[], None]:
        """Count a request; returns what ends it.

        Raises:
            ApiError: 429.
        """
        if self._concurrent and self._open >= self._concurrent:
            raise _too_many(f"{self._concurrent} requests of this key are open", 1)
        if self._per_minute:
            now_s, rate = self._clock(), self._per_minute / MINUTE_S
            self._left = min(self._per_minute, self._left + (now_s - self._at_s) * rate)
            self._at_s = now_s
            if self._left < 1:
                raise _too_many(
                    f"this key has {self._per_minute} requests a minute", math.ceil((1 - self._left) / rate)
                )
            self._left -= 1
        self._open += 1
        return self._release

    def _release(self) -> None:
        self._open -= 1


class Keys:
    """The keys of a file. Event loop only.

    Attributes:
        required: whether there is a file; without one everybody may do all.
    """

    def __init__(
        self,
        entries: dict[str, _Entry] | None = None,
        origins: Iterable[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.required = entries is not None
        self._entries = entries or {}
        self._origins = frozenset(origins)
        self._limiters = {
            name: _Limiter(entry.requests_per_minute, entry.concurrent, clock) for name, entry in self._entries.items()
        }
        # The same on every replica, and another one once a key is replaced.
        hashes = ",".join(sorted(f"{name}:{entry.sha256}" for name, entry in self._entries.items()))
        secret = hashlib.sha256(f"tickets {hashes}".encode()).hexdigest() if self.required else secrets.token_hex()
        self._signer = URLSafeTimedSerializer(secret, salt="ticket")

    def authorise(self, connection: HTTPConnection, scope: Scope, stream: str | None = None) -> Key:
        """The key of a request or WebSocket handshake: its bearer token, or its ticket.

        Raises:
            ApiError: 401 without a valid key, 403 if it lacks the scope, the stream, or comes from a foreign page; 429 over its
                limits.
        """
        key = self.identify(connection)
        if scope not in key.scopes:
            raise ApiError(403, f"this key lacks the scope {scope}", code="missing_scope")
        if stream is not None and not key.may_use(stream):
            raise ApiError(403, f"this key may not use the stream {stream}", code="stream_not_allowed")
        return key

    def identify(self, connection: HTTPConnection, *, tickets: bool = True) -> Key:
        """The key of a request, whatever its scopes; counted once a request.

        Raises:
            ApiError: 401, 403 or 429.
        """
        self._check_origin(connection)
        if not self.required:
            return Key("", ALL_SCOPES)
        kind, _, token = connection.headers.get("authorization", "").partition(" ")
        key = self._of_token(token.strip()) if kind.lower() == "bearer" else None
        if key is None and tickets and (ticket := _ticket(connection)):
            key = self._of_ticket(ticket)
        if key is None:
            raise ApiError(
                401, "a valid key is missing: Authorization: Bearer ...", code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )  # fmt: skip
        state = connection.scope.setdefault("state", {})
        state["key_name"] = key.name
        if "release" not in state:
            state["release"] = self._limiters[key.name].take()
        return key

    def ticket(self, key: Key, scopes: Iterable[Scope], streams: Iterable[str]) -> str:
        """A ticket for a part of what ``key`` may do, valid for ``TICKET_S`` on every replica.

        Raises:
            ApiError: 403, it would be more than the key may do.
        """
        wanted, patterns = frozenset(scopes), tuple(streams)
        if lacking := sorted(wanted - key.scopes):
            raise ApiError(403, f"this key lacks the scope {lacking[0]}", param="scopes", code="missing_scope")
        for pattern in patterns:
            if not key.covers(pattern):
                raise ApiError(403, f"this key may not use {pattern}", param="streams", code="stream_not_allowed")
        return self._signer.dumps([key.name, sorted(wanted), patterns])

    def _of_token(self, token: str) -> Key | None:
        digest = hashlib.sha256(token.encode(errors="replace")).hexdigest()
        found = None
        for name, entry in self._entries.items():  # all of them: the time does not show which
            if hmac.compare_digest(entry.sha256, digest):
                found = Key(name, frozenset(entry.scopes), entry.streams)
        return found

    def _of_ticket(self, ticket: str) -> Key | None:
        try:
            name, scopes, streams = self._signer.loads(ticket, max_age=TICKET_S)
        except (BadSignature, ValueError):
            return None
        entry = self._entries.get(name)
        if entry is None:
            return None
        whole = Key(name, frozenset(entry.scopes), entry.streams)
        kept = tuple(pattern for pattern in streams if whole.covers(pattern))
        return replace(whole, scopes=whole.scopes & frozenset(scopes), streams=kept)

    def _check_origin(self, connection: HTTPConnection) -> None:
        """Refuse pages of others; and, where there are no keys, names of ours that a page has made up (DNS rebinding)."""
        host = connection.headers.get("host", "").lower()
        origin = connection.headers.get("origin", "").lower()
        if not self.required and host and not loopback(_host_name(host)) and "*" not in self._origins:
            raise ApiError(403, "without keys the gateway answers under localhost alone", code="foreign_host")
        if origin and not self._origins & {"*", origin} and _host_of(origin) != host:
            raise ApiError(403, "this page's origin is not allowed: GATEWAY_ORIGINS", code="foreign_origin")


def load_keys(settings: Settings) -> Keys:
    """The keys of ``GATEWAY_KEYS_FILE``.

    Raises:
        ConfigError: the file cannot be read.
    """
    path = settings.gateway_keys_file
    if path is None:
        return Keys(None, settings.origins)
    try:
        entries = _File.model_validate(tomllib.loads(path.read_text())).keys
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"GATEWAY_KEYS_FILE={path}: {reason}") from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(f"GATEWAY_KEYS_FILE={path}: {where}: {first['msg']}") from None
    return Keys(entries, settings.origins)


def new_key(name: str) -> tuple[str, str]:
    """A new key, and its entry for the keys file.

    Raises:
        ConfigError: a name that no file can have.
    """
    if not KEY_NAME.fullmatch(name):
        raise ConfigError(f"--new-key={name!r}: must be [A-Za-z0-9_-], at most 64")
    key = PREFIX + secrets.token_urlsafe(32)
    scopes = ", ".join(f'"{scope}"' for scope in SCOPES if scope != "admin")
    digest = hashlib.sha256(key.encode()).hexdigest()
    return key, f'[keys.{name}]\nsha256 = "{digest}"\nscopes = [{scopes}]\nstreams = ["*"]\n'


def loopback(host: str) -> bool:
    """Whether ``host`` is this machine alone.

    >>> [loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "example.org")]
    [True, True, True, False, False]
    """
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host_name(host: str) -> str:
    """``Host`` without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _host_of(origin: str) -> str | None:
    """Host and port of an origin; None if it has none, as has ``null``."""
    try:
        return urlsplit(origin).netloc or None
    except ValueError:
        return None


def _ticket(connection: HTTPConnection) -> str:
    if given := connection.query_params.get("ticket"):
        return given
    offered = connection.headers.get("sec-websocket-protocol", "").split(",")
    tickets = (one.strip() for one in offered if one.strip().startswith(TICKET_PROTOCOL))
    return next(tickets, "").removeprefix(TICKET_PROTOCOL)


def _too_many(why: str, after_s: int) -> ApiError:
    return ApiError(429, why, code="rate_limit_exceeded", headers={"Retry-After": str(max(1, after_s))})
