"""What the models of messages and checkpoints are made of. Plain data; no I/O."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(ge=0)]
Milliseconds = Annotated[float, Field(ge=0)]
Frames = Annotated[int, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]


def _all_required(schema: dict[str, Any]) -> None:
    """Defaults are for us; whoever reads a message finds every field in it."""
    schema["required"] = list(schema["properties"])


def _all_required_no_other(schema: dict[str, Any]) -> None:
    _all_required(schema)
    schema["additionalProperties"] = False


class MessageModel(BaseModel):
    """Part of a message that is published: nothing is missing in it, and nothing unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra=_all_required)


class StateModel(BaseModel):
    """Read by daemons only, perhaps by one of another version: so what is unknown is passed over."""

    model_config = ConfigDict(frozen=True, json_schema_extra=_all_required_no_other)
