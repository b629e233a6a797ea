"""The bodies of OpenAI's transcription API, as they are described. In: nothing. Out: types, and the schema of a form. Plain data."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from transcriber.audio.headers import MAX_PROMPT
from transcriber.gateway.transcriptions.form import FILE_FIELD
from transcriber.gateway.transcriptions.options import (
    FORMATS,
    GRANULARITIES,
    OF_BOTH,
    OF_TRANSCRIPTIONS,
    SPEAKERS,
    STREAMED,
)
from transcriber.schema.messages import HeldBack, Untranscribed
from transcriber.text.results import Task


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Usage(_Body):
    """What was transcribed."""

    type: Literal["duration"]
    seconds: float = Field(ge=0)


class Transcription(_Body):
    """A ``json``."""

    text: str
    usage: Usage
    suppressed: tuple[HeldBack, ...] = Field((), description="absent: nothing was")


class VerboseWord(_Body):
    """A word, in seconds from the beginning of the file."""

    word: str
    start: float
    end: float
    probability: float | None


class VerboseSegment(_Body):
    """A segment, in seconds from the beginning of the file."""

    id: int
    seek: int = Field(description="of the start, in hundredths of a second")
    start: float
    end: float
    text: str
    tokens: tuple[int, ...] = Field(description="empty: whisper.cpp's are not kept")
    temperature: float
    avg_logprob: float | None
    compression_ratio: float
    no_speech_prob: float | None
    speaker: str | None


class VerboseTranscription(_Body):
    """A ``verbose_json``."""

    task: Task
    language: str | None
    duration: float = Field(description="seconds")
    text: str
    segments: tuple[VerboseSegment, ...] = Field((), description="absent: they were not asked for")
    words: tuple[VerboseWord, ...] = Field((), description="absent: they were not asked for")
    gaps: tuple[Untranscribed, ...]
    suppressed: tuple[HeldBack, ...]
    usage: Usage


class SpeakerSegment(_Body):
    """What one speaker says; also an event of a stream."""

    type: Literal["transcript.text.segment"]
    id: str
    start: float
    end: float
    text: str
    speaker: str


class DiarizedTranscription(_Body):
    """A ``diarized_json``."""

    task: Literal["transcribe"]
    duration: float = Field(description="seconds")
    text: str
    segments: tuple[SpeakerSegment, ...]
    usage: Usage


class TextDelta(_Body):
    """A piece of text, which follows those before it."""

    type: Literal["transcript.text.delta"]
    delta: str


class TextDone(_Body):
    """The last event: the whole text."""

    type: Literal["transcript.text.done"]
    text: str


_TEXT = {"type": "string"}
_FIELDS: dict[str, dict[str, Any]] = {
    "model": _TEXT
    | {
        "description": "name of a model that is loaded, or one that SDKs send, which is that model, too",
        "minLength": 1,
    },
    "prompt": _TEXT | {"description": "names and terms that may occur", "maxLength": MAX_PROMPT},
    "response_format": _TEXT | {"enum": list(FORMATS), "default": "json"},
    "temperature": {"const": 0},
    "language": _TEXT | {"description": "code or name; absent: as the daemon is set", "examples": ["en", "German"]},
    "timestamp_granularities": {
        "type": "array",
        "items": {"enum": list(GRANULARITIES)},
        "description": "of a `verbose_json`; absent: `segment`",
    },
    "stream": {"type": "boolean", "default": False, "description": f"answer with events: {', '.join(STREAMED)}"},
    "languages": {"type": "array", "items": _TEXT, "maxItems": 1, "description": "as `language`"},
    "keywords": {"type": "array", "items": _TEXT, "description": "go to the prompt, and count there"},
    "chunking_strategy": {"const": "auto"},
    "speakers": _TEXT | {"enum": list(SPEAKERS), "default": SPEAKERS[0], "description": "ours, of a `diarized_json`"},
}
"""By name, what each field may be."""


def form_schema(task: Task) -> dict[str, Any]:
    """The JSON Schema of an upload: the fields are those that ``options`` takes."""
    known = OF_TRANSCRIPTIONS if task == "transcribe" else OF_BOTH
    # SDKs put brackets behind the name of what may come more than once.
    fields = {name + "[]" * ("items" in schema): schema for name, schema in _FIELDS.items() if name in known}
    if task == "translate":
        formats = [name for name in FORMATS if name != "diarized_json"]
        fields["response_format"] = fields["response_format"] | {"enum": formats}
    file = {"type": "string", "contentMediaType": "application/octet-stream", "description": "the recording"}
    return {
        "type": "object",
        "properties": {FILE_FIELD: file, **fields},
        "required": [FILE_FIELD, "model"],
        "additionalProperties": False,
    }
