"""What durable mode and files need of JetStream, made or checked: streams, and a consumer for each stream of audio.

In: settings. Out: JetStream objects that fit them, or one line that says what does not.

``AUDIO`` keeps what is published on ``audio.*``; with ``PARTITIONS`` the broker stores ``audio.radio-7`` as
``audio.2.radio-7``, so that a daemon can ask for its part alone. ``TRANSCRIPTS`` keeps every message but ``partial`` and
``progress``.
"""

import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StreamConfig, SubjectTransform

from transcriber.bus.client_session import connected
from transcriber.bus.connection import Connection
from transcriber.bus.jetstream.admin import Contents, StreamAdmin
from transcriber.bus.jetstream.client import PIN_GROUP, PIN_S
from transcriber.bus.jetstream.file_streams import (
    DEDUPE_S,
    FILES_BUCKET,
    JOBS,
    RESULTS_BUCKET,
    file_streams,
    job_consumer,
    kept,
)
from transcriber.bus.object_store.bucket import stream_of
from transcriber.config import Settings
from transcriber.errors import ConfigError
from transcriber.schema.subjects import STREAM_NAME

log = logging.getLogger(__name__)

COMMAND = "transcriber provision"
FILES_COMMAND = f"{COMMAND} --files"

STORED_TYPES = ("final", "silence", "gap", "status", "revision", "end")
"""What is stored. A ``partial`` or ``progress`` is worth nothing later: it leaves as a plain message."""

ACK_WAIT_S = 120.0
MIN_STREAM_BYTES = 2**20
"""The least that a setting allows."""

MAX_ACK_PENDING = 100_000
"""Payloads on their way: half an hour of 20 ms. What is read is bounded by the daemon, never here."""


def stream_configs(settings: Settings) -> tuple[StreamConfig, StreamConfig]:
    """The streams of the audio and of the text."""
    source, transform = f"{settings.audio_prefix}.*", None
    if settings.partitions:
        parted = f"{settings.audio_prefix}.{{{{partition({settings.partitions},1)}}}}.{{{{wildcard(1)}}}}"
        transform = SubjectTransform(src=source, dest=parted)
    limits = kept(settings)
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
        ),
    )


def consumer_name(stream: str) -> str:
    """The durable consumer of an audio stream."""
    return f"transcriber-{stream}"


def stored_subject(settings: Settings, stream: str) -> str:
    """What the audio of ``stream`` is stored as; any part, so that it is found after ``PARTITIONS`` has changed."""
    return f"{settings.audio_prefix}.{'*.' if settings.partitions else ''}{stream}"


def audio_filter(settings: Settings) -> str:
    """What the audio of this daemon is stored as: ``audio.*``, ``audio.2.*`` or ``audio.radio-7``."""
    stream = settings.audio_subject.rpartition(".")[2]
    if settings.partition is None:
        return stored_subject(settings, stream)
    return f"{settings.audio_prefix}.{settings.partition}.{stream}"


@dataclass
class PinnedConsumerConfig(ConsumerConfig):
    """With what nats-py does not know yet: of those who ask for messages one is served, until it asks no more (ADR-42)."""

    priority_groups: list[str] | None = None
    priority_policy: str | None = None
    priority_timeout: float | None = None  # seconds

    def as_dict(self) -> dict[str, Any]:
        return super().as_dict() | {"priority_timeout": self._to_nanoseconds(self.priority_timeout)}


def consumer_config(settings: Settings, stream: str) -> PinnedConsumerConfig:
    """The consumer of one audio stream. ``all`` acknowledges whatever came before, in order."""
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
    }


def fitted_to_disk(settings: Settings, free_bytes: int) -> Settings:
    """Settings whose streams have room where so much is free, for a broker of our own; what somebody has set stays.

    Raises:
        ConfigError: there is not enough even for small ones.
    """
    audio, text = stream_configs(settings)
    configs = [*([audio] if settings.jetstream else []), text, *(file_streams(settings) if settings.files else ())]
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
    """See that both streams are there and that a daemon can live with them; their limits are the operator's.

    Raises:
        JetStreamError: they are not; the line names ``transcriber provision``.
    """
    objects = StreamAdmin(connection)
    for config in stream_configs(settings):
        await objects.check_stream(config, COMMAND)


async def ensure_streams(connection: Connection, settings: Settings) -> None:
    """As ``check_streams``, but a stream that is missing is made.

    Raises:
        JetStreamError: one cannot be made, or does not fit.
    """
    await _make_missing(_objects(connection, settings), stream_configs(settings))
    await check_streams(connection, settings)


async def check_files(connection: Connection, settings: Settings) -> None:
    """As ``check_streams``, for what files need: the stream of the text, two buckets, the jobs and their records.

    Raises:
        JetStreamError: something is not there, or does not fit; the line names ``transcriber provision --files``.
    """
    objects = StreamAdmin(connection)
    for config in _with_files(settings):
        await objects.check_stream(config, FILES_COMMAND)
    await objects.check_consumer(JOBS, job_consumer(), FILES_COMMAND)


async def ensure_files(connection: Connection, settings: Settings) -> None:
    """As ``check_files``, but what is missing is made.

    Raises:
        JetStreamError: something cannot be made, or does not fit.
    """
    objects = _objects(connection, settings)
    await _make_missing(objects, _with_files(settings))
    await objects.settle_consumer(JOBS, job_consumer(), change=True)
    await check_files(connection, settings)


async def check_consumer(connection: Connection, settings: Settings, stream: str) -> None:
    """See that the consumer of an audio stream is there and fits.

    Raises:
        JetStreamError: it is not; the line names ``transcriber provision``.
    """
    config = consumer_config(settings, stream)
    await StreamAdmin(connection).check_consumer(settings.audio_stream, config, f"{COMMAND} {stream}")


async def ensure_consumer(connection: Connection, settings: Settings, stream: str) -> None:
    """Make the consumer of an audio stream, or change it where it can be changed.

    Of many streams that come and go the broker removes it when nobody has asked it for audio for so long that none is left.

    Raises:
        JetStreamError: it cannot be made, or what differs cannot be changed.
    """
    config = consumer_config(settings, stream)
    if settings.wildcard:
        config = config.evolve(inactive_threshold=settings.audio_max_age_secs)
    await StreamAdmin(connection).settle_consumer(settings.audio_stream, config, change=True)


async def audio_subjects(connection: Connection, settings: Settings) -> Contents:
    """What JetStream keeps of this daemon's audio.

    Raises:
        JetStreamError: it does not say.
    """
    return await StreamAdmin(connection).contents(settings.audio_stream, audio_filter(settings))


async def provision(
    settings: Settings, streams: Sequence[str], *, check: bool, say: Callable[[str], object] = sys.stdout.write
) -> bool:
    """The command: make or change what is needed, a line an object; returns whether all of it was, or is now, right.

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
    # Who works through files alone has no stored audio.
    durable = settings.jetstream or bool(streams) or not settings.files
    outcomes: dict[str, str] = {}

    def told(what: str, outcome: str) -> None:
        outcomes[what] = outcome
        say(f"{what} {outcome}\n")

    async with connected(settings, COMMAND) as connection:
        objects = _objects(connection, settings)
        for config in (*([audio] if durable else []), text, *(file_streams(settings) if settings.files else ())):
            told(f"stream {config.name}", await objects.settle_stream(config, change=not check))
        consumers = [(JOBS, job_consumer())] if settings.files else []
        if durable:
            no_audio = outcomes[f"stream {audio.name}"] == "missing"
            found = streams or await _present(objects, settings, none=no_audio)
            consumers += [(settings.audio_stream, consumer_config(settings, stream)) for stream in found]
        for stream, consumer in consumers:
            lost = outcomes[f"stream {stream}"] == "missing"
            outcome = "missing" if lost else await objects.settle_consumer(stream, consumer, change=not check)
            told(f"consumer {consumer.name}", outcome)
    return not check or set(outcomes.values()) == {"unchanged"}


def _objects(connection: Connection, settings: Settings) -> StreamAdmin:
    return StreamAdmin(connection, {stream: name.upper() for stream, name in _size_settings(settings).items()})


async def _make_missing(objects: StreamAdmin, configs: Iterable[StreamConfig]) -> None:
    for config in configs:
        if await objects.stream(config) is None:
            await objects.make_stream(config)


def _with_files(settings: Settings) -> tuple[StreamConfig, ...]:
    return stream_configs(settings)[1], *file_streams(settings)


async def _present(objects: StreamAdmin, settings: Settings, *, none: bool) -> list[str]:
    """The audio streams of ``AUDIO_SUBJECT``: the one it names, or those that audio is kept of."""
    if not settings.wildcard:
        return [settings.audio_subject.rpartition(".")[2]]
    if none:
        return []
    found = await objects.contents(settings.audio_stream, audio_filter(settings))
    return sorted({subject.rpartition(".")[2] for subject in found.messages})
