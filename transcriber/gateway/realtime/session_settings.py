"""The settings of a session. In: ``session`` of ``session.update``. Out: ``SessionSettings``, or what is refused. Pure; no I/O.

What a daemon does not do is refused: a client that asked for it would believe that it is done.
"""

from collections.abc import Collection
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from transcriber.audio.headers import MAX_PROMPT
from transcriber.errors import TranscriberError
from transcriber.gateway.models import ALIASES
from transcriber.schema.languages import language_code

AudioType = Literal["audio/pcm", "audio/pcmu", "audio/pcma"]

WITHOUT_VAD = frozenset({"gpt-realtime-whisper", "gpt-live-transcribe"})
"""Clients of these commit, and leave ``turn_detection`` out."""

THRESHOLD, SILENCE_MS = 0.5, 500
"""The defaults of OpenAI, and of the daemon."""

SILENCES_MS = frozenset({SILENCE_MS, 350})
"""Defaults of OpenAI and of LiveKit."""

PADDING_MS = 300


class RefusedEventError(TranscriberError):
    """An event is refused; the session stays open.

    Attributes:
        code: for programs.
        param: path of the field at fault.
    """

    def __init__(self, message: str, code: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code, self.param = code, param


class Wire(NamedTuple):
    """How a format of the interface is published."""

    content_type: str
    rate: int
    frame_bytes: int


WIRES: dict[AudioType, Wire] = {
    "audio/pcm": Wire("audio/x-raw;format=S16LE;rate=24000;channels=1", 24_000, 2),
    "audio/pcmu": Wire("audio/x-raw;format=MULAW;rate=8000;channels=1", 8_000, 1),
    "audio/pcma": Wire("audio/x-raw;format=ALAW;rate=8000;channels=1", 8_000, 1),
}


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Format(_Model):
    type: AudioType
    rate: int | None = None


class _Transcription(_Model):
    model: str | None = None
    language: str | None = None
    languages: tuple[str, ...] | None = Field(None, strict=False)
    prompt: str | None = None
    keywords: tuple[str, ...] | None = Field(None, strict=False)
    delay: str | None = None


class _TurnDetection(_Model):
    type: str
    threshold: float | None = None
    prefix_padding_ms: int | None = Field(None, ge=0, le=10_000)
    silence_duration_ms: int | None = None
    idle_timeout_ms: int | None = None
    create_response: bool | None = None
    interrupt_response: bool | None = None
    eagerness: str | None = None


class _Input(_Model):
    format: _Format | None = None
    transcription: _Transcription | None = None
    turn_detection: _TurnDetection | None = None
    noise_reduction: dict[str, Any] | None = None


class _Audio(_Model):
    input: _Input | None = None


class _Session(_Model):
    type: str
    audio: _Audio | None = None
    include: tuple[str, ...] | None = Field(None, strict=False)


class SessionSettings(BaseModel):
    """What applies.

    Attributes:
        model: as the client names it.
        language: a code, or None: as the daemon has it.
        prompt: one line, with the keywords; empty: none.
        vad: whether the daemon ends items; None: not said, so it depends on the model.
        padding_ms: as asked for; nothing before speech is cut off, whatever it is.
    """

    model_config = ConfigDict(frozen=True)

    audio_type: AudioType = "audio/pcm"
    model: str = "whisper-1"
    language: str | None = None
    prompt: str = ""
    vad: bool | None = None
    padding_ms: int = PADDING_MS

    @property
    def wire(self) -> Wire:
        return WIRES[self.audio_type]

    @property
    def detects_turns(self) -> bool:
        return self.model not in WITHOUT_VAD if self.vad is None else self.vad

    def updated(self, session: object, names: Collection[str], *, fixed_format: bool) -> "SessionSettings":
        """With the fields that ``session`` has; the others stay.

        Args:
            session: of the event, as JSON has it.
            names: of models beside ``ALIASES``.
            fixed_format: audio was sent already.

        Raises:
            RefusedEventError: none of it applies.
        """
        try:
            wanted = _Session.model_validate(session)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False, include_context=False)[0]
            code = "unknown_parameter" if first["type"] == "extra_forbidden" else "invalid_value"
            raise RefusedEventError(first["msg"], code, ".".join(map(str, ("session", *first["loc"])))) from None
        if wanted.type != "transcription":
            raise RefusedEventError("only sessions of type transcription", "invalid_value", "session.type")
        if wanted.include:
            raise _unsupported("log probabilities are not given", "session.include")
        if wanted.audio is None or (given := wanted.audio.input) is None:
            return self
        if given.noise_reduction is not None:
            raise _unsupported("there is no noise reduction: send null", "session.audio.input.noise_reduction")
        changes = self._format(given, fixed_format=fixed_format) | _transcription(given, names) | _turns(given)
        return self.model_copy(update=changes)

    def as_json(self) -> dict[str, Any]:
        """As ``session.audio.input`` of an answer: what really applies."""
        vad = {
            "type": "server_vad",
            "threshold": THRESHOLD,
            "prefix_padding_ms": self.padding_ms,
            "silence_duration_ms": SILENCE_MS,
        }
        return {
            "format": {"type": self.audio_type} | ({"rate": self.wire.rate} if self.audio_type == "audio/pcm" else {}),
            "transcription": {"model": self.model, "language": self.language, "prompt": self.prompt},
            "turn_detection": vad if self.detects_turns else None,
            "noise_reduction": None,
        }

    def _format(self, given: _Input, *, fixed_format: bool) -> dict[str, Any]:
        if given.format is None:
            return {}
        audio_type, rate = given.format.type, given.format.rate
        if rate not in {None, WIRES[audio_type].rate}:
            raise _unsupported(
                f"{audio_type} has {WIRES[audio_type].rate} frames a second", "session.audio.input.format.rate"
            )
        if fixed_format and audio_type != self.audio_type:
            raise _unsupported("the format cannot change once there is audio", "session.audio.input.format.type")
        return {"audio_type": audio_type}


def check_model(model: str, names: Collection[str], param: str) -> None:
    """Check the name of a model.

    Raises:
        RefusedEventError: no daemon has it.
    """
    if model not in ALIASES and model not in names:
        known = ", ".join(sorted({*names, "whisper-1"}))
        raise RefusedEventError(f"no model of that name is loaded; there is {known}", "model_not_found", param)


def _transcription(given: _Input, names: Collection[str]) -> dict[str, Any]:
    where = "session.audio.input.transcription"
    if (wanted := given.transcription) is None:
        if "transcription" in given.model_fields_set:
            raise _unsupported("transcription cannot be turned off", where)
        return {}
    changes: dict[str, Any] = {}
    if wanted.delay is not None:
        raise _unsupported("the delay cannot be chosen", f"{where}.delay")
    if wanted.model is not None:
        check_model(wanted.model, names, f"{where}.model")
        changes["model"] = wanted.model
    if wanted.languages and len(wanted.languages) > 1:
        raise _unsupported("one language, or none to have it detected", f"{where}.languages")
    if wanted.model_fields_set & {"language", "languages"}:
        language = wanted.language or (wanted.languages or (None,))[0]
        if language and (code := language_code(language)) is None:
            raise RefusedEventError("no language of that name", "invalid_value", f"{where}.language")
        changes["language"] = code if language else None
    if wanted.model_fields_set & {"prompt", "keywords"}:
        prompt = " ".join(" ".join((wanted.prompt or "", ", ".join(wanted.keywords or ()))).split())
        if len(prompt) > MAX_PROMPT or not prompt.isprintable():
            raise RefusedEventError(
                f"prompt and keywords: at most {MAX_PROMPT} printable characters", "invalid_value", f"{where}.prompt"
            )
        changes["prompt"] = prompt
    return changes


def _turns(given: _Input) -> dict[str, Any]:
    where = "session.audio.input.turn_detection"
    if (wanted := given.turn_detection) is None:
        return {"vad": False} if "turn_detection" in given.model_fields_set else {}
    if wanted.type != "server_vad":
        raise _unsupported("server_vad, or null", f"{where}.type")
    if wanted.threshold not in {None, THRESHOLD}:
        raise _unsupported(f"the threshold is {THRESHOLD}, or as the daemon is set", f"{where}.threshold")
    if wanted.silence_duration_ms not in {None, *SILENCES_MS}:
        raise _unsupported(
            f"speech ends after {SILENCE_MS} ms of silence, or as the daemon is set", f"{where}.silence_duration_ms"
        )
    for name in ("idle_timeout_ms", "create_response", "interrupt_response", "eagerness"):
        if getattr(wanted, name) not in {None, False}:
            raise _unsupported("sessions of type transcription have no responses", f"{where}.{name}")
    padding_ms = PADDING_MS if wanted.prefix_padding_ms is None else wanted.prefix_padding_ms
    return {"vad": True, "padding_ms": padding_ms}


def _unsupported(message: str, param: str) -> RefusedEventError:
    return RefusedEventError(message, "unsupported_value", param)
