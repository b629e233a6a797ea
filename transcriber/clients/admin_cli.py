"""The parser of ``transcriber admin``. In: a command line. Out: a call of the command, which imports what it needs then."""

import argparse
import asyncio

from transcriber.cli_arguments import CLIENT_SETTINGS, add_settings, command
from transcriber.config import Settings
from transcriber.tasks import interrupt_on_sigterm


def add_admin(admin: argparse.ArgumentParser) -> None:
    actions = admin.add_subparsers(metavar="ACTION", required=True)
    swap = command(actions, "swap", _swap, "have a daemon take another model, while it works")
    swap.add_argument(
        "model", metavar="MODEL", help="such as base.en, or the NAME of ggml-NAME.bin in the daemon's WHISPER_MODEL_DIR"
    )
    swap.add_argument("--unload-first", action="store_true", help="where there is no memory for both: audio waits")
    _add_daemons(swap)
    add_settings(swap, CLIENT_SETTINGS)
    change = command(actions, "set", _change, "change a setting while daemons run (CONFIG_BUCKET)")
    change.add_argument("key", metavar="KEY", help="such as global.log_level or stream.radio-=.whisper_prompt")
    change.add_argument("value", metavar="VALUE")
    unset = command(actions, "unset", _change, "take such a setting back: what is below it holds again")
    unset.add_argument("key", metavar="KEY")
    unset.set_defaults(value=None)
    for action in (change, unset):
        action.add_argument(
            "--as", dest="by", metavar="NAME", help="who does it, for log and audit; default: user@host"
        )
        add_settings(action, (*CLIENT_SETTINGS, "config_bucket", "audit"))
    show = command(actions, "show", _show, "which settings daemons hold and which they refuse, and their models")
    add_settings(show, CLIENT_SETTINGS)


def _add_daemons(action: argparse.ArgumentParser) -> None:
    """Which daemons are meant, and who asks."""
    which = action.add_mutually_exclusive_group()
    which.add_argument("--instance", metavar="NAME", help="the daemon, HOST-PID; default: the only one there is")
    which.add_argument("--all", dest="every", action="store_true", help="all daemons, one after the other")
    action.add_argument("--as", dest="by", metavar="NAME", help="who asks, for log and audit; default: user@host")


def _swap(settings: Settings, arguments: argparse.Namespace) -> int:
    from transcriber.clients.admin_command import swap_model  # noqa: PLC0415
    from transcriber.clients.transcribe import submitter  # noqa: PLC0415

    interrupt_on_sigterm()
    return asyncio.run(
        swap_model(
            settings,
            arguments.model,
            instance=arguments.instance,
            every=arguments.every,
            unload_first=arguments.unload_first,
            by=submitter() if arguments.by is None else arguments.by,
        )
    )


def _change(settings: Settings, arguments: argparse.Namespace) -> int:
    from transcriber.clients.settings_command import change_setting  # noqa: PLC0415
    from transcriber.clients.transcribe import submitter  # noqa: PLC0415

    interrupt_on_sigterm()
    by = submitter() if arguments.by is None else arguments.by
    return asyncio.run(change_setting(settings, arguments.key, arguments.value, by=by))


def _show(settings: Settings, _: argparse.Namespace) -> int:
    from transcriber.clients.settings_command import show_settings  # noqa: PLC0415

    interrupt_on_sigterm()
    return asyncio.run(show_settings(settings))
