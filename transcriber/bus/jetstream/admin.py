"""JetStream's streams and consumers: checked against a configuration, created, or changed.

In: a configuration as it must be. Out: what was done, in one word, or one line that says what does not fit.
"""

import asyncio
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
NO_STORAGE, NO_PEERS = 10_047, 10_005
"""A stream would reserve more than there is; no brokers of a cluster can take it, for that or another reason."""
NO_STORAGE_PAUSES_S = (0.0, 0.05, 0.1, 0.2)
"""Before each try, as long as there is no room: another's request for the same stream may hold that room for a moment."""

DURATIONS = frozenset({"max_age", "duplicate_window", "ack_wait", "inactive_threshold", "priority_timeout"})
"""Nanoseconds, as JetStream has them."""

LIMITS = frozenset({"max_age", "max_bytes", "max_msgs", "max_msg_size", "discard", "num_replicas", "duplicate_window"})
"""What may differ without harm to a daemon: the operator decides how much is kept."""

ABILITIES = frozenset({"allow_direct", "allow_rollup_hdrs", "deny_delete", "deny_purge"})
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


def _refuse(what: str, differences: list[Difference], command: str = "") -> None:
    """``command`` changes what is not ``FIXED``; to delete a queue would lose its jobs."""
    if not differences:
        return
    mend = f"run `{command}`, which changes it" if FIXED.isdisjoint(name for name, *_ in differences) else "delete it"
    raise JetStreamError(f"{what} does not fit: {_described(differences)}; {mend}, or change the settings")


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

    async def add_subjects(self, config: StreamConfig) -> None:
        """Give a stream that exists the subjects that it lacks; all else stays as it is.

        Raises:
            JetStreamError: it cannot be changed.
        """
        found = await self.stream(config) or {}
        subjects = found.get("subjects") or []
        if lacking := [subject for subject in config.subjects or [] if subject not in subjects]:
            await self.change_stream(found | {"subjects": subjects + lacking})

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
            JetStreamError: it does not; the line names ``command``, which creates or changes it.
        """
        if (found := await self.stream(config)) is None:
            raise JetStreamError(f"there is no stream {config.name}: run `{command}`, or set PROVISION=1")
        needs = [name for name in STREAM_NEEDS if name not in LIMITS]
        _refuse(f"stream {config.name}", _differences(needs, config, found), command)

    async def check_consumer(self, stream: str, config: ConsumerConfig, command: str) -> None:
        """Check that it exists and fits.

        Raises:
            JetStreamError: it does not; the line names ``command``, which creates or changes it.
        """
        if (found := await self.consumer(stream, config)) is None:
            raise JetStreamError(f"there is no consumer {config.name}: run `{command}`, or set PROVISION=1")
        _refuse(f"consumer {config.name}", _differences(CONSUMER_NEEDS, config, found), command)

    async def stream(self, config: StreamConfig) -> dict[str, Any] | None:
        """The configuration of the stream of that name, as JetStream has it; None if there is none."""
        answer = await self._request(f"STREAM.INFO.{config.name}", absent=STREAM_NOT_FOUND)
        return answer and answer["config"]

    async def make_stream(self, config: StreamConfig) -> None:
        """Create a stream, or find that another daemon has just done so.

        The broker wants room for it a second time before it notices that the stream exists, so that of daemons that
        start together on a small disk all but the first would be refused.

        Raises:
            JetStreamError: it cannot be made.
        """
        for pause_s in NO_STORAGE_PAUSES_S:
            await asyncio.sleep(pause_s)
            if await self._has_put_stream("CREATE", config.as_dict()) or await self.stream(config) is not None:
                return
        raise self._no_room(config.as_dict())

    async def change_stream(self, config: dict[str, Any]) -> None:
        """Change a stream to this configuration.

        Raises:
            JetStreamError: it cannot be changed.
        """
        if not await self._has_put_stream("UPDATE", config):
            raise self._no_room(config)

    async def _has_put_stream(self, call: str, config: dict[str, Any]) -> bool:
        """Whether there was room for it."""
        return await self._request(f"STREAM.{call}.{config['name']}", config, absent=NO_STORAGE) is not None

    def _no_room(self, config: dict[str, Any]) -> JetStreamError:
        name, size_bytes = config["name"], config["max_bytes"]
        setting = self._size_settings.get(name)
        size = f"{setting}={size_bytes}" if setting else f"{size_bytes} bytes"
        return JetStreamError(f"the broker has no room for the stream {name}: {size} is more than it has left")

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
            code, description = refusal.get("err_code"), str(refusal.get("description"))
            if code == NO_PEERS and "insufficient storage" in description:
                code = NO_STORAGE
            if code == absent:
                return None
            raise JetStreamError(f"JetStream refuses {call}: {description} ({refusal.get('err_code')})")
        return answer
