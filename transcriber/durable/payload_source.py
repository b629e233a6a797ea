"""Stored audio, payload by payload: what a windower reads, from a consumer or from a file."""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple, Protocol


class Payload(NamedTuple):
    """One stored payload.

    Attributes:
        seq: its stream sequence.
        stored_at: when the broker stored it.
        data, headers: as published.
        lost_before: whether the stream's limits may have removed payloads before it.
        missing: why there is no data where there should be some; None if all is well.
    """

    seq: int
    stored_at: datetime
    data: bytes
    headers: Mapping[str, str] | None
    lost_before: bool = False
    missing: str | None = None


class PayloadSource(Protocol):
    """Audio in numbered payloads that can be read again by their numbers; a ``Consumer`` is one.

    Attributes:
        idle: whether there is surely nothing more at present.
        exhausted: whether nothing more will arrive.
    """

    @property
    def idle(self) -> bool: ...

    @property
    def exhausted(self) -> bool: ...

    async def next(self, timeout_s: float) -> Payload | None:
        """The next payload; None if none arrived in time."""
        ...

    def stop_pulling(self) -> None:
        """Request no more."""
        ...

    async def keepalive(self) -> None:
        """Nothing is taken for a while, but more will be."""
        ...

    async def acknowledge(self, before_seq: int) -> None:
        """Payloads before ``before_seq`` are never needed again."""
        ...
