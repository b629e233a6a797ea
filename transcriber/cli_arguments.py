"""What all commands are made of. In: a name, a function. Out: a parser with a flag for each setting that counts there."""

import argparse
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args, get_origin

from pydantic.fields import FieldInfo

from transcriber.config import Settings, settings_fields

Run = Callable[[Settings, argparse.Namespace], int]
"""A command: its exit status."""

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 - it has no other name

CLIENT_SETTINGS = ("nats_", "transcript_subject_prefix", "audio_subject", "log_")
"""Prefixes of the settings that the clients share with the daemon."""

ENVIRONMENT = (
    "What stands below a theme is a setting: also an environment variable, named in capitals (--nats-url is NATS_URL)."
    " A flag wins."
)

THEMES: dict[str, tuple[str, ...]] = {
    "broker": ("nats_", "pending_bytes"),
    "subjects and streams": ("audio_subject", "transcript_subject_prefix", "max_streams"),
    "audio": ("input_", "target_sample_rate", "speakers", "max_hole_secs"),
    "windows": ("buffer_", "left_context_secs", "hold_back_secs", "speech_", "endpoint_silence_secs", "partial_"),
    "load": ("max_latency_secs", "transcription_queue_capacity", "shutdown_grace_secs"),
    "timeouts of a stream": ("stream_idle_secs", "heartbeat_timeout_secs", "silence_timeout_secs"),
    "model and whisper.cpp": ("whisper_", "second_pass"),
    "JetStream: durable mode and backfill": (
        "durable", "backfill", "provision", "audio_", "transcript_", "stream_replicas", "partition", "max_attempts",
    ),
    "requests for the text of a clip": ("service", "request_"),
    "files, by JetStream": ("file", "result_"),
    "admin requests and audit": ("admin_", "audit"),
    "settings that change while it runs": ("config_",),
    "gateway": ("gateway_",),
    "probes, metrics and log": ("stream_status_secs", "health_", "metrics_", "log_"),
}  # fmt: skip
"""Headings of ``--help`` to prefixes of the settings below them; a setting is below the first that has it."""


def command(commands: Commands, name: str, run: Run, summary: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
    command.set_defaults(run=run)
    return command


class SettingFlag(argparse.Action):
    """The flag of a setting."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:  # noqa: ARG002 - argparse's
        setattr(namespace, self.dest, values)


class HelpFormatter(argparse.HelpFormatter):
    """Leaves settings out of the usage line, of which there are seventy."""

    def add_usage(self, usage: Any, actions: Any, groups: Any, prefix: Any = None) -> None:
        super().add_usage(usage, [one for one in actions if not isinstance(one, SettingFlag)], groups, prefix)


def add_settings(command: argparse.ArgumentParser, prefixes: tuple[str, ...] = ("",)) -> None:
    """A flag for each setting, by theme; its text comes from the setting's declaration."""
    command.epilog, command.formatter_class = ENVIRONMENT, HelpFormatter
    for theme, names in settings_by_theme(prefixes).items():
        group = command.add_argument_group(theme)
        for name in names:
            field = settings_fields()[name]
            switch: dict[str, Any] = {"nargs": "?", "const": "1"} if field.annotation is bool else {}
            flag = "--" + name.replace("_", "-")
            group.add_argument(
                flag, dest=name, action=SettingFlag, metavar=_metavar(name, field), help=_help(field), **switch
            )


def settings_by_theme(prefixes: tuple[str, ...] = ("",)) -> dict[str, list[str]]:
    """Names of those settings that begin with one of ``prefixes``, in the order of their declaration."""
    found: dict[str, list[str]] = {theme: [] for theme in THEMES}
    for name in settings_fields():
        if name.startswith(prefixes):
            found[next(theme for theme, starts in THEMES.items() if name.startswith(starts))].append(name)
    return {theme: names for theme, names in found.items() if names}


def _metavar(name: str, field: FieldInfo) -> str:
    """``{a,b}`` where there is a choice, else the unit or the kind of value."""
    if field.annotation is bool:
        return "0|1"
    if choices := list(_choices(field.annotation)):
        return f"{{{','.join(choices)}}}"
    kinds = {field.annotation, *get_args(field.annotation)}
    if Path in kinds:
        return "PATH"
    if unit := next((unit for unit in ("secs", "bytes") if name.endswith(f"_{unit}")), None):
        return unit.upper()
    return "N" if kinds & {int, float} else name.rpartition("_")[2].upper()


def _choices(annotation: Any) -> Iterator[str]:
    """The values of an annotation that takes no others."""
    if get_origin(annotation) is Literal:
        yield from map(str, get_args(annotation))
    elif isinstance(annotation, type) and issubclass(annotation, StrEnum):
        yield from annotation


def _help(field: FieldInfo) -> str:
    text, default = (field.description or "").replace("%", "%%"), field.default
    if isinstance(default, bool):
        return f"{text} (default: {'on' if default else 'off'})"
    if field.default_factory or default in {None, ""}:
        return text  # which says what happens then
    return f"{text} (default: {default:g})" if isinstance(default, float) else f"{text} (default: {default})"
