"""Which value of a live setting holds. In: all that a bucket or a file has said, oldest first. Out: the values of a daemon, of a stream.

The same entries give the same values in every daemon, whether it has just begun or not: of each key the latest good value holds, so
a bad one changes nothing. Of several keys a stream's wins over a daemon's, and that over the global one; of several patterns the
more specific.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple

from transcriber.config.live import DAEMON_SETTINGS, STREAM_SETTINGS, Key, parse_key
from transcriber.schema.admin import MAX_SHOWN, LiveSetting


class Entry(NamedTuple):
    """What was said of a key once.

    Attributes:
        value: None: that nothing is to be said of it any more.
        revision: of the bucket, or counted from 1 for a file.
        by: who says so, as stated; empty: not known.
    """

    key: str
    value: str | None
    revision: int
    by: str = ""


class Held(NamedTuple):
    """A good value, and the entry that has it."""

    value: Any
    entry: Entry


class Refused(NamedTuple):
    """The latest entry of a key, and why it changes nothing."""

    entry: Entry
    why: str


Check = Callable[[str, str], Any]
"""Of a setting and its value as text: returns the value, or raises ``ValueError``."""


def by_key(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """What was said of each key, in the order in which it was."""
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        found.setdefault(entry.key, []).append(entry)
    return found


class Layers:
    """What holds now. Never changed once it is made.

    Attributes:
        held: by key, the values for this daemon and for streams.
        refused: by key as it was written.
        revision: of the latest entry.
    """

    def __init__(self, entries: Iterable[Entry], names: Collection[str], check: Check) -> None:
        """``names``: of this daemon; what is for others is theirs to check."""
        entries = list(entries)
        self.revision = max((entry.revision for entry in entries), default=0)
        self.held: dict[Key, Held] = {}
        self.refused: dict[str, Refused] = {}
        self._names = names
        self._of_one: dict[str, list[Key]] = {}
        self._of_some: list[Key] = []
        for text, said in by_key(entries).items():
            self._take(text, said, check)
        for key in self.held:
            # Where there are many keys, most are of one stream: one look-up, not one each.
            if key.scope == "stream" and "=" not in key.name:
                self._of_one.setdefault(key.name, []).append(key)
            else:
                self._of_some.append(key)

    def _take(self, text: str, said: list[Entry], check: Check) -> None:
        if said[-1].value is None:
            return
        try:
            key = parse_key(text)
        except ValueError as error:
            self.refused[text] = Refused(said[-1], str(error))
            return
        if key.scope == "daemon" and not any(map(key.fits, self._names)):
            return
        for entry in reversed(said):
            if entry.value is None:
                return
            try:
                self.held[key] = Held(check(key.setting, entry.value), entry)
            except ValueError as error:
                self.refused.setdefault(text, Refused(entry, str(error)))
            else:
                return

    def listed(self) -> tuple[LiveSetting, ...]:
        """All that holds or is refused, by key."""
        said = [(held.entry, "") for held in self.held.values()] + [
            (one.entry, one.why) for one in self.refused.values()
        ]
        found = [
            LiveSetting(
                key=entry.key, value=(entry.value or "")[:MAX_SHOWN], revision=entry.revision, by=entry.by, refused=why
            )
            for entry, why in said
        ]
        return tuple(sorted(found, key=lambda one: (one.key, one.revision)))

    def of_daemon(self) -> dict[str, Any]:
        """The values of settings that are the daemon's."""
        return {name: held.value for name, held in self._merged(None).items() if name in DAEMON_SETTINGS}

    def of_setting(self, name: str) -> Held | None:
        """What holds of a setting that is the daemon's; None: the environment's value."""
        return self._merged(None).get(name)

    def of_stream(self, name: str) -> dict[str, Any]:
        """The values of settings that are a stream's, of the one called ``name``."""
        return {name: held.value for name, held in self._merged(name).items() if name in STREAM_SETTINGS}

    def _merged(self, stream: str | None) -> dict[str, Held]:
        scopes = {"global": 0, "daemon": 1, "stream": 2}
        fitting = [key for key in self._of_some if key.scope != "stream" or (stream is not None and key.fits(stream))]
        fitting += self._of_one.get(stream, []) if stream is not None else []
        return {key.setting: self.held[key] for key in sorted(fitting, key=lambda key: (scopes[key.scope], key.rank))}
