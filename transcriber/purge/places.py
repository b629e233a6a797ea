"""Where something is stored. In: JetStream's messages. Out: places, with the sequences and bytes of what is to be removed."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from transcriber.bus.jetstream.admin import STREAM_NOT_FOUND
from transcriber.bus.jetstream.client import JetStream, Stored
from transcriber.bus.jetstream.stored_messages import Listed, erase, listed
from transcriber.errors import RefusedError
from transcriber.schema.audit import PlaceName, Removed


@dataclass(slots=True)
class Place:
    """Messages of one JetStream stream.

    Attributes:
        name: what they hold.
        stream: that stores them.
        sequences: of those that are to be removed.
        size_bytes: of their payloads.
    """

    name: PlaceName
    stream: str
    sequences: list[int] = field(default_factory=list)
    size_bytes: int = 0

    def add(self, one: Listed | Stored | None) -> None:
        """Count a message in; None is none."""
        if one is not None:
            self.sequences.append(one.seq)
            self.size_bytes += one.size_bytes if isinstance(one, Listed) else len(one.payload)

    def join(self, other: "Place") -> None:
        """Count in what is ``other``'s."""
        self.sequences += other.sequences
        self.size_bytes += other.size_bytes

    @property
    def removed(self) -> Removed:
        """As it is reported."""
        return Removed(place=self.name, stream=self.stream, messages=len(self.sequences), bytes=self.size_bytes)


def joined(places: list[Place], more: list[Place]) -> list[Place]:
    """``places``, with what ``more`` has of the same name."""
    found = {place.name: place for place in places}
    for place in more:
        if place.sequences:
            found.setdefault(place.name, Place(place.name, place.stream)).join(place)
    return list(found.values())


class Shelves:
    """Reads what streams hold; one that does not exist holds nothing. Event loop only."""

    def __init__(self, jetstream: JetStream) -> None:
        self.jetstream = jetstream

    async def last_seq(self, stream: str) -> int:
        """Of the newest message; 0 if there is no such stream.

        Raises:
            UnansweredError, RefusedError.
        """
        try:
            return int((await self.jetstream.call(f"STREAM.INFO.{stream}"))["state"]["last_seq"])
        except RefusedError as error:
            if error.code != STREAM_NOT_FOUND:
                raise
            return 0

    async def listed(
        self, stream: str, subject: str, last_seq: int | None = None, *, payloads: bool = False
    ) -> AsyncIterator[Listed]:
        """The messages of ``subject`` up to ``last_seq``; None: up to what is the newest now.

        Raises:
            UnansweredError, RefusedError.
        """
        newest = await self.last_seq(stream)
        if newest:
            until = newest if last_seq is None else min(newest, last_seq)
            async for one in listed(self.jetstream, stream, subject, until, payloads=payloads):
                yield one

    async def last(self, stream: str, subject: str) -> Stored | None:
        """The newest message of ``subject``.

        Raises:
            UnansweredError, RefusedError.
        """
        try:
            return await self.jetstream.message(stream, last_by_subj=subject)
        except RefusedError as error:
            if error.code != STREAM_NOT_FOUND:
                raise
            return None

    async def erase(self, places: list[Place]) -> None:
        """Remove them, and overwrite their bytes.

        Raises:
            UnansweredError: not all are removed. RefusedError.
        """
        for place in places:
            await erase(self.jetstream, place.stream, place.sequences)
