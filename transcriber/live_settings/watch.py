"""Follows a bucket or a file. In: what it says, asked for twice a second. Out: ``LiveSettings`` that follow it.

When it cannot be read, all stays as it is, and a warning says so.
"""

import asyncio
import logging
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from transcriber.bus.config_bucket import ConfigBucket
from transcriber.errors import RefusedError, UnansweredError
from transcriber.live_settings.layers import Entry
from transcriber.live_settings.live import LiveSettings
from transcriber.live_settings.wanted_model import WantedModel
from transcriber.logs import RateLimited
from transcriber.schema.admin import Swap

log = logging.getLogger(__name__)

POLL_S = 0.5
FIRST_S = 5.0
"""Seconds that a daemon waits at its start for what the bucket says."""


class Source(Protocol):
    """Where live settings are kept."""

    async def changed(self) -> list[Entry] | None:
        """All that was said, of each key the oldest first; None: nothing has changed since the last call.

        Raises:
            UnansweredError, RefusedError, OSError, ValueError: it cannot be read.
        """
        ...


class BucketSource:
    """A bucket of JetStream's."""

    def __init__(self, bucket: ConfigBucket) -> None:
        self._bucket = bucket

    async def changed(self) -> list[Entry] | None:
        said = await self._bucket.changed()
        return None if said is None else [Entry(*one) for one in said]


class FileSource:
    """A file, TOML, whose tables are parts of keys; it may be replaced, also behind a symbolic link."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: bytes | None = None
        self._said: dict[str, list[Entry]] = {}
        self._revision = 0

    async def changed(self) -> list[Entry] | None:
        """As of any source. What was read before counts as its earlier values."""
        found = self._path.read_bytes()
        if found == self._seen:
            return None
        values = dict(_flat(tomllib.loads(found.decode())))
        self._seen, self._revision = found, self._revision + 1
        for key in values.keys() | self._said.keys():
            said, value = self._said.setdefault(key, []), values.get(key)
            if value is None:
                said.clear()
            elif not said or said[-1].value != value:
                said.append(Entry(key, value, self._revision))
                del said[:-64]
        return [entry for said in self._said.values() for entry in said]


def _flat(table: dict[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Keys and values as text."""
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", str(value)


class SettingsWatch:
    """Event loop only."""

    def __init__(self, source: Source, live: LiveSettings, warnings: RateLimited) -> None:
        self._source, self._live, self._warnings = source, live, warnings

    async def begin(self) -> None:
        """Read it before there is audio; what cannot be read within ``FIRST_S`` is read later."""
        await self._read(FIRST_S)

    async def run(self, swap: Callable[[str], asyncio.Future[Swap]]) -> None:
        """Follow it, until cancelled. ``swap``: as ``WantedModel`` begins one."""
        model = WantedModel(self._live, swap)
        while True:
            model.look()
            await asyncio.sleep(POLL_S)
            await self._read()

    async def _read(self, patience_s: float | None = None) -> None:
        try:
            async with asyncio.timeout(patience_s):
                entries = await self._source.changed()
        except (UnansweredError, RefusedError, OSError, ValueError) as error:
            self._live.unreadable = True
            why = str(error) or "no answer"
            self._warnings.warning("live_settings", "live settings cannot be read, and stay as they are: %s", why)
            return
        if entries is not None:
            await self._live.follow(entries)
        self._live.unreadable = False
