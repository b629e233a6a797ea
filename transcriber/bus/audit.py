"""The audit stream: who submitted, cancelled, purged, swapped or read what. In: an entry. Out: the entry, stored, or an error.

A program that writes entries may publish them and nothing else: the stream refuses to delete or purge messages (``deny_delete``,
``deny_purge``), and reading it needs a right of its own.
"""

from datetime import UTC, datetime
from typing import Any

from nats.js.api import StreamConfig

from transcriber.bus.jetstream.client import JetStream
from transcriber.bus.jetstream.file_streams import DEDUPE_S, stream_defaults
from transcriber.config import Settings
from transcriber.errors import RefusedError, UnansweredError
from transcriber.schema.audit import AuditEntry, AuditEvent
from transcriber.schema.subjects import AUDIT_SUBJECT


def audit_stream(settings: Settings) -> StreamConfig:
    """The stream of the entries; what is in it only its limits remove."""
    return stream_defaults(settings).evolve(
        name=settings.audit_stream,
        subjects=[f"{AUDIT_SUBJECT}.*"],
        max_age=settings.audit_max_age_secs,
        max_bytes=settings.audit_max_bytes,
        duplicate_window=min(DEDUPE_S, settings.audit_max_age_secs),
        deny_delete=True,
        deny_purge=True,
    )


class AuditLog:
    """Event loop only.

    Attributes:
        on: whether entries are written (``AUDIT=1``).
    """

    def __init__(self, jetstream: JetStream, settings: Settings, writer: str) -> None:
        """``writer``: the name of this program."""
        self.on = settings.audit
        self._jetstream, self._writer = jetstream, writer

    async def write(self, event: AuditEvent, *, by: str, key: str = "", **fields: Any) -> None:
        """Store an entry, if there is an audit. ``key``: an entry with the same one, within two minutes, is not stored twice.

        Raises:
            UnansweredError: it is not known to be stored; what it is about must not be answered as done.
        """
        if not self.on:
            return
        known_by = fields.pop("known_by", "stated")
        entry = AuditEntry(
            event=event, at=datetime.now(UTC), by=by[:1000], known_by=known_by, writer=self._writer, **fields
        )
        headers = {"Nats-Msg-Id": f"{event}:{key}"} if key else {}
        try:
            await self._jetstream.store(
                f"{AUDIT_SUBJECT}.{event}", entry.model_dump_json(by_alias=True).encode(), headers
            )
        except (UnansweredError, RefusedError) as error:
            raise UnansweredError(f"the audit entry is not stored: {error}", error.code) from None
