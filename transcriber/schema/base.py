"""Base classes and field types of the models of messages and checkpoints. Plain data; no I/O."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Seconds = Annotated[float, Field(ge=0)]
Milliseconds = Annotated[float, Field(ge=0)]
Frames = Annotated[int, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]


def _all_required(schema: dict[str, Any]) -> None:
    """Defaults are for the writer; a reader finds every field in a message."""
    schema["required"] = list(schema["properties"])


def _all_required_no_other(schema: dict[str, Any]) -> None:
    _all_required(schema)
    schema["additionalProperties"] = False


class MessageModel(BaseModel):
    """Part of a published message: all its fields are present, and no others."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra=_all_required)


class StateModel(BaseModel):
    """Part of a checkpoint: read by daemons only, perhaps of another version, so unknown fields are ignored."""

    model_config = ConfigDict(frozen=True, json_schema_extra=_all_required_no_other)


def first_line(error: ValidationError) -> str:
    """The first thing that is wrong with a payload, and where."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else first["msg"]
