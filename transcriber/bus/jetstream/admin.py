"""JetStream's streams and consumers: checked against a configuration, created, or changed.

In: a configuration as it must be. Out: what was done, in one word, or one line that says what does not fit.
"""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from nats import errors as nats_errors
from nats.js.api import ConsumerConfig, DeliverPolicy, StreamConfig

from transcriber.bus.connection import Connection
from transcriber.bus.jetstream.client import parse_answer
from transcriber.errors import JetStreamError

OLDEST_SERVER = (2, 11)
"""The first that obeys ``Nats-Expected-Last-Subject-Sequence-Subject``: before it, two daemons could both write."""

TIMEOUT_S = 5.0

STREAM_NOT_FOUND, CONSUMER_NOT_FOUND = 10_059, 10_014
NO_STORAGE = 10_047
"""A stream would reserve more than there is."""

DURATIONS = frozenset({"max_age", "duplicate_window", "ack_wait", "inactive_threshold", "priority_timeout"})
"""Nanoseconds, as JetStream has them."""

LIMITS = frozenset({"max_age", "max_bytes", "max_msgs", "max_msg_size", "discard", "num_replicas", "duplicate_window"})
"""What may differ without harm to a daemon: the operator decides how much is kept."""

ABILITIES = frozenset({"allow_direct", "allow_rollup_hdrs"})
"""What a stream must have if it is wanted, and may have if not."""

STREAM_NEEDS = (*sorted(LIMITS), "subjects", "subject_transform", "retention", "storage", "max_msgs_per_subject",
                "no_ack", "sealed", *sorted(ABILITIES))  # fmt: skip
CONSUMER_NEEDS = ("filter_subject", "filter_subjects", "ack_policy", "ack_wait", "max_deliver", "max_ack_pending",
                  "deliver_policy", "deliver_subject", "replay_policy", "headers_only", "backoff",
                  "rate_limit_bps", "mem_storage", "priority_groups", "priority_policy", "priority_timeout")  # fmt: skip
FIXED = frozenset({"retention", "storage", "sealed", "filter_subject", "filter_subjects", "ack_policy", "deliver_policy",
                   "deliver_subject", "replay_policy", "mem_storage"})  # fmt: skip
"""What is not changed in place: JetStream refuses it, or audio would be read twice or never."""


class Contents(NamedTuple):
    """What a stream keeps.

    Attributes:
        messages: how many, by subject.
        first_seq, last_seq: of the whole stream; the last one may be gone already.
        made_at: when the stream was made.
    """

    messages: dict[str, int]
    first_seq: int
    last_seq: int
    made_at: datetime


Difference = tuple[str, Any, Any]
"""A field, what it must be, what it is."""


async def _settle(
    what: str, differences: list[Difference], put: Callable[[dict[str, Any]], Awaitable[None]], *, change: bool
) -> str:
    if not differences:
        return "unchanged"
    if not change:
        return f"differs: {_described(differences)}"
    _refuse(what, [difference for difference in differences if difference[0] in FIXED])
    await put({name: expected for name, expected, _ in differences})
    return "updated"


def _refuse(what: str, differences: list[Difference]) -> None:
    if differences:
        raise JetStreamError(f"{what} does not fit: {_described(differences)}; delete it, or change the settings")


def _described(differences: list[Difference]) -> str:
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
    return [(name, want, is_) for name, want, is_ in pairs if want != is_ and not _as_good(name, want, is_)]


def _as_good(name: str, want: Any, found: Any) -> bool:
    """A consumer that was recreated at a sequence, as on servers before 2.14, is ours, too; and more than is needed is enough."""
    return (name == "deliver_policy" and found == DeliverPolicy.BY_START_SEQUENCE) or (name in ABILITIES and not want)


class StreamAdmin:
    """JetStream's own requests: what a newer server adds to a configuration survives our update. Event loop only."""

    def __init__(self, connection: Connection, size_settings: Mapping[str, str] | None = None) -> None:
        """``size_settings``: by stream, the setting that says how many bytes it may have."""
        self._connection = connection
        self._size_settings = size_settings or {}
        server = connection.client.connected_server_version
        if (server.major, server.minor) < OLDEST_SERVER:
            found, needed = f"{server.major}.{server.minor}.{server.patch}", ".".join(map(str, OLDEST_SERVER))
            raise JetStreamError(
                f"nats-server {found} is too old for durable mode and files: they need {needed} or newer"
            )

    async def settle_stream(self, config: StreamConfig, *, change: bool) -> str:
        """``created``, ``updated`` or ``unchanged``; without ``change`` also ``missing`` or ``differs: ...``.

        Raises:
            JetStreamError: it cannot be made, or what differs cannot be changed.
        """
        found = await self.stream(config)
        if found is None:
            if change:
                await self.make_stream(config)
            return "created" if change else "missing"
        return await _settle(
            f"stream {config.name}",
            _differences(STREAM_NEEDS, config, found),
            lambda changed: self.change_stream(found | changed),
            change=change,
        )

    async def settle_consumer(self, stream: str, config: ConsumerConfig, *, change: bool) -> str:
        """As ``settle_stream``."""
        found = await self.consumer(stream, config)
        if found is None:
            if change:
                await self.put_consumer(stream, config.as_dict())
            return "created" if change else "missing"
        return await _settle(
            f"consumer {config.name}",
            _differences(CONSUMER_NEEDS, config, found),
            lambda changed: self.put_consumer(stream, found | changed),
            change=change,
        )

    async def check_stream(self, config: StreamConfig, command: str) -> None:
        """Check that it exists and that a daemon can live with it; its limits are the operator's.

        Raises:
            JetStreamError: it does not; the line names ``command``, which creates it.
        """
        if (found := await self.stream(config)) is None:
            raise JetStreamError(f"there is no stream {config.name}: run `{command}`, or set PROVISION=1")
        _refuse(f"stream {config.name}", [d for d in _differences(STREAM_NEEDS, config, found) if d[0] not in LIMITS])

    async def check_consumer(self, stream: str, config: ConsumerConfig, command: str) -> None:
        """Check that it exists and fits.

        Raises:
            JetStreamError: it does not; the line names ``command``, which creates it.
        """
        if (found := await self.consumer(stream, config)) is None:
            raise JetStreamError(f"there is no consumer {config.name}: run `{command}`, or set PROVISION=1")
        _refuse(f"consumer {config.name}", _differences(CONSUMER_NEEDS, config, found))

    async def stream(self, config: StreamConfig) -> dict[str, Any] | None:
        """The configuration of the stream of that name, as JetStream has it; None if there is none."""
        answer = await self._request(f"STREAM.INFO.{config.name}", absent=STREAM_NOT_FOUND)
        return answer and answer["config"]

    async def make_stream(self, config: StreamConfig) -> None:
        await self._put_stream("CREATE", config.as_dict())

    async def change_stream(self, config: dict[str, Any]) -> None:
        await self._put_stream("UPDATE", config)

    async def _put_stream(self, call: str, config: dict[str, Any]) -> None:
        name = config["name"]
        answer = await self._request(f"STREAM.{call}.{name}", config, absent=NO_STORAGE)
        if answer is None:
            setting = self._size_settings.get(name)
            size = f"{setting}={config['max_bytes']}" if setting else f"{config['max_bytes']} bytes"
            raise JetStreamError(f"the broker has no room for the stream {name}: {size} is more than it has left")

    async def contents(self, name: str, pattern: str) -> Contents:
        """What a stream keeps of the subjects that match ``pattern``."""
        found: dict[str, int] = {}
        while True:
            body = {"subjects_filter": pattern, "offset": len(found)}
            answer = await self._request(f"STREAM.INFO.{name}", body) or {}
            state = answer["state"]
            page = state.get("subjects") or {}
            found |= page
            if not page or len(found) >= answer.get("total", 0):
                made_at = datetime.fromisoformat(answer["created"])
                return Contents(found, state["first_seq"], state["last_seq"], made_at)

    async def consumer(self, stream: str, config: ConsumerConfig) -> dict[str, Any] | None:
        """The configuration of the consumer of that name, as JetStream has it; None if there is none."""
        answer = await self._request(f"CONSUMER.INFO.{stream}.{config.name}", absent=CONSUMER_NOT_FOUND)
        return answer and answer["config"]

    async def put_consumer(self, stream: str, config: dict[str, Any]) -> None:
        """Create or change a consumer."""
        call = f"CONSUMER.CREATE.{stream}.{config['name']}.{config['filter_subject']}"
        await self._request(call, {"stream_name": stream, "config": config})

    async def _request(
        self, call: str, body: dict[str, Any] | None = None, *, absent: int | None = None
    ) -> dict[str, Any] | None:
        """A request to JetStream; None for the error ``absent``.

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
        if (answer := parse_answer(message)) is None:
            raise JetStreamError(f"the answer to {subject} is none of JetStream's")
        if refusal := answer.get("error"):
            if refusal.get("err_code") == absent:
                return None
            raise JetStreamError(f"JetStream refuses {call}: {refusal.get('description')} ({refusal.get('err_code')})")
        return answer
