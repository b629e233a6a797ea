"""The settings that may change while a daemon runs, and the keys under which they do. Pure, but for the check of a value.

In: a key and a value, as text. Out: whom it is for, and the value checked as that of the environment is; or a ``ValueError`` of one
line. A key is ``global.SETTING``, ``daemon.NAME.SETTING`` or ``stream.PATTERN.SETTING``; SETTING is the variable in lower case. In a
pattern ``=`` stands for any characters, since a key of JetStream's may have no ``*``.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from transcriber.audio.window_policy import Changes
from transcriber.config import MOST_SHOWN, Settings, one_line
from transcriber.schema.admin import MODEL_NAME

WINDOW_SETTINGS = frozenset(
    {
        "endpoint_silence_secs",
        "left_context_secs",
        "speech_gate",
        "speech_threshold",
        "whisper_language",
        "whisper_prompt",
    }
)
"""Of streams; from the next window on: a checkpoint has them, so that the window is cut and transcribed again in the same way."""

STREAM_SETTINGS = WINDOW_SETTINGS | {"partial_interval_secs"}
"""All of streams; those that are in no checkpoint change at once."""

DAEMON_SETTINGS = frozenset({"log_level", "max_streams", "whisper_model"})
"""Of a daemon as a whole; at once. Another model is loaded beside the present one."""

_KEY = re.compile(r"(?:global|(daemon|stream)\.([A-Za-z0-9_=-]+))\.([a-z_]+)")
_SETTING = re.compile(r"(?:global|(?:daemon|stream)\.[^.]+)\.([A-Za-z_]+)")


class Key(NamedTuple):
    """A key, parsed: of a daemon or of streams, ``name`` says which."""

    scope: Literal["global", "daemon", "stream"]
    name: str
    setting: str

    def fits(self, name: str) -> bool:
        """Whether it is for the daemon or stream called ``name``."""
        first, *others = self.name.split("=")
        if not others:
            return name == first
        # The pieces one after the other, each at the first place where it is: an expression would try all places of all pieces.
        *pieces, last = others
        at, end = len(first), len(name) - len(last)
        if at > end or not name.startswith(first) or not name.endswith(last):
            return False
        for piece in pieces:
            found = name.find(piece, at, end)
            if found < 0:
                return False
            at = found + len(piece)
        return True

    @property
    def rank(self) -> tuple[int, int, str]:
        """Of two that fit one stream, the one with the higher rank holds: no ``=`` before any, then more letters."""
        return int("=" not in self.name), len(self.name.replace("=", "")), self.name


def parse_key(text: str) -> Key:
    """The key.

    Raises:
        ValueError: it is none, or its setting needs a restart, or is not one of streams.
    """
    if (found := _SETTING.fullmatch(text)) and found[1].lower() not in STREAM_SETTINGS | DAEMON_SETTINGS:
        name = found[1].upper()
        raise ValueError(f"{name} needs a restart" if name.lower() in Settings.model_fields else f"no setting {name}")
    parts = _KEY.fullmatch(text)
    if not parts:
        raise ValueError(
            "must be global.SETTING, daemon.NAME.SETTING or stream.PATTERN.SETTING, the setting in lower case"
        )
    scope, name, setting = parts[1] or "global", parts[2] or "", parts[3]
    if scope == "stream" and setting in DAEMON_SETTINGS:
        raise ValueError(f"{setting.upper()} is a daemon's, not a stream's")
    return Key(scope, name, setting)  # type: ignore[arg-type]


def check_value(base: Settings, setting: str, text: str) -> Any:
    """The value of a live setting, checked beside all that ``base`` has.

    Raises:
        ValueError: one line.
    """
    if setting == "whisper_model" and not re.fullmatch(MODEL_NAME, text):
        raise ValueError(f"WHISPER_MODEL={text[:MOST_SHOWN]!r}: must be the name of a model, not a path")
    try:
        checked = Settings(**base.model_dump() | {setting: text})
    except ValidationError as error:
        raise ValueError("; ".join(map(one_line, error.errors()))) from None
    if bool(checked.left_context_s) != bool(base.left_context_s):
        raise ValueError(f"LEFT_CONTEXT_SECS={text[:MOST_SHOWN]!r}: to switch it on or off needs a restart")
    return getattr(checked, setting)


def with_values(base: Settings, values: Mapping[str, Any]) -> Settings:
    """``base`` with checked values in place of its own."""
    return base.model_copy(update=dict(values)) if values else base


def changes_of(base: Settings, values: Mapping[str, Any]) -> Changes:
    """What a checkpoint must say of ``values``."""
    return tuple(
        (name, values[name]) for name in sorted(WINDOW_SETTINGS & values.keys()) if values[name] != getattr(base, name)
    )


def with_changes(base: Settings, changes: Changes) -> Settings:
    """The settings of a window that began with ``changes``, perhaps in a daemon with another environment or of another version."""
    known = {name: value for name, value in changes if name in WINDOW_SETTINGS}
    found = with_values(base, known)
    if bool(found.left_context_s) != bool(base.left_context_s):
        del known["left_context_secs"]
    return with_values(base, known)
