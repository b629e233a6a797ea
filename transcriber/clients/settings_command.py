"""The commands ``admin set``, ``unset`` and ``show``. In: a key and its value. Out: it is in the bucket, and what each daemon makes of it."""

import asyncio
import sys
import time

from transcriber.bus.audit import AuditLog
from transcriber.bus.client_session import connected
from transcriber.bus.config_bucket import ConfigBucket
from transcriber.bus.connection import Connection
from transcriber.bus.jetstream.client import JetStream
from transcriber.clients.admin_command import NOBODY, daemons
from transcriber.clients.transcribe import submitter
from transcriber.config import Settings, mask
from transcriber.config.live import check_value, parse_key
from transcriber.errors import ConfigError, RefusedError, UnansweredError
from transcriber.schema.admin import AdminAnswer

FOLLOW_S = 5.0
"""For all daemons to follow a change."""


async def change_setting(settings: Settings, key: str, value: str | None, *, by: str) -> int:
    """Put ``value`` under ``key``, or (None) delete it; print what each daemon that answers makes of it.

    Returns:
        Exit status: 1 if it is not stored, or a daemon refuses it, does not follow, or does not say so.

    Raises:
        ConfigError: it is bad, whatever the daemons have.
        StartError: no broker.
    """
    if not settings.config_bucket:
        raise ConfigError("CONFIG_BUCKET is not set: it names the bucket that daemons follow")
    try:
        parsed = parse_key(key)
        if value is not None:
            check_value(settings, parsed.setting, value)
    except ValueError as error:
        raise ConfigError(f"{key}: {error}") from None
    async with connected(settings, "transcriber admin") as connection:
        jetstream = JetStream(connection)
        try:
            await AuditLog(jetstream, settings, submitter()).write("configured", by=by, what=key)
            revision = (await ConfigBucket(jetstream, settings.config_bucket).put(key, value, by)).seq
        except (UnansweredError, RefusedError) as error:
            return _failed(f"{key} is not changed: {error}")
        sys.stdout.write(f"{key}: revision {revision}\n")
        try:
            found = await _until_followed(connection, revision, loading=parsed.setting == "whisper_model")
        except UnansweredError as error:
            _failed(f"{key} is stored, and nobody says what becomes of it: {error}")
            return int(error.code != NOBODY)  # without any daemon it is for those that will be started
    failures = [
        f"{name}: {why}"
        for name, answer in sorted(found.items())
        if answer.revision is not None and (why := _failure(answer, revision))
    ]
    for line in failures:
        _failed(line)
    return int(bool(failures))


async def show_settings(settings: Settings) -> int:
    """Print what daemons hold and refuse, a line each; exit status 1 if none answers."""
    async with connected(settings, "transcriber admin") as connection:
        try:
            found = await daemons(connection)
        except UnansweredError as error:
            return _failed(str(error))
    for name, answer in sorted(found.items()):
        at = "no live settings" if answer.revision is None else f"revision {answer.revision}"
        sys.stdout.write(f"{name}: model {answer.model}, {at}\n")
        if answer.settings_left_out:
            _failed(f"{name}: {_left_out(answer)}")
        for one in answer.settings:
            by, why = f", by {one.by}" if one.by else "", f": refused: {one.refused}" if one.refused else ""
            sys.stdout.write(f"{name}: {one.key} = {one.value!r} (revision {one.revision}{by}){why}\n")
    return 0


async def _until_followed(connection: Connection, revision: int, *, loading: bool) -> dict[str, AdminAnswer]:
    """The state of all daemons that answer, once they follow ``revision``, or it has taken too long. Raises as ``daemons``.

    With ``loading`` a model that is being loaded is waited for, however long that takes.
    """
    until_s = time.monotonic() + FOLLOW_S
    while True:
        found = await daemons(connection)
        behind = [one for one in found.values() if one.revision is not None and one.revision < revision]
        waited = not behind or time.monotonic() > until_s
        if waited and not (loading and any(one.swap and one.swap.state == "loading" for one in found.values())):
            return found
        await asyncio.sleep(0.1)


def _failure(answer: AdminAnswer, revision: int) -> str:
    """Why the daemon does not do what ``revision`` says; empty if it does."""
    if answer.revision is None or answer.revision < revision:
        return f"it has not followed within {FOLLOW_S:g} s"
    if answer.settings_left_out:
        return f"it follows, and does not say what it refuses: {_left_out(answer)}"
    return next((f"refused: {one.refused}" for one in answer.settings if one.revision == revision and one.refused), "")


def _left_out(answer: AdminAnswer) -> str:
    return f"its {answer.settings_left_out} live settings are more than one message of the broker's takes"


def _failed(line: str) -> int:
    sys.stderr.write(f"transcriber: {mask(line)}\n")
    return 1
