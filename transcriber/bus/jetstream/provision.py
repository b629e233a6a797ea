"""What durable mode and files need of JetStream, created or checked: streams, and a consumer for each audio stream.

In: settings. Out: JetStream objects that fit them, or one line that says what does not.

``AUDIO`` stores what is published on ``audio.*``; with ``PARTITIONS`` the broker stores ``audio.radio-7`` as
``audio.2.radio-7``, so that a daemon can read its part alone. ``TRANSCRIPTS`` stores every message but ``partial`` and
``progress``.
"""

import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StreamConfig, SubjectTransform

from transcriber.bus.audit import audit_stream
from transcriber.bus.client_session import connected
from transcriber.bus.config_bucket import config_stream
from transcriber.bus.connection import Connection
from transcriber.bus.jetstream.admin import Contents, StreamAdmin
from transcriber.bus.jetstream.client import PIN_GROUP, PIN_S
from transcriber.bus.jetstream.file_streams import (
    DEDUPE_S,
    FILES_BUCKET,
    JOBS,
    RESULTS_BUCKET,
    file_streams,
    job_consumers,
    stream_defaults,
)
from transcriber.bus.object_store.bucket import stream_of
from transcriber.config import Settings
from transcriber.errors import ConfigError
from transcriber.schema.subjects import STREAM_NAME

log = logging.getLogger(__name__)

COMMAND = "transcriber provision"
FILES_COMMAND = f"{COMMAND} --files"
AUDIT_COMMAND = f"{COMMAND} --audit"

STORED_TYPES = ("final", "silence", "gap", "status", "revision", "end")
"""Messages that are stored. A ``partial`` or ``progress`` is worth nothing later: it is a plain message."""

ACK_WAIT_S = 120.0
MIN_STREAM_BYTES = 2**20
"""The least that a setting allows."""

MAX_ACK_PENDING = 100_000
"""Payloads in flight: half an hour of 20 ms. The daemon bounds what it reads, never this."""


def stream_configs(settings: Settings) -> tuple[StreamConfig, StreamConfig]:
    """The streams of the audio and of the text."""
    source, transform = f"{settings.audio_prefix}.*", None
    if settings.partitions:
        parted = f"{settings.audio_prefix}.{{{{partition({settings.partitions},1)}}}}.{{{{wildcard(1)}}}}"
        transform = SubjectTransform(src=source, dest=parted)
    limits = stream_defaults(settings)
    text = [f"{settings.transcript_subject_prefix}.*.{kind}" for kind in STORED_TYPES]
    return (
        limits.evolve(
            name=settings.audio_stream,
            subjects=[source],
            subject_transform=transform,
            max_age=settings.audio_max_age_secs,
            max_bytes=settings.audio_max_bytes,
            duplicate_window=min(DEDUPE_S, settings.audio_max_age_secs),
        ),
        limits.evolve(
            name=settings.transcript_stream,
            subjects=text,
            max_age=settings.transcript_max_age_secs,
            max_bytes=settings.transcript_max_bytes,
            duplicate_window=min(DEDUPE_S, settings.transcript_max_age_secs),
            allow_direct=True,
        ),
    )


def consumer_name(stream: str) -> str:
    """The durable consumer of an audio stream."""
    return f"transcriber-{stream}"


def stored_subject(settings: Settings, stream: str) -> str:
    """The subject that the audio of ``stream`` is stored on; any partition, so that it is found after ``PARTITIONS`` has changed."""
    return f"{settings.audio_prefix}.{'*.' if settings.partitions else ''}{stream}"


def audio_filter(settings: Settings) -> str:
    """The subjects that the audio of this daemon is stored on: ``audio.*``, ``audio.2.*`` or ``audio.radio-7``."""
    stream = settings.audio_subject.rpartition(".")[2]
    if settings.partition is None:
        return stored_subject(settings, stream)
    return f"{settings.audio_prefix}.{settings.partition}.{stream}"


@dataclass
class PinnedConsumerConfig(ConsumerConfig):
    """With fields that nats-py does not have: of several readers one is served, until its requests stop (ADR-42)."""

    priority_groups: list[str] | None = None
    priority_policy: str | None = None
    priority_timeout: float | None = None  # seconds

    def as_dict(self) -> dict[str, Any]:
        return super().as_dict() | {"priority_timeout": self._to_nanoseconds(self.priority_timeout)}


def consumer_config(settings: Settings, stream: str) -> PinnedConsumerConfig:
    """The consumer of one audio stream. ``AckPolicy.ALL``: an acknowledgement includes all payloads before."""
    return PinnedConsumerConfig(
        name=consumer_name(stream),
        durable_name=consumer_name(stream),
        filter_subject=stored_subject(settings, stream),
        deliver_policy=DeliverPolicy.ALL,
        ack_policy=AckPolicy.ALL,
        ack_wait=ACK_WAIT_S,
        max_deliver=-1,
        max_ack_pending=MAX_ACK_PENDING,
        priority_groups=[PIN_GROUP],
        priority_policy="pinned_client",
        priority_timeout=PIN_S,
    )


DISK_SHARE = 0.7
"""Of what is free. nats-server reserves three quarters of it at most, and there may be less a moment later."""


def _size_settings(settings: Settings) -> dict[str, str]:
    """By stream, the setting that says how many bytes it may have."""
    return {
        settings.audio_stream: "audio_max_bytes",
        settings.transcript_stream: "transcript_max_bytes",
        stream_of(FILES_BUCKET): "files_max_bytes",
        stream_of(RESULTS_BUCKET): "transcript_max_bytes",
        settings.audit_stream: "audit_max_bytes",
    }


def fitted_to_disk(settings: Settings, free_bytes: int) -> Settings:
    """Settings whose streams fit into ``free_bytes`` of disk, for an embedded broker; settings that were given stay.

    Raises:
        ConfigError: there is not enough even for small ones.
    """
    audio, text = stream_configs(settings)
    configs = [*([audio] if settings.jetstream else []), text, *_others(settings)]
    names = [_size_settings(settings).get(config.name or "", "") for config in configs]
    sizes = {name: getattr(settings, name) for name in names if name and name not in settings.model_fields_set}
    adjustable = sum(sizes.get(name, 0) for name in names)
    fixed = sum(config.max_bytes or 0 for config in configs) - adjustable
    room = int(free_bytes * DISK_SHARE) - fixed
    if room >= adjustable:
        return settings
    least = len([name for name in names if name in sizes]) * MIN_STREAM_BYTES
    if room < least:
        needed = int((fixed + least) / DISK_SHARE)
        raise ConfigError(
            f"JetStream needs {_mb(needed)} MB of disk, and {_mb(free_bytes)} MB are free: "
            f"{', '.join(name.upper() for name in dict.fromkeys(names) if name)} say how much, TMPDIR says where"
        )
    less = {
        name: MIN_STREAM_BYTES + (size - MIN_STREAM_BYTES) * (room - least) // (adjustable - least)
        for name, size in sizes.items()
    }
    log.warning("the disk has room for less", extra={name.upper(): size for name, size in less.items()})
    return settings.model_copy(update=less)


def _mb(size: int) -> int:
    return round(size / 2**20)


async def check_streams(connection: Connection, settings: Settings) -> None:
    """Check that both streams exist and that a daemon can live with them; their limits are the operator's.

    Raises:
        JetStreamError: they do not; the line names ``transcriber provision``.
    """
    admin = StreamAdmin(connection)
    for config in _needed(settings, stream_configs(settings)):
        await admin.check_stream(config, COMMAND)


async def ensure_streams(connection: Connection, settings: Settings) -> None:
    """As ``check_streams``, but a stream that is missing is created.

    Raises:
        JetStreamError: one cannot be created, or does not fit.
    """
    await _create_missing(_admin(connection, settings), stream_configs(settings))
    await check_streams(connection, settings)


async def check_files(connection: Connection, settings: Settings) -> None:
    """As ``check_streams``, for what files need: the stream of the text, two buckets, the jobs and their records.

    Raises:
        JetStreamError: something is missing, or does not fit; the line names ``transcriber provision --files``.
    """
    admin = StreamAdmin(connection)
    for config in _needed(settings, _with_files(settings)):
        await admin.check_stream(config, FILES_COMMAND)
    for consumer in job_consumers():
        await admin.check_consumer(JOBS, consumer, FILES_COMMAND)


async def ensure_files(connection: Connection, settings: Settings) -> None:
    """As ``check_files``, but what is missing is created, and the queue of an earlier version takes urgent jobs, too.

    Raises:
        JetStreamError: something cannot be created, or does not fit.
    """
    admin = _admin(connection, settings)
    await _create_missing(admin, _with_files(settings))
    for config in file_streams(settings):
        if config.name == JOBS:
            await admin.add_subjects(config)
    for consumer in job_consumers():
        await admin.settle_consumer(JOBS, consumer, change=True)
    await check_files(connection, settings)


async def ready_audit(connection: Connection, settings: Settings) -> None:
    """Check that the stream of the audit entries exists, where there is an audit; with ``PROVISION=1`` it is created.

    Raises:
        JetStreamError: it does not, or cannot be created; the line names ``transcriber provision --audit``.
    """
    if not settings.audit:
        return
    admin, config = _admin(connection, settings), audit_stream(settings)
    if settings.provision:
        await _create_missing(admin, [config])
    await admin.check_stream(config, AUDIT_COMMAND)


async def ready_config(connection: Connection, settings: Settings) -> None:
    """With ``PROVISION=1`` create the bucket of live settings, where there is to be one.

    Raises:
        JetStreamError: it cannot be created.
    """
    if settings.config_bucket and settings.provision:
        await _create_missing(_admin(connection, settings), [config_stream(settings)])


async def check_consumer(connection: Connection, settings: Settings, stream: str) -> None:
    """Check that the consumer of an audio stream exists and fits.

    Raises:
        JetStreamError: it does not; the line names ``transcriber provision``.
    """
    config = consumer_config(settings, stream)
    await StreamAdmin(connection).check_consumer(settings.audio_stream, config, f"{COMMAND} {stream}")


async def ensure_consumer(connection: Connection, settings: Settings, stream: str) -> None:
    """Create the consumer of an audio stream, or change it where it can be changed.

    With a wildcard, the broker removes a consumer that was not read for so long that none of its audio is left.

    Raises:
        JetStreamError: it cannot be created, or what differs cannot be changed.
    """
    config = consumer_config(settings, stream)
    if settings.wildcard:
        config = config.evolve(inactive_threshold=settings.audio_max_age_secs)
    await StreamAdmin(connection).settle_consumer(settings.audio_stream, config, change=True)


async def audio_subjects(connection: Connection, settings: Settings) -> Contents:
    """What JetStream stores of this daemon's audio.

    Raises:
        JetStreamError: it does not answer.
    """
    return await StreamAdmin(connection).contents(settings.audio_stream, audio_filter(settings))


async def provision(
    settings: Settings, streams: Sequence[str], *, check: bool, say: Callable[[str], object] = sys.stdout.write
) -> bool:
    """The command: create or change what is needed, a line an object; returns whether all of it was right, or is now.

    Audio is stored for durable mode, by ``settings``, ``streams`` or partitions, and where nothing else is asked for: files need none, and
    beside live daemons with an audit or live settings a stream would keep what nobody reads.

    Args:
        settings: what is needed.
        streams: audio streams whose consumers are wanted; none: those of ``AUDIO_SUBJECT`` that have audio.
        check: change nothing.
        say: where the lines go.

    Raises:
        ConfigError: a name is no stream name.
        JetStreamError: it cannot be done.
    """
    for stream in streams:
        if not STREAM_NAME.fullmatch(stream):
            raise ConfigError(f"{stream!r} is no stream name ([A-Za-z0-9_-], at most 64)")
    audio, text = stream_configs(settings)
    durable = settings.jetstream or bool(streams or settings.partitions) or not _others(settings)
    outcomes: dict[str, str] = {}

    def report(what: str, outcome: str) -> None:
        outcomes[what] = outcome
        say(f"{what} {outcome}\n")

    async with connected(settings, COMMAND) as connection:
        admin = _admin(connection, settings)
        kept = [*([audio] if durable else []), *([text] if durable or settings.files else [])]
        for config in (*kept, *_others(settings)):
            report(f"stream {config.name}", await admin.settle_stream(config, change=not check))
        consumers = [(JOBS, consumer) for consumer in job_consumers()] if settings.files else []
        if durable:
            no_audio = outcomes[f"stream {audio.name}"] == "missing"
            found = streams or await _existing(admin, settings, none=no_audio)
            consumers += [(settings.audio_stream, consumer_config(settings, stream)) for stream in found]
        for stream, consumer in consumers:
            lost = outcomes[f"stream {stream}"] == "missing"
            outcome = "missing" if lost else await admin.settle_consumer(stream, consumer, change=not check)
            report(f"consumer {consumer.name}", outcome)
    return not check or set(outcomes.values()) == {"unchanged"}


def _admin(connection: Connection, settings: Settings) -> StreamAdmin:
    return StreamAdmin(connection, {stream: name.upper() for stream, name in _size_settings(settings).items()})


async def _create_missing(admin: StreamAdmin, configs: Iterable[StreamConfig]) -> None:
    for config in configs:
        if await admin.stream(config) is None:
            await admin.make_stream(config)


def _needed(settings: Settings, configs: Iterable[StreamConfig]) -> list[StreamConfig]:
    """What a daemon needs at least: where the text allows no direct requests, it is read message by message."""
    text = settings.transcript_stream
    return [config.evolve(allow_direct=False) if config.name == text else config for config in configs]


def _others(settings: Settings) -> tuple[StreamConfig, ...]:
    """Beside audio and text: what files need, the audit, and live settings."""
    return (
        *(file_streams(settings) if settings.files else ()),
        *((audit_stream(settings),) if settings.audit else ()),
        *((config_stream(settings),) if settings.config_bucket else ()),
    )


def _with_files(settings: Settings) -> tuple[StreamConfig, ...]:
    return stream_configs(settings)[1], *file_streams(settings)


async def _existing(admin: StreamAdmin, settings: Settings, *, none: bool) -> list[str]:
    """The audio streams of ``AUDIO_SUBJECT``: the one it names, or those that audio is kept of."""
    if not settings.wildcard:
        return [settings.audio_subject.rpartition(".")[2]]
    if none:
        return []
    found = await admin.contents(settings.audio_stream, audio_filter(settings))
    return sorted({subject.rpartition(".")[2] for subject in found.messages})
