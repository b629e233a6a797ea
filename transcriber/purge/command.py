"""The command ``transcriber purge``. In: a target. Out: what was removed, by place, and an exit status.

It finds what there is, asks, checks whether it may be removed now, writes the audit entry, stops what is at work on it, finds again,
removes, and looks whether anything is left. What an audit entry says before and after is counts and bytes, never text or audio.
"""

import asyncio
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from transcriber.bus.audit import AuditLog
from transcriber.bus.client_session import connected
from transcriber.bus.jetstream.client import JetStream
from transcriber.clients.transcribe import submitter
from transcriber.config import Settings, mask
from transcriber.errors import ConfigError, ObjectError, RefusedError, RequestError, UnansweredError
from transcriber.purge.jobs import JobPurge
from transcriber.purge.places import Place, Shelves, joined
from transcriber.purge.streams import NotPurgedError, StreamPurge
from transcriber.purge.target import Target
from transcriber.schema.audit import Removed
from transcriber.terminal.output_files import reader_may_leave


@dataclass(frozen=True, slots=True)
class Options:
    """How to purge.

    Attributes:
        yes: do not ask.
        dry_run: only say what would be removed.
        as_json: say it in JSON.
        end: end an open session first.
        every: all recordings with the session's id.
        before: only what was stored before that; None: all.
        by: who does it, for the audit.
    """

    yes: bool = False
    dry_run: bool = False
    as_json: bool = False
    end: bool = False
    every: bool = False
    before: datetime | None = None
    by: str = ""


async def purge(settings: Settings, target: Target, options: Options) -> int:
    """Remove what is stored of ``target``.

    Returns:
        Exit status: 1 if nothing is stored of it, it cannot be removed now, or the answer is no.

    Raises:
        StartError: no broker, or options that do not go together.
    """
    if options.before is not None and not (target.stream and target.session is None):
        raise ConfigError("--older-than is for a whole stream: sessions and jobs are purged as a whole")
    async with connected(settings, "transcriber purge") as connection:
        jetstream = JetStream(connection)
        audit = AuditLog(jetstream, settings, submitter())
        try:
            return await _Purge(Shelves(jetstream), audit, settings, target, options).run()
        except (NotPurgedError, UnansweredError, RefusedError, RequestError, ObjectError) as error:
            sys.stderr.write(f"transcriber: {target}: {mask(str(error))}\n")
            return 1


class _Purge:
    """Event loop only."""

    def __init__(self, shelves: Shelves, audit: AuditLog, settings: Settings, target: Target, options: Options) -> None:
        self._shelves, self._audit, self._target, self._options = shelves, audit, target, options
        self._of = (
            JobPurge(shelves, settings, target.job)
            if target.job
            else StreamPurge(shelves, settings, target, every=options.every, before=options.before)
        )

    async def run(self) -> int:
        places = await self._find()
        if not places:
            return self._nothing()
        if self._options.dry_run:
            self._say(places)
            return 0
        if not self._options.yes and not await self._confirmed(places):
            sys.stderr.write("transcriber: nothing was removed\n")
            return 1
        await self._of.check(end=self._options.end)
        await self._write("begun", places)  # to end a session or to cancel a job is on record, too
        erased = await self._of.stop()
        found = await self._find()
        await self._shelves.erase(found)
        places = joined(found, erased)
        left = await self._left(places)
        await self._write("done", places)
        if left:
            raise NotPurgedError(f"{left} messages are still stored: run it again")
        self._say(places)
        return 0

    async def _find(self) -> list[Place]:
        return [place for place in await self._of.find() if place.sequences]

    async def _left(self, places: Iterable[Place]) -> int:
        """How many of the messages that were to be removed are stored."""
        removed = {(place.stream, seq) for place in places for seq in place.sequences}
        return sum((place.stream, seq) in removed for place in await self._find() for seq in place.sequences)

    def _nothing(self) -> int:
        """With ``before`` that is as it should be."""
        if self._options.before is not None:
            self._say([])
            return 0
        hint = "" if self._target.job or self._target.session else "; a session is STREAM/SESSION, a job job=ID"
        sys.stderr.write(f"transcriber: {self._target}: nothing is stored of it{hint}\n")
        return 1

    async def _confirmed(self, places: list[Place]) -> bool:
        if not sys.stdin.isatty():
            raise ConfigError(
                "stdin is no terminal that could be asked: --yes removes without asking, --dry-run nothing"
            )
        sys.stderr.writelines(_lines(place.removed for place in places))
        sys.stderr.write(f"remove all of it, for good? Type {self._target} to confirm: ")
        sys.stderr.flush()
        answer: str = await asyncio.to_thread(sys.stdin.readline)
        return answer.strip() == str(self._target)

    async def _write(self, phase: str, places: list[Place]) -> None:
        await self._audit.write(
            "purged",
            by=self._options.by,
            phase=phase,
            stream=self._target.stream or None,
            session=self._target.session,
            job=self._target.job,
            before=self._options.before,
            removed=tuple(place.removed for place in places),
        )

    def _say(self, places: list[Place]) -> None:
        found = [place.removed for place in places]
        with reader_may_leave():
            if self._options.as_json:
                said = {
                    "target": str(self._target),
                    "dry_run": self._options.dry_run,
                    "removed": [one.model_dump() for one in found],
                    "messages": sum(one.messages for one in found),
                    "bytes": sum(one.bytes for one in found),
                }
                sys.stdout.write(json.dumps(said) + "\n")
            else:
                sys.stdout.writelines(_lines(found))
                done = "would be removed" if self._options.dry_run else "removed"
                sys.stdout.write(f"{self._target}: {sum(one.messages for one in found)} messages, "
                                 f"{sum(one.bytes for one in found)} bytes {done}\n")  # fmt: skip
            sys.stdout.flush()


def _lines(removed: Iterable[Removed]) -> list[str]:
    return [f"{one.place:8}{one.stream:18}{one.messages:>9} messages {one.bytes:>13} bytes\n" for one in removed]
