"""Contexts of the ``nats`` tool (ADR-21). In: a context's name, its file. Out: what it says of a connection, or an error of one line."""

import json
import os
import re
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from transcriber.config.checks import SELECTED, check_broker_addresses, check_context_name, check_literal_subject
from transcriber.errors import ConfigError

OF_THE_TOOL = frozenset({"name", "description", "color_scheme"})
"""Fields that say nothing about a connection."""

_LOGINS = ("user", "creds", "nkey", "user_jwt")
_REFERENCE = re.compile(r"(op|nsc|env|data|file):", re.IGNORECASE)


def _with_scheme(value: str) -> str:
    """The tool takes addresses without a scheme."""
    urls = (url.strip() for url in value.split(","))
    return check_broker_addresses(",".join(url if "://" in url else f"nats://{url}" for url in urls))


def _expanded(value: Any) -> Path:
    """A file as the tool names it: with ``~`` and variables of the environment."""
    if not isinstance(value, str):
        raise ValueError("must be the path of a file")  # noqa: TRY004 - pydantic takes no TypeError
    path = Path(os.path.expandvars(_no_reference(value)))
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError("nobody here has the name behind ~") from None


def _no_reference(value: str) -> str:
    if found := _REFERENCE.match(value):
        raise ValueError(f"references such as {found[0].lower()} are not supported: name a file, or the value itself")
    return value


_File = Annotated[Path, BeforeValidator(_expanded)]
_Secret = Annotated[str, AfterValidator(_no_reference)]


class NatsContext(BaseModel):
    """What a context says of a connection; None where it says nothing.

    Attributes:
        url: the broker's addresses, separated by commas, each with its scheme.
        creds: credentials file; ``nkey``: a file with a seed; ``user_jwt`` and ``user_seed`` are no files but the values.
        cert: client certificate, PEM; ``key`` belongs to it; ``ca`` is the broker's.
        tls_first: the broker expects TLS before it says anything.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    url: Annotated[str, AfterValidator(_with_scheme)] | None = None
    user: str | None = None
    password: _Secret | None = Field(None, repr=False)
    token: _Secret | None = Field(None, repr=False)
    creds: _File | None = None
    nkey: _File | None = None
    user_jwt: _Secret | None = Field(None, repr=False)
    user_seed: _Secret | None = Field(None, repr=False)
    cert: _File | None = None
    key: _File | None = None
    ca: _File | None = None
    inbox_prefix: Annotated[str, AfterValidator(check_literal_subject)] | None = None
    tls_first: bool = False

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        logins = [name for name in _LOGINS if getattr(self, name)]
        if self.user and self.token:
            logins = ["user", "token", *logins[1:]]
        if len(logins) > 1:
            raise ValueError(f"{' and '.join(logins)} exclude each other")
        for name, needed in (("password", "user"), ("user_seed", "user_jwt"), ("cert", "key"), ("key", "cert")):
            if getattr(self, name) and not getattr(self, needed):
                raise ValueError(f"{name} needs {needed}")
        return self


def read_context(name: str) -> NatsContext:
    """The context called ``name``, or the selected one.

    Raises:
        ConfigError: there is none, it cannot be read, or it says something that we do not do.
    """
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "nats"
    chosen = _selected(folder / "context.txt") if name == SELECTED else name
    path = folder / "context" / f"{chosen}.json"
    try:
        said = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ConfigError(f"NATS_CONTEXT={name}: there is no {path}") from None
    except OSError as error:
        raise ConfigError(f"NATS_CONTEXT={name}: {path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise ConfigError(f"NATS_CONTEXT={name}: {path} is not JSON") from None
    return parse_context(said, f"NATS_CONTEXT={name}: {path}")


def parse_context(said: Any, where: str) -> NatsContext:
    """A context's JSON; empty fields are absent ones, as the tool writes all of them.

    Raises:
        ConfigError: it is not one, or it says something that we do not do; the message begins with ``where`` and has no secret.
    """
    if not isinstance(said, dict):
        raise ConfigError(f"{where} is no JSON object")
    given = {
        name: value for name, value in said.items() if value not in (None, "", False, []) and name not in OF_THE_TOOL
    }
    if others := sorted(given.keys() - NatsContext.model_fields):
        raise ConfigError(f"{where}: not supported: {', '.join(map(repr, others))}")
    try:
        return NatsContext(**given)
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, one['loc']))}: {_reason(one)}".removeprefix(": ") for one in error.errors())
        raise ConfigError(f"{where}: {'; '.join(faults)}") from None


def _selected(path: Path) -> str:
    try:
        chosen = path.read_text().strip()
    except (OSError, ValueError):
        chosen = ""
    if not chosen:
        raise ConfigError(f"NATS_CONTEXT={SELECTED}: none is selected in {path}")
    try:
        return check_context_name(chosen)
    except ValueError as error:
        raise ConfigError(f"NATS_CONTEXT={SELECTED}: {path} {error}") from None


def _reason(error: Any) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    return message[:1].lower() + message[1:]
