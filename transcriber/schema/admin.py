"""Admin requests and their answer. Plain data; no I/O.

One JSON object each. On ``transcriber.admin`` every daemon answers, and takes ``status`` alone; on ``transcriber.admin.<instance>`` one.
"""

from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter

from transcriber.schema.audit import Name
from transcriber.schema.base import MessageModel

MODEL_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
"""No path: who may send admin requests chooses among the models of a daemon, not among the files of its machine."""

SwapOutcome = Literal["swapped", "unchanged", "refused", "failed"]


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_: Literal[1] = Field(1, alias="schema", description="version of this schema")
    by: Name = Field("", alias="as", description="who asks, for the log and the audit; nobody checks it")


class StatusRequest(_Request):
    """Which model is loaded, and what became of the latest swap."""

    action: Literal["status"]


class SwapRequest(_Request):
    """Load another model while the present one works, and switch to it between two windows; answered when that has begun."""

    action: Literal["swap"]
    model: str = Field(
        max_length=200,
        pattern=MODEL_NAME,
        description="such as `base.en`, `demo`, or the NAME of a file `ggml-NAME.bin` in `WHISPER_MODEL_DIR`",
    )
    unload_first: bool = Field(False, description="free the present model first, if there is no memory for both")


AdminRequest = StatusRequest | SwapRequest
ANY_ADMIN_REQUEST: TypeAdapter[AdminRequest] = TypeAdapter(Annotated[AdminRequest, Field(discriminator="action")])


class Swap(MessageModel):
    """One swap of the model."""

    number: int = Field(ge=1, description="of the daemon's swaps, from 1")
    model: str = Field(description="as it was asked for")
    by: Name
    at: AwareDatetime = Field(description="when it began")
    state: Literal["loading"] | SwapOutcome = Field(
        description="`loading`: under way. `swapped`: the model transcribes. `unchanged`: it did already. `refused`: there is no"
        " memory for both, or the settings do not allow it. `failed`: it cannot be loaded, or fails its self-test"
    )
    error: str = Field("", description="why it was refused, or failed")


MAX_SHOWN = 200
"""Characters of a value in an answer, which has all settings at once."""


class LiveSetting(MessageModel):
    """What was said of one key of live settings."""

    key: str
    value: str = Field(description=f"as it was written, its first {MAX_SHOWN} characters")
    revision: int = Field(ge=0, description="of the bucket, or of the file, counted from 1")
    by: Name = Field(description="who wrote it, as stated; empty: not known")
    refused: str = Field("", description="why it changes nothing; empty: it holds")


class AdminAnswer(MessageModel):
    """The answer to any admin request."""

    schema_: Literal[1] = Field(1, alias="schema", description="version of this schema")
    instance: str = Field(description="name of the daemon")
    model: str = Field(description="that transcribes")
    swap: Swap | None = Field(None, description="the one under way, or the latest; null: none since the start")
    settings: tuple[LiveSetting, ...] = Field(
        (), description="live settings that it holds for itself and for streams, or refuses"
    )
    settings_left_out: int = Field(
        0,
        ge=0,
        description="how many there are, where the answer has none, as it would be larger than the broker takes",
    )
    revision: int | None = Field(None, description="of live settings, as far as it follows them; null: it follows none")
    error: str = Field("", description="why the request is refused; empty: it is not")
