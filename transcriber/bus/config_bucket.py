"""The bucket of live settings, a key-value store of JetStream's (ADR-8). In: requests. Out: all that was said of each key.

It is read whole when it has changed, by requests: a watcher's consumer would have to be made again after each fault of a broker's.
"""

import logging
from typing import NamedTuple

from nats.js.api import DiscardPolicy, StreamConfig

from transcriber.bus.connection import Connection
from transcriber.bus.jetstream.client import Confirmed, JetStream
from transcriber.bus.jetstream.file_streams import stream_defaults
from transcriber.config import Settings
from transcriber.schema.audit import MAX_NAME

log = logging.getLogger(__name__)

HISTORY = 64
"""Values that are kept of a key, as many as a bucket can have: the latest good one must be among them."""

MAX_VALUE_BYTES, MAX_BYTES = 2**14, 2**24

CHANGED_BY = "Changed-By"
"""Header of a value: who says so, as stated."""

_OPERATION = "KV-Operation"


class Said(NamedTuple):
    """One value of a key; None: it was deleted."""

    key: str
    value: str | None
    revision: int
    by: str


def config_stream(settings: Settings) -> StreamConfig:
    """The stream of the bucket, as every client makes one."""
    return stream_defaults(settings).evolve(
        name=f"KV_{settings.config_bucket}",
        subjects=[f"$KV.{settings.config_bucket}.>"],
        max_msgs_per_subject=HISTORY,
        max_msg_size=MAX_VALUE_BYTES,
        max_bytes=MAX_BYTES,
        discard=DiscardPolicy.NEW,
        duplicate_window=120,
        allow_rollup_hdrs=True,
        allow_direct=True,
        deny_delete=True,
    )


def followed(connection: Connection) -> JetStream:
    """Requests of one who follows a bucket: they are no reason to leave a broker, nor to stay.

    Live audio needs no leader of JetStream's, and the bucket may have its one copy on the broker that is cut off from all others.
    """
    return JetStream(connection, seeks_leader=False)


class ConfigBucket:
    """Event loop only."""

    def __init__(self, jetstream: JetStream, name: str) -> None:
        self._jetstream, self._stream, self._prefix = jetstream, f"KV_{name}", f"$KV.{name}."
        self._seen: tuple[str, int] | None = None
        self._warned = False

    async def changed(self) -> list[Said] | None:
        """All that is kept, the oldest first; None: nothing has changed since the last call.

        Raises:
            UnansweredError, RefusedError: it is not known, and the next call asks again.
        """
        found = await self._jetstream.call(f"STREAM.INFO.{self._stream}")
        self._check_history(found["config"].get("max_msgs_per_subject", -1))
        now = found["created"], found["state"]["last_seq"]
        # A broker that is cut off may answer as of before.
        if self._seen and now[0] == self._seen[0] and now[1] <= self._seen[1]:
            return None
        said = [
            Said(
                stored.subject.removeprefix(self._prefix),
                None if stored.headers.get(_OPERATION) in {"DEL", "PURGE"} else stored.payload.decode(errors="replace"),
                stored.seq,
                stored.headers.get(CHANGED_BY, "")[:MAX_NAME],  # of any client's, which nobody has checked
            )
            async for stored in self._jetstream.paged(self._stream, f"{self._prefix}>")
        ]
        self._seen = now
        return said

    def _check_history(self, kept: int) -> None:
        if 0 < kept < HISTORY and not self._warned:
            self._warned = True
            log.warning(
                "the bucket keeps %d of the values of a key, not %d: of a bad value the good one before it may be gone"
                " for a daemon that starts later",
                kept,
                HISTORY,
            )

    async def put(self, key: str, value: str | None, by: str) -> Confirmed:
        """Say ``value`` of ``key``; None: delete it.

        Raises:
            UnansweredError, RefusedError.
        """
        headers = {CHANGED_BY: by[:MAX_NAME]} | ({_OPERATION: "DEL"} if value is None else {})
        return await self._jetstream.store(f"{self._prefix}{key}", (value or "").encode(), headers)
