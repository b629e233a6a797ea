"""What all commands are made of. In: a name, a function. Out: a parser with a flag for each setting that counts there."""

import argparse
from collections.abc import Callable
from typing import Any, TypeAlias

from transcriber.config import Settings, settings_fields

Run = Callable[[Settings, argparse.Namespace], int]
"""A command: its exit status."""

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 - it has no other name

CLIENT_SETTINGS = ("nats_", "transcript_subject_prefix", "audio_subject", "log_")
"""Prefixes of the settings that the clients share with the daemon."""


def command(commands: Commands, name: str, run: Run, summary: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
    command.set_defaults(run=run)
    return command


def add_settings(command: argparse.ArgumentParser, prefixes: tuple[str, ...] = ("",)) -> None:
    """A flag for each setting; its text comes from the setting's declaration."""
    group = command.add_argument_group("settings", "each is also an environment variable, named in capitals")
    for name, field in settings_fields().items():
        if name.startswith(prefixes):
            flag, text = "--" + name.replace("_", "-"), (field.description or "").replace("%", "%%")
            switch: dict[str, Any] = {"nargs": "?", "const": "1"} if field.annotation is bool else {}
            group.add_argument(flag, dest=name, metavar=name.upper(), help=text, **switch)
