"""What durable mode needs of JetStream, made or checked: two streams, and a consumer for each stream of audio.

In: settings. Out: JetStream objects that fit them, or one line that says what does not.

``AUDIO`` keeps what is published on ``audio.*``; with ``PARTITIONS`` the broker stores ``audio.radio-7`` as
``audio.2.radio-7``, so that a daemon can ask for its part alone. ``TRANSCRIPTS`` keeps every message but ``partial``.
"""

import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nats import errors as nats_errors
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
    SubjectTransform,
)

from transcriber.bus.client import connected
from transcriber.bus.connection import Connection
from transcriber.bus.jetstream import PIN_GROUP, PIN_S
from transcriber.config import STREAM_NAME, Settings
from transcriber.errors import ConfigError, JetStreamError

STORED_TYPES = ("final", "silence", "gap", "status", "revision", "end")
"""What is stored. A ``partial`` is worth nothing later: it leaves as a plain message."""

OLDEST_SERVER = (2, 11)
"""The first that heeds ``Nats-Expected-Last-Subject-Sequence-Subject``: before it, two daemons could both write."""

TIMEOUT_S = 5.0
ACK_WAIT_S = 120.0
MAX_ACK_PENDING = 100_000
"""Payloads on their way: half an hour of 20 ms. What is read is bounded by the daemon, never here."""
DEDUPE_S = 120

STREAM_NOT_FOUND, CONSUMER_NOT_FOUND = 10_059, 10_014

DURATIONS = frozenset({"max_age", "duplicate_window", "ack_wait", "inactive_threshold", "priority_timeout"})
"""Nanoseconds, as JetStream has them."""

LIMITS = frozenset({"max_age", "max_bytes", "max_msgs", "max_msg_size", "discard", "num_replicas", "duplicate_window"})
"""What may differ without harm to a daemon: how much is kept is for the operator to say."""

STREAM_NEEDS = (*sorted(LIMITS), "subjects", "subject_transform", "retention", "storage", "max_msgs_per_subject",
                "no_ack", "sealed")  # fmt: skip
CONSUMER_NEEDS = ("filter_subject", "filter_subjects", "ack_policy", "ack_wait", "max_deliver", "max_ack_pending",
                  "deliver_policy", "deliver_subject", "replay_policy", "inactive_threshold", "headers_only", "backoff",
                  "rate_limit_bps", "mem_storage", "priority_groups", "priority_policy", "priority_timeout")  # fmt: skip
FIXED = frozenset({"retention", "storage", "sealed", "filter_subject", "filter_subjects", "ack_policy", "deliver_policy",
                   "deliver_subject", "replay_policy", "mem_storage"})  # fmt: skip
"""What is not changed in place: JetStream refuses it, or audio would be read twice or never."""


def stream_configs(settings: Settings) -> tuple[StreamConfig, StreamConfig]:
    """The streams of the audio and of the text."""
    source, transform = f"{settings.audio_prefix}.*", None
    if settings.partitions:
        parted = f"{settings.audio_prefix}.{{{{partition({settings.partitions},1)}}}}.{{{{wildcard(1)}}}}"
        transform = SubjectTransform(src=source, dest=parted)
    kept = StreamConfig(
        retention=RetentionPolicy.LIMITS,
        discard=DiscardPolicy.OLD,
        storage=StorageType.FILE,
        num_replicas=settings.stream_replicas,
        max_msgs=-1,
    )
    text = [f"{settings.transcript_subject_prefix}.*.{kind}" for kind in STORED_TYPES]
    return (
        kept.evolve(
            name=settings.audio_stream,
            subjects=[source],
            subject_transform=transform,
            max_age=settings.audio_max_age_secs,
            max_bytes=settings.audio_max_bytes,
            duplicate_window=min(DEDUPE_S, settings.audio_max_age_secs),
        ),
        kept.evolve(
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


async def check_streams(connection: Connection, settings: Settings) -> None:
    """See that both streams are there and that a daemon can live with them; their limits are the operator's.

    Raises:
        JetStreamError: they are not; the line names ``transcriber provision``.
    """
    objects = _Objects(connection)
    for config in stream_configs(settings):
        if (found := await objects.stream(config)) is None:
            raise JetStreamError(f"there is no stream {config.name}: run `transcriber provision`, or set PROVISION=1")
        _refuse(f"stream {config.name}", [d for d in _differences(STREAM_NEEDS, config, found) if d[0] not in LIMITS])


async def ensure_streams(connection: Connection, settings: Settings) -> None:
    """As ``check_streams``, but a stream that is missing is made.

    Raises:
        JetStreamError: one cannot be made, or does not fit.
    """
    objects = _Objects(connection)
    for config in stream_configs(settings):
        if await objects.stream(config) is None:
            await objects.make_stream(config)
    await check_streams(connection, settings)


async def check_consumer(connection: Connection, settings: Settings, stream: str) -> None:
    """See that the consumer of an audio stream is there and fits.

    Raises:
        JetStreamError: it is not; the line names ``transcriber provision``.
    """
    config = consumer_config(settings, stream)
    found = await _Objects(connection).consumer(settings.audio_stream, config)
    if found is None:
        raise JetStreamError(
            f"there is no consumer {config.name}: run `transcriber provision {stream}`, or set PROVISION=1"
        )
    _refuse(f"consumer {config.name}", _differences(CONSUMER_NEEDS, config, found))


async def ensure_consumer(connection: Connection, settings: Settings, stream: str) -> None:
    """Make the consumer of an audio stream, or change it where it can be changed.

    Raises:
        JetStreamError: it cannot be made, or what differs cannot be changed.
    """
    await _settle_consumer(_Objects(connection), settings, stream, change=True)


async def audio_subjects(connection: Connection, settings: Settings) -> dict[str, int]:
    """The subjects of this daemon's audio that JetStream keeps messages of, and how many.

    Raises:
        JetStreamError: it does not say.
    """
    return await _Objects(connection).subjects(settings.audio_stream, audio_filter(settings))


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
    async with connected(settings, "transcriber provision") as connection:
        objects = _Objects(connection)
        outcomes = []
        for config in stream_configs(settings):
            outcomes.append(await _settle_stream(objects, config, change=not check))
            say(f"stream {config.name} {outcomes[-1]}\n")
        no_audio = outcomes[0] == "missing"
        for stream in streams or await _present(objects, settings, none=no_audio):
            outcomes.append(
                "missing" if no_audio else await _settle_consumer(objects, settings, stream, change=not check)
            )
            say(f"consumer {consumer_name(stream)} {outcomes[-1]}\n")
    return not check or set(outcomes) == {"unchanged"}


async def _present(objects: "_Objects", settings: Settings, *, none: bool) -> list[str]:
    """The audio streams of ``AUDIO_SUBJECT``: the one it names, or those that audio is kept of."""
    if not settings.wildcard:
        return [settings.audio_subject.rpartition(".")[2]]
    if none:
        return []
    subjects = await objects.subjects(settings.audio_stream, audio_filter(settings))
    return sorted({subject.rpartition(".")[2] for subject in subjects})


async def _settle_stream(objects: "_Objects", config: StreamConfig, *, change: bool) -> str:
    found = await objects.stream(config)
    if found is None:
        if change:
            await objects.make_stream(config)
        return "created" if change else "missing"
    return await _settle(
        f"stream {config.name}",
        _differences(STREAM_NEEDS, config, found),
        lambda changed: objects.change_stream(found | changed),
        change=change,
    )


async def _settle_consumer(objects: "_Objects", settings: Settings, stream: str, *, change: bool) -> str:
    config = consumer_config(settings, stream)
    found = await objects.consumer(settings.audio_stream, config)
    if found is None:
        if change:
            await objects.put_consumer(settings.audio_stream, config.as_dict())
        return "created" if change else "missing"
    return await _settle(
        f"consumer {config.name}",
        _differences(CONSUMER_NEEDS, config, found),
        lambda changed: objects.put_consumer(settings.audio_stream, found | changed),
        change=change,
    )


Difference = tuple[str, Any, Any]
"""A field, what it must be, what it is."""


async def _settle(
    what: str, differences: list[Difference], put: Callable[[dict[str, Any]], Awaitable[None]], *, change: bool
) -> str:
    if not differences:
        return "unchanged"
    if not change:
        return f"differs: {_told(differences)}"
    _refuse(what, [difference for difference in differences if difference[0] in FIXED])
    await put({name: expected for name, expected, _ in differences})
    return "updated"


def _refuse(what: str, differences: list[Difference]) -> None:
    if differences:
        raise JetStreamError(f"{what} does not fit: {_told(differences)}; delete it, or change the settings")


def _told(differences: list[Difference]) -> str:
    return ", ".join(
        f"{name} must be {_shown(name, want)}, is {_shown(name, found)}" for name, want, found in differences
    )


def _shown(name: str, value: Any) -> str:
    if value is None:
        return "unset"
    return f"{value / 1e9:g} s" if name in DURATIONS else json.dumps(value)


def _differences(
    names: Sequence[str], config: StreamConfig | ConsumerConfig, found: dict[str, Any]
) -> list[Difference]:
    wanted = config.as_dict()
    pairs = [(name, wanted.get(name) or None, found.get(name) or None) for name in names]
    return [(name, want, is_) for name, want, is_ in pairs if want != is_ and not _as_good(name, is_)]


def _as_good(name: str, found: Any) -> bool:
    """A consumer made again at a sequence, as it is on servers before 2.14, is ours as well."""
    return name == "deliver_policy" and found == DeliverPolicy.BY_START_SEQUENCE


class _Objects:
    """JetStream's own requests, as they are: what a newer server adds to a configuration survives our update."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        server = connection.client.connected_server_version
        if (server.major, server.minor) < OLDEST_SERVER:
            found, needed = f"{server.major}.{server.minor}.{server.patch}", ".".join(map(str, OLDEST_SERVER))
            raise JetStreamError(f"nats-server {found} is too old for durable mode: it needs {needed} or newer")

    async def stream(self, config: StreamConfig) -> dict[str, Any] | None:
        """The configuration of the stream of that name, as it is; None if there is none."""
        answer = await self._request(f"STREAM.INFO.{config.name}", absent=STREAM_NOT_FOUND)
        return answer and answer["config"]

    async def make_stream(self, config: StreamConfig) -> None:
        await self._request(f"STREAM.CREATE.{config.name}", config.as_dict())

    async def change_stream(self, config: dict[str, Any]) -> None:
        await self._request(f"STREAM.UPDATE.{config['name']}", config)

    async def subjects(self, name: str, pattern: str) -> dict[str, int]:
        """Subjects that messages are kept of, and how many."""
        found: dict[str, int] = {}
        while True:
            asked = {"subjects_filter": pattern, "offset": len(found)}
            answer = await self._request(f"STREAM.INFO.{name}", asked) or {}
            page = answer["state"].get("subjects") or {}
            found |= page
            if not page or len(found) >= answer.get("total", 0):
                return found

    async def consumer(self, stream: str, config: ConsumerConfig) -> dict[str, Any] | None:
        """The configuration of the consumer of that name, as it is; None if there is none."""
        answer = await self._request(f"CONSUMER.INFO.{stream}.{config.name}", absent=CONSUMER_NOT_FOUND)
        return answer and answer["config"]

    async def put_consumer(self, stream: str, config: dict[str, Any]) -> None:
        """Make or change a consumer."""
        call = f"CONSUMER.CREATE.{stream}.{config['name']}.{config['filter_subject']}"
        await self._request(call, {"stream_name": stream, "config": config})

    async def _request(
        self, call: str, body: dict[str, Any] | None = None, *, absent: int | None = None
    ) -> dict[str, Any] | None:
        """Ask JetStream; None for the error ``absent``.

        Raises:
            JetStreamError: it refuses, or does not answer.
            BrokerError: the request, or its answer, is denied to us.
        """
        subject = f"$JS.API.{call}"
        try:
            message = await self._connection.request(subject, json.dumps(body).encode() if body else b"", TIMEOUT_S)
        except nats_errors.NoRespondersError:
            raise JetStreamError("JetStream is off on this broker, or for this account") from None
        except (TimeoutError, nats_errors.Error) as error:
            raise JetStreamError(f"no answer to {subject}: {str(error) or 'timeout'}") from None
        answer: dict[str, Any] = json.loads(message.data)
        if refusal := answer.get("error"):
            if refusal.get("err_code") == absent:
                return None
            raise JetStreamError(f"JetStream refuses {call}: {refusal.get('description')} ({refusal.get('err_code')})")
        return answer
