"""What a client of the audio socket says. In: the query, text frames. Out: what is asked for, or a refusal. Pure."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from transcriber.audio.format import ENCODED_TYPES, AudioFormat, media_type, parse_content_type
from transcriber.audio.headers import MAX_OFFSET, MAX_PROMPT
from transcriber.errors import BadInputError
from transcriber.gateway.api_error import ApiError
from transcriber.gateway.openapi.operation import Parameter
from transcriber.gateway.streams.framing import EncodedFraming, PcmFraming
from transcriber.schema.languages import language_code
from transcriber.schema.subjects import STREAM_NAME
from transcriber.ulid import new_ulid

_SESSION = re.compile(r"[\x20-\x7e]{1,128}")

Session = Annotated[str, Field(pattern=r"^[!-~]([ -~]{0,126}[!-~])?$")]
Prompt = Annotated[str, Field(max_length=MAX_PROMPT)]

STREAM = Parameter(
    "stream", "path", Annotated[str, Field(pattern=f"^{STREAM_NAME.pattern}$")], "its name", example="radio-7"
)


class _Command(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Flush(_Command):
    """End the utterance now."""

    type: Literal["flush"]


class End(_Command):
    """End the session."""

    type: Literal["end"]


class Offset(_Command):
    """The next binary frame begins with this frame of the session."""

    type: Literal["offset"]
    frame: int = Field(ge=0, le=MAX_OFFSET, strict=True)


class Update(_Command):
    """From now on this language and these terms; absent: as before."""

    type: Literal["update"]
    language: str | None = None
    prompt: Prompt | None = None


Command = Annotated[Flush | End | Offset | Update, Field(discriminator="type")]
_COMMAND: TypeAdapter[Flush | End | Offset | Update] = TypeAdapter(Command)


def parse_command(text: str) -> Command:
    """A text frame.

    Raises:
        BadInputError: it is none of the commands.
    """
    try:
        return _COMMAND.validate_python(json.loads(text))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "message"
        raise BadInputError(f"{where}: {first['msg']}") from None
    except (ValueError, RecursionError):
        raise BadInputError("a text frame is not JSON") from None


@dataclass(frozen=True, slots=True)
class AudioQuery:
    """The query of the audio socket.

    Attributes:
        session: given, or a new one.
        given: whether the client named it.
        content_type: of its binary frames.
        format: of PCM; None for encoded audio.
    """

    session: str
    given: bool
    content_type: str
    format: AudioFormat | None
    language: str | None
    prompt: str | None

    def framing(self, next_frame: int) -> PcmFraming | EncodedFraming:
        """How its binary frames become payloads, from ``next_frame`` on."""
        if self.format is None:
            return EncodedFraming(self.content_type)
        return PcmFraming(self.content_type, self.format, next_frame)


def parse_query(query: Mapping[str, str]) -> AudioQuery:
    """Read the query.

    Raises:
        ApiError: 400, with the parameter at fault.
    """
    session = query.get("session", "")
    if session and not (_SESSION.fullmatch(session) and session.strip() == session):
        raise _bad("session", "session must be 1 to 128 printable ASCII characters")
    content_type = query.get("content_type") or AudioFormat().content_type
    fmt = None
    if not (content_type.isascii() and content_type.isprintable() and len(content_type) <= 200):  # noqa: PLR2004
        raise _bad("content_type", "content_type must be printable ASCII, at most 200 characters")
    if media_type(content_type) not in ENCODED_TYPES:
        try:
            fmt = parse_content_type(content_type, AudioFormat())
        except BadInputError as error:
            raise _bad("content_type", str(error)) from None
    prompt = query.get("prompt")
    if prompt is not None and len(prompt) > MAX_PROMPT:
        raise _bad("prompt", f"prompt may have {MAX_PROMPT} characters")
    try:
        language = checked_language(query.get("language"))
    except BadInputError as error:
        raise _bad("language", str(error)) from None
    return AudioQuery(session or new_ulid(), bool(session), content_type, fmt, language, one_line(prompt))


def checked_language(text: str | None) -> str | None:
    """The code of a language, or ``auto``; None if none is named.

    Raises:
        BadInputError: it is none that is known.
    """
    if not text or text.lower() == "auto":
        return text and "auto"
    if (code := language_code(text)) is None:
        raise BadInputError(f"language is not known: {text[:40]!r}")
    return code


def one_line(text: str | None) -> str | None:
    """For a header, in which nothing else can be written."""
    return None if text is None else " ".join("".join(c if c.isprintable() else " " for c in text).split())


def checked_stream(name: str) -> str:
    """A stream's name, of a path.

    Raises:
        ApiError: 400.
    """
    if not STREAM_NAME.fullmatch(name):
        raise _bad("stream", "a stream's name is [A-Za-z0-9_-], at most 64 characters")
    return name


def _bad(param: str, message: str) -> ApiError:
    return ApiError(400, message, param=param, code="invalid_value")
